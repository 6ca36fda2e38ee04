"""What provenance says of machines, versions and times, in words; any of it may be missing or damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_RECORDED = "not recorded"


def machine_rows(machine: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """A machine as pairs of what and which; None: a run whose machine was not recorded."""
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
    """A time to the second; it is UTC, as in the document."""
    return f"{moment[:10]} {moment[11:19]} UTC" if moment else NOT_RECORDED


def format_versions(versions: Mapping[str, Any] | None) -> str:
    """Packages with their versions, in one line."""
    return ", ".join(f"{name} {number}" for name, number in (versions or {}).items()) or NOT_RECORDED


def mapping_of(value: Any) -> Mapping[str, Any]:
    """A mapping of the store; another program may have written something else there."""
    return value if isinstance(value, dict) else {}


def _gigabytes(size: Any) -> str:
    return f"{size / 1e9:.0f} GB" if isinstance(size, int) else "memory not known"
