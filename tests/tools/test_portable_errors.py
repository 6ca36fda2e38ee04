import importlib
import pickle
import pkgutil

import pytest

from line_neurons import tools
from line_neurons.agent.errors import NotDrawableError, PortableError
from line_neurons.tools.image_bank.plans import NotComposableError
from line_neurons.tools.images.reader import ImageError, UnknownRangeError


def kinds(base):
    return {base, *(kind for child in base.__subclasses__() for kind in kinds(child))}


def test_every_error_that_crosses_a_port_leaves_its_process_with_its_data():
    for module in pkgutil.walk_packages(tools.__path__, f"{tools.__name__}."):
        importlib.import_module(module.name)
    found = kinds(PortableError)
    assert NotComposableError in found
    for kind in found:
        # A class of its own constructor's arguments would fail here, were it called again.
        error = kind.__new__(kind, "what happened")
        error.message, error.remedy, error.images = "what happened", "what to do", ("a1",)
        arrived = pickle.loads(pickle.dumps(error))
        assert (type(arrived), str(arrived), vars(arrived)) == (kind, str(error), vars(error))


@pytest.mark.parametrize(
    "error",
    [
        NotComposableError("two owls", "there is one", [("owl", 0.9)]),
        ImageError("it is truncated", "convert it"),
        UnknownRangeError("its brightness is unknown", "--image-range LOW,HIGH"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_component_leaves_its_process_as_it_was_raised(error):
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))
    assert isinstance(arrived, NotDrawableError | ImageError)
