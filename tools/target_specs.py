"""Specs of vision models as text: sources, files and versions of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

IN_MEMORY = "memory"
"""The prefix of a module that was handed over in Python, and of no file."""

SOURCES: Mapping[str, str] = {
    "torchvision": "torchvision_models.open_torchvision",
    "timm": "timm_models.open_timm",
    "hf": "transformers_models.open_hub",
    "places365": "published_resnet50.open_places365",
    "robust": "published_resnet50.open_robust",
    "keras": "keras_resnet50.open_keras",
    "planted": "planted.models.open_planted",
    IN_MEMORY: "custom.refuse_absent",
}
"""The function of tools/targets that opens the models of each prefix."""

# Identity, start of the hash and version of the weights, as a target's fingerprint has them.
_WEIGHTS = re.compile(r"\S+ weights=([0-9a-f]{16}) \((own\b(?:, transforms of )?)?([\w.-]*)\)")
_HUB_ID = re.compile(r"(hf:[\w.-]+/[\w.-]+)@(.+)")
_COMMIT = re.compile(r"@([0-9a-f]{7})[0-9a-f]{33}$")
_TAGGED = re.compile(r"(timm:[^.\s]+)\.\S+(?= weights=)")
_MARKS = {"torchvision": "@", "timm": ".", "keras": "@"}
"""What stands before the version in the specs of a source."""


def is_custom_function(spec: str) -> bool:
    """Tell whether a spec names a function of the user's own, which is code to be run."""
    prefix, colon, _ = spec.partition(":")
    return bool(colon) and prefix not in SOURCES


def known_prefixes() -> str:
    """List how specs can begin, in words."""
    names = ", ".join(f"{name}:" for name in SOURCES if name != IN_MEMORY)
    return f"{names} as in torchvision:mobilenet_v2, or is MODULE:FUNCTION"


def absolute_spec(spec: str) -> str:
    """Make the path in a spec absolute, so that it names the same model from any folder.

    A module of one file in the current folder becomes that file; other specs stay as they are.
    """
    before, path, after = _placed(spec)
    return f"{before}{path.expanduser().absolute()}{after}" if path else spec


def short_spec(spec: str) -> str:
    """Shorten the path in a spec to the name of its file or folder."""
    before, path, after = _placed(spec)
    return f"{before}{path.expanduser().absolute().name}{after}" if path else spec


def _placed(spec: str) -> tuple[str, Path | None, str]:
    """Split a spec that names a file or folder into prefix, path and suffix."""
    prefix, _, model = spec.partition(":")
    if prefix == "hf" and model and Path(model).expanduser().is_dir():
        return "hf:", Path(model), ""
    place, _, function = spec.rpartition(":")
    if prefix in SOURCES or not place:
        return spec, None, ""
    if place.endswith(".py"):
        return "", Path(place), f":{function}"
    file = Path(f"{place}.py")
    return ("", file, f":{function}") if place.isidentifier() and file.is_file() else (spec, None, "")


def unversioned_spec(spec: str) -> str:
    """Strip the version of the weights, as of ``torchvision:resnet50@...``."""
    if found := _HUB_ID.fullmatch(spec):
        return found[1]
    mark = _MARKS.get(spec.partition(":")[0])
    return spec.partition(mark)[0] if mark else spec


def versioned_spec(spec: str, fingerprint: str) -> str:
    """Add the version of the weights that a target's fingerprint records to a spec.

    Records of earlier versions of the program have specs without one, which may mean another version today. For a
    user's own checkpoint it is the version of its preprocessing.
    """
    mark, found = _MARKS.get(spec.partition(":")[0]), _WEIGHTS.match(fingerprint)
    if not mark or not found or found[3] in {"", "timm"}:
        return spec
    return f"{unversioned_spec(spec)}{mark}{found[3].lower() if spec.startswith('keras:') else found[3]}"


def display_spec(spec: str, fingerprint: str) -> str:
    """Format a target for users, with the version of its weights where that is known.

    A user's own checkpoint is identified by the start of its hash, ``torchvision:resnet50@own-1a2b3c4d``; commits
    of the hub are cut to seven characters.
    """
    found = _WEIGHTS.match(fingerprint)
    if found and found[2] and spec.partition(":")[0] in {*_MARKS, "hf"}:
        return f"{unversioned_spec(spec)}@own-{found[1][:8]}"
    return _COMMIT.sub(r"@\1", versioned_spec(spec, fingerprint))


def canonical_fingerprint(recorded: str) -> str:
    """Convert a recorded fingerprint to its current form."""
    return _TAGGED.sub(r"\1", recorded)
