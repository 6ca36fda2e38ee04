"""Versions of weights in the names of targets: torchvision's entries, timm's tags, commits of the hub."""

from __future__ import annotations

import re

# Identity, start of the hash and version of the weights, as a target's fingerprint has them.
_WEIGHTS = re.compile(r"\S+ weights=([0-9a-f]{16}) \((own\b(?:, transforms of )?)?([\w.-]*)\)")
_HUB_ID = re.compile(r"(hf:[\w.-]+/[\w.-]+)@(.+)")
_COMMIT = re.compile(r"@([0-9a-f]{7})[0-9a-f]{33}$")
_TAGGED = re.compile(r"(timm:[^.\s]+)\.\S+(?= weights=)")
_MARKS = {"torchvision": "@", "timm": ".", "keras": "@"}
"""What stands before the version in the specs of a source."""


def base_of(spec: str) -> str:
    """A spec without the version of its weights: ``torchvision:resnet50`` of ``torchvision:resnet50@...``."""
    if found := _HUB_ID.fullmatch(spec):
        return found[1]
    mark = _MARKS.get(spec.partition(":")[0])
    return spec.partition(mark)[0] if mark else spec


def versioned(spec: str, fingerprint: str) -> str:
    """The spec that opens the version of the weights which a target's fingerprint tells.

    Records of earlier versions of the program have specs without one, which may stand for another version today.
    Of a checkpoint of the user's own the version is that of its preprocessing.
    """
    mark, found = _MARKS.get(spec.partition(":")[0]), _WEIGHTS.match(fingerprint)
    if not mark or not found or found[3] in {"", "timm"}:
        return spec
    return f"{base_of(spec)}{mark}{found[3].lower() if spec.startswith('keras:') else found[3]}"


def shown(spec: str, fingerprint: str) -> str:
    """A target as users are shown it: with the version of its weights where that is known.

    A checkpoint of the user's own is told by the start of its hash, ``torchvision:resnet50@own-1a2b3c4d``; the
    commit of a hub's repository has seven characters.
    """
    found = _WEIGHTS.match(fingerprint)
    if found and found[2] and spec.partition(":")[0] in {*_MARKS, "hf"}:
        return f"{base_of(spec)}@own-{found[1][:8]}"
    return _COMMIT.sub(r"@\1", versioned(spec, fingerprint))


def same_fingerprint(recorded: str) -> str:
    """A target's fingerprint as it is written now: earlier ones of timm have the tag twice if it was named."""
    return _TAGGED.sub(r"\1", recorded)
