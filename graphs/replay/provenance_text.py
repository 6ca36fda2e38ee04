"""Format the machines, versions and times of a provenance document; any of it may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_RECORDED = "not recorded"


def machine_rows(machine: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Format a machine as (name, value) pairs; None: it was not recorded."""
    if machine is None:
        return [("machine", NOT_RECORDED)]
    rows = [
        ("system", f"{machine.get('os')}"),
        ("processor", f"{machine.get('cpu')}, {machine.get('cores')} cores, {_gigabytes(machine.get('memory'))}"),
    ]
    torch = mapping_of(machine.get("torch"))
    gpus = torch.get("gpus")
    rows += [
        (
            "GPU",
            f"{gpu.get('name')}, {_gigabytes(gpu.get('memory'))}, driver {torch.get('driver')}, "
            f"CUDA {torch.get('cuda')}, cuDNN {torch.get('cudnn')}",
        )
        for gpu in map(mapping_of, gpus if isinstance(gpus, list) else ())
    ]
    if torch:
        rows.append(("torch", f"{torch.get('threads')} threads, {torch.get('cpu_capability')}"))
    return rows


def format_moment(moment: str | None) -> str:
    """Format a time in UTC, to the second."""
    return f"{moment[:10]} {moment[11:19]} UTC" if moment else NOT_RECORDED


def format_versions(versions: Mapping[str, Any] | None) -> str:
    """Format packages with their versions in one line."""
    return ", ".join(f"{name} {number}" for name, number in (versions or {}).items()) or NOT_RECORDED


def mapping_of(value: Any) -> Mapping[str, Any]:
    """Return a value of the store if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _gigabytes(size: Any) -> str:
    return f"{size / 1e9:.0f} GB" if isinstance(size, int) else "memory not known"
