import errno
import inspect
import pickle

import pytest

from line_neurons.agent import errors
from line_neurons.agent.errors import (
    AbsentConceptError,
    BackendError,
    BlankImageError,
    BusyError,
    DamagedError,
    DrainedError,
    LineError,
    LostImageError,
    MissingEditError,
    MissingPartError,
    NotDrawableError,
    NoWorkerError,
    PortableError,
    ReplyError,
    StoreError,
    SystemLimitError,
    TakenOverError,
    UneditableError,
    UnfitOutputError,
    UnmeasurableError,
    UsageError,
    is_lasting,
    system_limit,
)


def raised(error, cause=None):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (raised(MemoryError()), "--max-concurrent-units"),
        (raised(RuntimeError("can't start new thread")), "ulimit -u"),
        (raised(BackendError("the forward pass failed"), RuntimeError("can't start new thread")), "ulimit -u"),
        (raised(OSError(errno.EMFILE, "Too many open files")), "ulimit -a"),
    ],
)
def test_a_limit_of_the_system_is_told_with_what_raises_it(error, remedy):
    assert remedy in system_limit(error).remedy


@pytest.mark.parametrize(
    "error",
    [
        raised(ValueError("x")),
        raised(OSError(errno.ENOSPC, "No space left on device")),
        raised(BackendError("no memory for the batch", "try a --batch-size below 5"), MemoryError()),
    ],
)
def test_everything_else_keeps_its_own_words(error):
    assert system_limit(error) is None


PLAIN = (LineError, UsageError, BusyError, MissingPartError, StoreError, DamagedError, TakenOverError,
         BackendError, NoWorkerError, UnfitOutputError, SystemLimitError)  # fmt: skip
EXAMPLES = [
    *(kind("it failed", "repair it") for kind in PLAIN),
    PortableError("it failed"),
    DrainedError("stopped"),
    LostImageError("images are missing", "generate them again", ("a1", "b2")),
    UnmeasurableError("it cannot be decoded", "convert it", index=3),
    ReplyError("concept", "four words", raw="{}", reasoning="because", concept="a big red owl"),
    NotDrawableError("gryphon", [("griffon", 0.41), ("eagle", 0.3)]),
    BlankImageError("owl", "rgb(0, 0, 0)"),
    UneditableError("owl", "the image has no room"),
    AbsentConceptError("owl", "the image shows 'cat'"),
    MissingEditError("owl", "there is no file for it"),
]


def test_every_error_has_an_example():
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert {type(error) for error in EXAMPLES} == kinds


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_leaves_its_process_as_itself_with_its_data(error):
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.args, vars(arrived)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (UsageError("no such layer"), True),
        (UnfitOutputError("the target gave [1] at layer, not [2 images, units]"), True),
        (BusyError("another process works on it"), False),
        (BackendError("no Ollama answers at http://localhost:11434"), False),
        (MissingPartError("the weights of resnet50 are missing"), False),
        (SystemLimitError("there is no memory left"), False),
        (OSError("disk full"), False),
    ],
)
def test_a_failure_lasts_where_only_a_change_of_the_run_can_end_it(error, lasting):
    assert is_lasting(error) is lasting
