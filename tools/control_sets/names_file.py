"""Files that name the classes of folders: one name per line, or folder and name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.tools.json_text import loads

_MAX_BYTES = 1 << 24
_REMEDY = (
    "give a line 'FOLDER name' for each folder; for folders counted from 0, the names alone in order; "
    "or JSON: a list of names, or an object of them by folder"
)


def read_class_names(file: Path, folders: Sequence[str]) -> dict[str, str]:
    """Read the name of each class folder from a UTF-8 file.

    A text file has ``n01440764 tench, Tinca tinca`` (a comma, tab or blanks between) or a name per line; a JSON
    file ``{"0": ["n01440764", "tench"]}``, ``{"0": "tench"}`` or a list of names. Names alone are those of folders
    that are numbered from 0; or from 1, where the last number is the number of names.

    Raises:
        UsageError: the file cannot be read or fits the folders in none of these ways.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise UsageError(f"the class names {file} are larger than {_MAX_BYTES >> 20} MiB", _REMEDY)
        text = file.read_text("utf-8-sig")
        names = _of_json(loads(text)) if file.suffix.lower() == ".json" else _of_text(text, folders)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"the class names {file} cannot be read: {reason!s:.200}", _REMEDY) from error
    by_folder = names if isinstance(names, dict) else _in_order(file, names, folders)
    found = {folder: by_folder.get(folder) or by_folder.get(_number(folder), "") for folder in folders}
    if nameless := [folder for folder, name in found.items() if not name.strip()]:
        raise UsageError(f"{file} has no name for the folder {nameless[0]!r:.80}", _REMEDY)
    return found


def _of_json(content: Any) -> dict[str, str] | list[str]:
    match content:
        case list() if all(isinstance(name, str) for name in content):
            return list(content)
        case dict():
            return {str(folder): _last(name) for folder, name in content.items()}
    raise ValueError("it is neither a list of names nor an object of them by folder")


def _last(name: Any) -> str:
    """Return a name, or the last of a list as in ``["n01440764", "tench"]``."""
    match name:
        case str() | [*_, str()]:
            return name if isinstance(name, str) else str(name[-1])
    raise ValueError(f"{name!r:.80} is no name")


def _of_text(text: str, folders: Iterable[str]) -> dict[str, str] | list[str]:
    """Map folders to names if each folder begins a line; else return the lines in order."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    parted = [re.split(r"\s*[,\t]\s*|\s+", line, maxsplit=1) for line in lines]
    named = {cells[0]: cells[1].strip('"') for cells in parted if len(cells) > 1}
    numbers = {_number(folder) for folder in named}
    if all(folder in named or _number(folder) in numbers - {""} for folder in folders):
        return {**{_number(folder): name for folder, name in named.items()}, **named}
    return lines


def _in_order(file: Path, names: Sequence[str], folders: Sequence[str]) -> dict[str, str]:
    numbers = [int(folder) for folder in folders if _number(folder)]
    if len(numbers) < len(folders):
        raise UsageError(f"{file} has names in an order, and not all folders are numbers", _REMEDY)
    first = 0 if 0 in numbers else 1
    if max(numbers) >= len(names) + first or (first and max(numbers) != len(names)):
        raise UsageError(
            f"{file} has {len(names)} names, and the folders count from {min(numbers)} to {max(numbers)}", _REMEDY
        )
    return {str(number): names[number - first] for number in numbers}


def _number(folder: str) -> str:
    """Return the number in a folder's name, without leading zeros; empty if it is none."""
    return str(int(folder)) if is_number(folder) else ""


def is_number(folder: str) -> bool:
    """Tell whether a folder's name is a number, which names no class."""
    return folder.isascii() and folder.isdecimal() and len(folder) <= 18
