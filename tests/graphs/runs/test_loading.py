"""Runs whose components load: the record that tells of them, before any lease does."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.loading import LIBRARIES, PlannedRun, loading, loading_runs
from line_neurons.graphs.runs.phases import loading_component
from line_neurons.tools.store.locks import exclusive_lock
from line_neurons.tools.store.runs import RunStore

FIRST = PlannedRun("net-fc-1", "module:net", "fc", 0, "random")
SECOND = PlannedRun("net-conv-1", "module:net", "conv", 0, "random")


def told(store):
    return {run.planned.run: (run.process, run.phase.what, run.phase.done) for run in loading_runs(store)}


def test_what_a_process_loads_is_told_until_its_runs_have_their_leases(tmp_path):
    with loading(tmp_path, [FIRST, SECOND], LIBRARIES) as record:
        assert told(tmp_path) == dict.fromkeys(("net-fc-1", "net-conv-1"), (os.getpid(), LIBRARIES, 0))
        assert [run.planned for run in loading_runs(tmp_path)] == [FIRST, SECOND]
        record.report("loading generator sdxl, MB downloaded:", 812)
        assert told(tmp_path)["net-fc-1"][1:] == ("loading generator sdxl, MB downloaded:", 812)
        record.leave("net-fc-1")
        record.report("control set", 3, 15)
        assert told(tmp_path) == {"net-conv-1": (os.getpid(), "waiting for net-fc-1", 0)}
        record.leave("net-conv-1")
        assert told(tmp_path) == {}


def test_a_refused_command_leaves_no_store_and_another_one_what_it_made(tmp_path):
    with pytest.raises(UsageError), loading(tmp_path / "new" / "store", [FIRST], LIBRARIES):
        assert told(tmp_path / "new" / "store")
        raise UsageError("no such layer", "name another")
    assert not (tmp_path / "new").exists()
    with loading(tmp_path / "store", [FIRST], LIBRARIES):
        RunStore(tmp_path / "store").close()
    assert (tmp_path / "store" / "runs.db").is_file()
    assert not (tmp_path / "store" / "loading").exists()


def test_a_command_that_loads_nothing_writes_nothing(tmp_path):
    with loading(tmp_path / "store", [], LIBRARIES) as record:
        record.report("installing asset packs")
        assert not (tmp_path / "store").exists()


def test_the_record_of_a_killed_process_is_not_shown_and_removed_by_the_next(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from line_neurons.graphs.runs.loading import PlannedRun, loading\n"
        "with loading(Path(sys.argv[1]), [PlannedRun('a', 'm', 'l', 0, 'x')], 'loading'):\n"
        "    print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert told(tmp_path) == {"a": (process.pid, "loading", 0)}
        process.send_signal(signal.SIGKILL)
    assert told(tmp_path) == {}
    assert len(list((tmp_path / "loading").iterdir())) == 1
    with loading(tmp_path, [FIRST], LIBRARIES):
        assert set(told(tmp_path)) == {"net-fc-1"}
        assert len(list((tmp_path / "loading").iterdir())) == 1


@pytest.mark.parametrize(
    "content", ["", "[", "{}", "[1, [], []]", '["now", ["x", 0, 0, 0, 0, 0], [["a"]]]', "[1,2]"]
)
def test_a_record_that_something_else_wrote_is_no_run(tmp_path, content):
    with loading(tmp_path, [FIRST], LIBRARIES):
        (path,) = (tmp_path / "loading").iterdir()
        path.write_text(content)
        assert loading_runs(tmp_path) == []


def test_a_record_is_written_to_no_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "loading").symlink_to(tmp_path / "elsewhere")
    with loading(tmp_path / "store", [FIRST], LIBRARIES):
        assert loading_runs(tmp_path / "store") == []
        assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_store_is_not_repaired_while_its_runs_load(tmp_path):
    with closing(RunStore(tmp_path)):
        pass
    with loading(tmp_path, [FIRST], LIBRARIES), pytest.raises(UsageError), exclusive_lock(tmp_path):
        pass
    with exclusive_lock(tmp_path), pytest.raises(UsageError, match="repaired"), loading(tmp_path, [FIRST], "x"):
        pass


def test_a_download_is_told_in_megabytes(monkeypatch):
    sizes = iter([5_000_000, 5_000_000, 817_000_000])
    monkeypatch.setattr("line_neurons.graphs.runs.phases.downloaded_bytes", lambda: next(sizes, 817_000_000))
    monkeypatch.setattr("line_neurons.graphs.runs.phases._POLL_SECONDS", 0.01)
    reports = []
    with loading_component(lambda *values: reports.append(values), "generator sdxl", True):
        while len(reports) < 2:
            time.sleep(0.01)
    assert reports[:2] == [
        ("loading generator sdxl", 0, 0), ("loading generator sdxl, MB downloaded:", 812, 0),
    ]  # fmt: skip
