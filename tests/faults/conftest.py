import sys
from pathlib import Path

import pytest

from line_neurons.graphs.runs import work

sys.path.insert(0, str(Path(__file__).parent))

from whole_runs import begun, outcome


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """What the run of ``whole_runs`` finds when nothing disturbs it."""
    parts, run = begun(tmp_path_factory.mktemp("undisturbed"))
    work(parts, run)
    return outcome(parts, run)
