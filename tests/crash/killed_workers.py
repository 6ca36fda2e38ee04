"""Kill workers and drivers of batches again and again: ``python -m crash.killed_workers KILLS``."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.label_marks import DONE
from support.fakes import LAYER, outcome
from support.workers import ScriptedRecipe, in_process, with_workers

TESTS = Path(__file__).parents[1]
CODE = TESTS.parent / "typings"
WORKERS = 2


def workers_of(driver: int) -> list[int]:
    """The children of a process, whichever of its threads started them."""
    found: list[int] = []
    for children in Path(f"/proc/{driver}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, children.read_text().split())
    return found


def is_alive(process: int) -> bool:
    """Whether a process is there and no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def drive(store: Path) -> None:
    """Begin or go on with the batch, as a driver that is killed."""
    components = with_workers(store, WORKERS, ScriptedRecipe(seconds=0.01))
    with closing(components):
        runs = components.runs.runs()
        work(components, runs[0] if runs else start(components, LAYER, ["all"]))


def driver(store: Path) -> subprocess.Popen:
    """A process that drives the batch."""
    path = os.pathsep.join([str(CODE), str(TESTS)])
    return subprocess.Popen(
        [sys.executable, "-m", "crash.killed_workers", str(store)],
        env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE,
    )  # fmt: skip


def batch(store: Path, kills: int, chance: random.Random, *, before: int, every: int) -> tuple[int, int]:
    """Kill workers, and of ``every`` kills one of the driver, until the batch has ended; kills of either."""
    done = [0, 0]
    process = driver(store)
    while process.poll() is None:
        time.sleep(chance.uniform(0.2, 1.5))
        children = workers_of(process.pid)
        if not children or sum(done) >= kills:
            continue
        if (before + sum(done)) % every == every - 1:
            process.kill()
            process.wait()
            done[1] += 1
            until = time.monotonic() + 10
            while any(map(is_alive, children)):
                assert time.monotonic() < until, "workers outlived their driver"
                time.sleep(0.05)
            process = driver(store)
        else:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(children), signal.SIGKILL)
                done[0] += 1
    assert process.returncode == 0, process.stderr.read().decode()[-2000:]
    return done[0], done[1]


def ended(components) -> tuple:
    """What the only run of a store ended with."""
    (run,) = components.runs.runs()
    assert run.status == "finished" and all(unit.status in DONE for unit in components.runs.units(run.id))
    return outcome(components, run.id)


def campaign(root: Path, kills: int, *, every: int, seed: int = 0) -> tuple[int, int]:
    """Kill as often as named, in as many stores as that takes, each compared with an undisturbed one."""
    chance = random.Random(seed)
    plain = in_process(root / "plain")
    work(plain, start(plain, LAYER, ["all"]))
    workers = killed = 0
    for number in range(kills):
        store = root / str(number)
        before = workers + killed
        of_workers, of_drivers = batch(store, kills - before, chance, before=before, every=every)
        workers, killed = workers + of_workers, killed + of_drivers
        assert ended(in_process(store)) == ended(plain), f"store {store} differs"
        if workers + killed >= kills:
            break
    return workers, killed


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
