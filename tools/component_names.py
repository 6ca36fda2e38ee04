"""Check the names of components before anything is loaded: neither torch nor code of the user runs."""

from __future__ import annotations

from line_neurons.agent.settings import Settings
from line_neurons.tools.control_sets.registry import check_control_set
from line_neurons.tools.generators.presets import check_generator
from line_neurons.tools.language_models.registry import check_language_model
from line_neurons.tools.targets.model_names import check_model


def check_names(settings: Settings, model: str | None = None) -> None:
    """Check the names of language model, generator, control set and vision model.

    Raises:
        UsageError: one is no name of a component.
    """
    if model is not None:
        check_model(model)
    check_language_model(settings.llm)
    check_generator(settings.generator)
    if settings.control not in {None, "none", "bank"}:
        check_control_set(str(settings.control))
