"""Word lists that a first board can be drawn from."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.errors import MissingPartError, UsageError


def read_words(path: Path | None) -> tuple[str, ...]:
    """The concepts of a word list, each once, in its order; ImageNet-1K's class names if None.

    Args:
        path: a UTF-8 text file with one concept a line; empty lines do not count.

    Raises:
        UsageError: the file cannot be read or names nothing.
        MissingPartError: no file is given, and torchvision, which carries the class names, is not installed.
    """
    if path is None:
        return imagenet_words()
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"the word list {path} cannot be read: {reason}", "name a text file, a word a line"
        ) from None
    words = _once(lines)
    if not words:
        raise UsageError(f"the word list {path} names nothing", "write one concept a line")
    return words


def imagenet_words() -> tuple[str, ...]:
    """ImageNet-1K's class names as concepts.

    Raises:
        MissingPartError: torchvision, which carries them, is not installed.
    """
    return _once(imagenet_classes())


def imagenet_classes() -> list[str]:
    """ImageNet-1K's class names as torchvision's models have them, in the order of their indices.

    Raises:
        MissingPartError: torchvision, which carries them, is not installed.
    """
    try:
        from torchvision.models import get_model_weights
    except (ImportError, RuntimeError) as error:
        raise MissingPartError(
            "ImageNet's class names come with torchvision, which cannot be used here",
            "pip install 'line-neurons[torch]', or name a word list with --vocabulary",
        ) from error
    return list(get_model_weights("resnet50")["DEFAULT"].meta["categories"])


def _once(names: list[str]) -> tuple[str, ...]:
    words: dict[str, str] = {}
    for name in names:
        word = class_concept(name)
        if word:
            words.setdefault(concept_key(word), word)
    return tuple(words.values())
