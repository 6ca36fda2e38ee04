"""Measure batches: ``python -m line_neurons.eval.benchmarks.batch PART``.

Each part prints the figures of one run, a line each, with the number of things measured. The reference is the same
loop as the public implementations run it: one unit at a time, everything generated again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from line_neurons.agent.errors import LineError
from line_neurons.eval.benchmarks import (
    busy_generator,
    busy_workers,
    control_images,
    gpu_batch,
    graph_steps,
    image_path,
    patience_cost,
    wall_time,
)
from line_neurons.eval.benchmarks import generated_images as drawn_images
from line_neurons.eval.benchmarks.metering import show

PARTS = {
    "images": drawn_images,
    "wall": wall_time,
    "busy": busy_generator,
    "workers": busy_workers,
    "steps": graph_steps,
    "patience": patience_cost,
    "gpu": gpu_batch,
    "path": image_path,
    "control": control_images,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one part and print; status 2 after a user's error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    for name, module in PARTS.items():
        summary = (module.__doc__ or "").partition(": ")[2].strip()
        part = parts.add_parser(name, help=summary, description=summary)
        module.add_arguments(part)
        part.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args(arguments)
    try:
        show(PARTS[options.part].measure(options), options.json)
    except LineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
