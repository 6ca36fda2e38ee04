import pytest

from line_neurons.tools import target_specs
from line_neurons.tools.target_specs import SOURCES, is_custom_function


@pytest.mark.parametrize("prefix", SOURCES)
def test_a_model_of_a_known_source_is_no_code_of_the_users_own(prefix):
    assert not is_custom_function(f"{prefix}:model")


@pytest.mark.parametrize("spec", ["my_models:make", "models.py:make", "package.module:make"])
def test_a_function_of_the_users_own_is_code_to_be_run(spec):
    assert is_custom_function(spec)


def test_a_source_that_is_added_is_no_code_of_the_users_own(monkeypatch):
    assert is_custom_function("openclip:ViT-B-32")
    monkeypatch.setattr(target_specs, "SOURCES", {**SOURCES, "openclip": "openclip.open_openclip"})
    assert not is_custom_function("openclip:ViT-B-32")


def test_what_names_no_source_is_not_code():
    assert not is_custom_function("resnet50")
