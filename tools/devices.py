"""Torch devices, and the hardware and library versions that a run records."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from line_neurons.agent.errors import UsageError, reason_of
from line_neurons.tools.parallel import SharedChange

if TYPE_CHECKING:
    import torch

    from line_neurons.agent.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")

_MEMORY_SPENT = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def find_device(name: str) -> torch.device:
    """Return the torch device of that name; ``auto`` is CUDA where available.

    Raises:
        UsageError: the device cannot be used here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"the device {name!r} cannot be used: {reason_of(error)}", "auto or cpu") from error
    return device


def idle_gpus(settings: Settings) -> str:
    """Say how many of several visible GPUs a run leaves idle; empty if none, or if workers use them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = {settings.generator_device or settings.device, settings.target_device or settings.device}
    used = {"cuda:0" if name in {"auto", "cuda"} else name for name in names} - {"cpu"}
    if count < 2 or not used or settings.uses_workers or len(used) == count:
        return ""
    return f"{count - len(used)} of {count} GPUs are not used; --devices all uses them"


def _save_switches() -> Callable[[], None]:
    """Return what sets torch's switches back to their present values."""
    import torch

    backends: Any = torch.backends
    cudnn = backends.cudnn
    switches = [(cudnn, name) for name in ("enabled", "benchmark", "deterministic")]
    try:
        tf32, precision = cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:
        # Torch does not answer for these where the user has set the newer switches.
        tf32, precision = None, None
        newer = (cudnn.conv, cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul)
        switches += [(place, "fp32_precision") for place in newer]
    before = [(place, name, getattr(place, name)) for place, name in switches]

    def restore() -> None:
        if precision is not None:
            cudnn.allow_tf32 = tf32
            torch.set_float32_matmul_precision(precision)
        for place, name, value in before:
            setattr(place, name, value)

    return restore


def _set_switches() -> None:
    import torch

    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = True, False, True, False
    torch.set_float32_matmul_precision("highest")


_EXACT = SharedChange(_save_switches, _set_switches, lambda restore: restore())


def deterministic_arithmetic() -> AbstractContextManager[None]:
    """Let torch compute the same bits each time on a GPU, until the body ends.

    That is: no TF32, and no benchmarking of algorithms. These switches are the process's, and generator and target
    compute at the same time in threads of their own. So all of them compute under this one setting: the first to
    begin makes it and the last to end takes it back. No computation sees other switches, and the user's own code
    finds them as they were.
    """
    return _EXACT.applied()


@cache
def _openmp() -> ctypes.CDLL | None:
    """Return the library by which torch shares an operation among cores, if it can be found."""
    import torch

    # Of several such libraries in a process torch's own is the one beside it.
    found = sorted((Path(torch.__file__).parent / "lib").glob("lib*omp*.so*"))
    with suppress(OSError):
        library = ctypes.CDLL(str(found[0])) if found else None
        return library if hasattr(library, "omp_set_num_threads") else None
    return None


def single_core(work: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """Let torch compute on one core in the threads that call ``work``, several of which work side by side.

    Each would else share its operations among all cores: on two cores the normalisation of an image took twelve
    times as much. ``torch.set_num_threads`` would alter all threads that begin later, and so the last bits of
    forward passes.
    """
    import torch

    def on_one_core(item: Item) -> Result:
        # Asked first: it is what sets the number of a new thread.
        if torch.get_num_threads() > 1 and (library := _openmp()):
            library.omp_set_num_threads(1)
        return work(item)

    return on_one_core


def default_batch(device: str) -> int:
    """Return the images of a forward pass on a kind of device: 5 on ``cpu``, else 32.

    1 on a CPU where an image's place in a batch would alter the last bits of its activations.
    """
    # A CPU is as fast with a few images as with many, and five are one concept's; a GPU wants more.
    if device != "cpu":
        return 32
    return 5 if rows_are_independent() else 1


@cache
def rows_are_independent() -> bool:
    """Tell whether a CPU gives equal rows of a matrix product the same bits, wherever they are.

    On some processors it does only with ``MKL_CBWR`` set, see ``tools``: too late where the program has computed
    with torch before it imported this package.
    """
    import torch

    row, weights = torch.arange(1280.0).cos()[None], torch.arange(1_280_000.0).sin().reshape(1000, 1280)
    products = (torch.nn.functional.linear(row.expand(count, -1).contiguous(), weights) for count in (5, 15, 25))
    return all(bool((product == product[0]).all()) for product in products)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an exception means that memory ran out, on a GPU or on the CPU."""
    import torch

    said = str(error).lower()
    named = isinstance(error, RuntimeError) and any(words in said for words in _MEMORY_SPENT)
    return named or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def machine() -> dict[str, Any]:
    """Describe this machine as JSON values, without host and user names.

    Returns:
        ``os``, ``architecture``, ``cpu`` (model), ``cores`` (that this process may use), ``memory`` (bytes), and
        ``torch``: ``threads``, ``cpu_capability``, ``cuda``, ``cudnn``, ``driver`` and ``gpus`` (name, memory in
        bytes, compute capability), or None where nothing is computed with torch. Unknown values are None.
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
    """Return the version of NVIDIA's kernel module."""
    try:
        found = re.search(
            r"\b\d+\.\d+(\.\d+)?\b", Path("/proc/driver/nvidia/version").read_text("utf-8", "replace")
        )
    except OSError:
        return None
    return found[0] if found else None
