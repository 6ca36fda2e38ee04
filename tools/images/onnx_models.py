"""Networks in ONNX files, run on a CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import BackendError, MissingPartError, reason_of
from line_neurons.tools.packages import required_package


def open_onnx(path: Path, remedy: str) -> Any:
    """Open a network as a session of onnxruntime.

    Args:
        remedy: how the file is installed.

    Raises:
        MissingPartError: the file or onnxruntime is missing.
        BackendError: the file cannot be read.
    """
    if not path.is_file():
        raise MissingPartError(f"{path.name} is not installed in {path.parent}", remedy)
    with required_package("onnxruntime", "edits", needed=f"{path.name} needs"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    # Threads that wait by counting take the cores of the target.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BackendError(f"{path} cannot be opened: {reason_of(error)}", remedy) from error
