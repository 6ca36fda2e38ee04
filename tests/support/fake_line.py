"""The `line` command around instant scripted engines, as a program: ``python scripted_line.py batch ...``.

Everything but target, generator, control set and language model is real: settings, store, checkpoints, leases,
signals. No image is generated while the file that LINE_TEST_HOLD names is there; a file beside it, ``.reached``,
tells that one is waited for.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from line_neurons.graphs.runs import preflight
from line_neurons.graphs.runs.components import Components
from line_neurons.tui.cli import run
from line_neurons.tui.cli.main import main
from support.fakes import ScriptedControl, ScriptedGenerator, ScriptedModel, ScriptedTarget

HOLD = Path(os.environ.get("LINE_TEST_HOLD", "no such file"))


class Generator(ScriptedGenerator):
    def synthesize(self, requests, progress=None):
        while HOLD.is_file():
            HOLD.with_suffix(".reached").touch()
            time.sleep(0.02)
        return super().synthesize(requests, progress)


PARTS = {
    "target": ScriptedTarget(),
    "generator": Generator(),
    "control_set": ScriptedControl(tuple(f"class {letter}" for letter in "abcdefghijkl")),
    "language_model": ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}"),
}

if __name__ == "__main__":
    for name, part in PARTS.items():
        setattr(Components, name, property(lambda components, part=part: part))
    # The names stand for the scripted parts.
    run.check_names = lambda settings, model=None: None
    # Nor is there an architecture to look the layer up in, for which torch would be loaded.
    preflight.module_paths = lambda model: ()
    sys.argv[0] = "line"
    main()
