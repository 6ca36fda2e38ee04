"""Word lists for initial scoreboards."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.tools.packages import missing_package, pip_install


def read_words(path: Path | None) -> tuple[str, ...]:
    """Read the distinct concepts of a word list; ImageNet-1K's classes if None.

    Raises:
        UsageError: the file cannot be read or names nothing.
        MissingPartError: no file is given, and torchvision, which has the class names, is not installed.
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
    """Return ImageNet-1K's class names as concepts.

    Raises:
        MissingPartError: torchvision, which has them, is not installed.
    """
    return _once(imagenet_classes())


def imagenet_classes() -> list[str]:
    """Return ImageNet-1K's class names as torchvision has them, in the order of their indices.

    Raises:
        MissingPartError: torchvision is not installed.
    """
    try:
        from torchvision.models import get_model_weights
    except (ImportError, RuntimeError) as error:
        raise missing_package(
            error,
            "torchvision",
            f"{pip_install('torch')}, or give the names in a file",
            needed="ImageNet's class names need",
        ) from error
    return list(get_model_weights("resnet50")["DEFAULT"].meta["categories"])


def _once(names: list[str]) -> tuple[str, ...]:
    words: dict[str, str] = {}
    for name in names:
        word = class_concept(name)
        if word:
            words.setdefault(concept_key(word), word)
    return tuple(words.values())
