"""The machine that a run is worked on, as far as it decides what comes out and what that costs."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What this machine is, as JSON values; no name of it and of no user.

    Returns:
        ``os``, ``architecture``, ``cpu`` (model), ``cores`` (that this process may use), ``memory`` (bytes), and
        ``torch``: ``threads``, ``cpu_capability``, ``cuda``, ``cudnn``, ``driver`` and ``gpus`` (name, memory in
        bytes, compute capability), or None where nothing is computed with torch. What cannot be found out is None.
    """
    return {
        "os": platform.platform(),
        "architecture": platform.machine(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "torch": _torch(),
    }


def _cpu() -> str | None:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8", "replace"), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None


def _torch() -> dict[str, Any] | None:
    # Parts that compute with it have imported it; for others nobody waits until it is.
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    # Asking for what it is would take memory on a GPU that is not in use.
    used = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    gpus = [torch.cuda.get_device_properties(index) for index in used]
    return {
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda if gpus else None,
        "cudnn": torch.backends.cudnn.version() if gpus else None,
        "driver": _driver() if gpus else None,
        "gpus": [
            {"name": gpu.name, "memory": gpu.total_memory, "capability": f"{gpu.major}.{gpu.minor}"}
            for gpu in gpus
        ],
    }


def _driver() -> str | None:
    """Version of NVIDIA's kernel module."""
    try:
        found = re.search(
            r"\b\d+\.\d+(\.\d+)?\b", Path("/proc/driver/nvidia/version").read_text("utf-8", "replace")
        )
    except OSError:
        return None
    return found[0] if found else None
