"""What users do with a store, one command after the other; each command may be ended from outside on the way."""

import json
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from crash_outside.outside import SIGHTS, SYSTEM_CALLS, Moment, Server, system_calls
from support.released_stores import old_store

MOST = {
    "a journal": 6,
    "runs.db-wal": 30,
    "checkpoints.db-wal": 40,
    "bank.db-wal": 20,
    "replies.db": 8,
    "an image": 40,
    "a hidden file": 20,
    "a lock": 2,
    "a database": 5,
    "an output": 2,
}
TRIES = 6
# What a command may end with: done, failed units (or nothing labelled), interrupted.
STATUSES = {0, 1, 3, 130}


@dataclass
class World:
    """A folder with a store in which a story happens.

    Args:
        server: forks the commands.
        folder: working folder; the store is ``store`` in it, outputs are in ``out``.
        prepared: folders that were made once: a finished run's store and its bundle.
        draw: where moments are drawn from; None: nothing is disturbed.
        usual: seconds that each act took undisturbed.
    """

    server: Server
    folder: Path
    prepared: Path
    draw: random.Random | None = None
    usual: list[float] = field(default_factory=list)
    acts: int = 0
    seconds: list[float] = field(default_factory=list)
    kills: Counter = field(default_factory=Counter)
    drains: Counter = field(default_factory=Counter)
    misses: int = 0
    resumes: int = 0
    fixes: int = 0
    stuck: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    # Whether the story ends the same whenever it is told.
    comparable: bool = True

    def __post_init__(self):
        (self.folder / "out").mkdir(parents=True)

    def moment(self):
        """The next moment, drawn; None for none."""
        if self.draw is None or self.draw.random() < 0.15:
            return None
        kinds = ["time"] * 4 + list(SIGHTS) + list(system_calls())
        kind = self.draw.choice(kinds)
        if kind == "time":
            return Moment(kind, self.draw.random(), self.draw.choice([signal.SIGKILL] * 4 + [signal.SIGINT]))
        return Moment(kind, int((MOST | SYSTEM_CALLS)[kind] ** self.draw.random()))

    def start(self, arguments, moment=None):
        self.log.append(f"line {' '.join(map(str, arguments))}   # {moment}")
        usual = self.usual[self.acts] if self.acts < len(self.usual) else 1.0
        return self.server.start(self.folder, [*arguments, "--store", "store"], moment=moment, usual=usual)

    def end(self, command):
        ended = command.wait()
        self.log.append(f"    status {ended.status}, struck {ended.struck}: {ended.err.strip()[-200:]}")
        if ended.struck and command.moment:
            killed = command.moment.signal == signal.SIGKILL
            (self.kills if killed else self.drains)[command.moment.kind if killed else "Ctrl-C"] += 1
        elif command.moment:
            self.misses += 1
        if ended.hung:
            self.stuck.append(f"hangs: {self.log[-2]}")
        elif not ended.struck and ended.status not in STATUSES:
            self.complaints.append(f"{self.log[-2]}: status {ended.status}: {ended.err.strip()[-600:]}")
        if "Traceback" in ended.err:
            self.complaints.append(f"{self.log[-2]}: {ended.err[-2000:]}")
        return ended

    def look(self, *commands):
        """What commands that only look print, run one after the other in one undisturbed process."""
        ended = self.server.run(
            self.folder, *([*command, "--store", "store"] for command in commands), ["--version"]
        )
        if "Traceback" in ended.err or ended.hung:
            self.complaints.append(f"looking with {commands}: {ended.err[-2000:]}")
        return ended.answers()[: len(commands)]

    def rows(self, query, *values):
        """Rows of a copy of runs.db, which itself stays as the last command left it."""
        with tempfile.TemporaryDirectory() as scratch:
            for file in (self.folder / "store").glob("runs.db*"):
                shutil.copy(file, scratch)
            path = Path(scratch, "runs.db")
            if not path.is_file():
                return []
            with closing(sqlite3.connect(path)) as database:
                try:
                    return database.execute(query, values).fetchall()
                except sqlite3.OperationalError:  # killed before its tables were there
                    return []

    def states(self):
        """The state of each run and how many of its units are in which state, by name of the run."""
        units = {}
        for run, status in self.rows("SELECT run, status FROM units"):
            units.setdefault(run, Counter())[status] += 1
        return {
            run: (status, units.get(run, Counter())) for run, status in self.rows("SELECT id, status FROM runs")
        }

    def wishes(self, run, unit):
        return len(self.rows("SELECT id FROM wishes WHERE run = ? AND unit = ?", run, unit))

    def failed(self, run):
        return self.states()[run][1]["failed"]

    def act(self, arguments, done=lambda: False, instead=None):
        """Run a command; where it is ended on the way, do what a user does.

        Args:
            arguments: the command.
            done: whether what was asked for is recorded, so that the command need not be repeated.
            instead: the command that goes on where it is recorded; None: nothing is left to do.
        """
        for _ in range(4):
            ended = self.end(self.start(arguments, self.moment()))
            if not ended.struck:
                break
            self._perhaps_fix()
            if done():
                if instead is None:
                    break
                arguments = instead
        else:
            if instead is not None or not done():
                ended = self.end(self.start(arguments))
        self.acts += 1
        self.seconds.append(ended.seconds)
        return ended

    def _perhaps_fix(self):
        if self.draw.random() < 0.25:
            self.fixes += 1
            for moment in (self.moment(), None):
                ended = self.end(self.start(["doctor", "--fix"], moment))
                if not ended.struck:
                    break

    def settle(self, run, *options):
        """Resume a run until it is finished and nobody is said to work on it, as often as is reasonable."""
        for _ in range(TRIES):
            state, units = self.states().get(run, ("not there", Counter()))
            if state == "finished" and units.keys() == {"finished"} and not self.left(run):
                return
            self.resumes += 1
            self.end(self.start(["resume", run, *options]))
        self.stuck.append(f"run {run} is {self.states().get(run)} after {TRIES} resumes")

    def left(self, run):
        """Wishes that wait, and leases, which a killed process leaves."""
        return self.rows("SELECT id FROM wishes WHERE run = ? AND taken IS NULL", run) + self.rows(
            "SELECT thread FROM leases WHERE run = ?", run
        )

    def new_run(self, arguments, run):
        """A command that makes a run, and the run to its end."""
        self.act(arguments, lambda: run in self.states(), ["resume", run])
        self.settle(run)

    def steer(self, run, unit, *wish):
        before = self.wishes(run, unit)
        self.act(["steer", run, str(unit), *wish], lambda: self.wishes(run, unit) > before)

    def finished_store(self):
        """Begin with a store that has a finished run, RUN."""
        shutil.copytree(self.prepared / "store", self.folder / "store")


RUN = "model-head-1"
BATCH = ("batch", "scripted:model", "head", "--units", "0-3", "-N", "1", "-n", "2")


def batch(world):
    world.new_run([*BATCH, "--seed", "3", "--max-concurrent-units", "2"], RUN)


def batch_with_restart(world):
    world.new_run([*BATCH, "--restarts", "1", "--seed", "4"], RUN)


def revisit(world):
    world.new_run([*BATCH, "--no-revisit", "--seed", "5"], RUN)
    world.act(["revisit", RUN])
    world.settle(RUN)


def retry(world):
    (world.folder / "BROKEN").touch()
    world.act(
        [*BATCH, "--max-consecutive-failures", "9", "--seed", "6"], lambda: RUN in world.states(), ["resume", RUN]
    )
    (world.folder / "BROKEN").unlink()
    if world.failed(RUN):
        world.act(["retry", RUN], lambda: not world.failed(RUN), ["resume", RUN])
    world.settle(RUN)
    if world.failed(RUN):
        world.end(world.start(["retry", RUN]))


def steer_finished(world):
    world.finished_store()
    label = world.rows("SELECT label FROM units WHERE run = ? AND unit = 0", RUN)[0][0]
    world.steer(RUN, 0, "--ban", label)
    world.steer(RUN, 1, "--try", "violin")
    world.steer(RUN, 2, "--again")
    world.act(["resume", RUN])
    world.settle(RUN)


def steer_fork(world):
    world.finished_store()
    fork = "model-head-2"
    world.act(["fork", RUN, "1", "--step", "0", "--seed", "9", "--no-work"], lambda: fork in world.states())
    world.steer(fork, 1, "--try", "violin", "--pin", "class a")
    world.act(["resume", fork])
    world.settle(fork)


def fork(world):
    world.finished_store()
    world.new_run(["fork", RUN, "2", "--step", "0", "--concept", "cello"], "model-head-2")


def import_new(world):
    world.act(["import", str(world.prepared / "bundle.zip")])
    world.act(["revisit", RUN, "--trust"])
    world.settle(RUN, "--trust")


def import_old(world):
    old_store(world.folder / "store", "m002")
    world.act(["doctor", "--fix"])
    world.act(["import", str(world.prepared / "other.zip")])
    world.new_run(["batch", "scripted:third", "head", "--units", "1,4", "-N", "1", "-n", "2"], "third-head-1")


def export(world):
    world.finished_store()
    for form, name in (
        ("csv", "units.csv"),
        ("bundle", "run.zip"),
        ("hf-dataset", "set"),
        ("jsonl", "units.jsonl"),
    ):
        target = world.folder / "out" / name
        arguments = ["export", RUN, "--format", form, "-o", str(target)]
        world.act(arguments, target.exists)


def two_at_once(world):
    """Two batches of one store, ended together."""
    second = "second-head-1"
    both = {RUN: list(BATCH), second: ["batch", "scripted:second", "head", "--units", "2-4", "-N", "1", "-n", "2"]}
    for _ in range(3):
        begun = [world.start(arguments, world.moment()) for arguments in both.values()]
        ended = [world.end(command) for command in begun]
        runs = world.states()
        both |= {run: ["resume", run] for run in both if run in runs}
        if not any(one.struck for one in ended):
            break
    for run, arguments in both.items():
        if run not in world.states():
            world.end(world.start(arguments))
        world.settle(run)


def stop(world):
    """`line stop` from another process while the run is worked on."""
    command = world.start([*BATCH, "--seed", "7"], world.moment())
    if world.draw is not None:
        command.until(world.draw.choice(["an image", "checkpoints.db-wal", "a lock"]), world.draw.randint(1, 5))
        asked = world.server.run(world.folder, ["stop", RUN, "--store", "store"])
        world.log.append(f"    line stop: {asked.status}")
        world.drains["line stop"] += asked.status == 0
    world.end(command)
    if RUN not in world.states():
        world.end(world.start([*BATCH, "--seed", "7"]))
    world.settle(RUN)


def steer_running(world):
    """What is asked while a process works is granted wherever it is by then, and a replay of the run agrees."""
    hold = world.folder / "HOLD"
    hold.touch()
    command = world.start([*BATCH, "--seed", "8"])
    command.until("checkpoints.db-wal", 3)
    for unit, wish in (
        (0, ("--ban", "class a")),
        (1, ("--try", "violin")),
        (2, ("--try", "trumpet")),
        (3, ("--again",)),
    ):
        asked = world.server.run(world.folder, ["steer", RUN, str(unit), *wish, "--store", "store"])
        world.log.append(f"    steer {unit} {wish}: {asked.status} {asked.err}")
    command.moment = world.moment()
    if command.moment and command.moment.kind in SYSTEM_CALLS:
        command.moment = Moment("time", 0.1)
    command.begun = time.monotonic()
    hold.unlink()
    world.end(command)
    world.act(["resume", RUN])
    world.settle(RUN)
    asked = world.rows("SELECT unit, kind, taken IS NOT NULL FROM wishes ORDER BY unit")
    if asked != [(0, "ban", 1), (1, "try", 1), (2, "try", 1), (3, "again", 1)]:
        world.complaints.append(f"wishes: {asked}")
    again = world.server.run(world.folder, ["replay", RUN, "--json", "--store", "store", "--into", "replayed"])
    if not json.loads(again.out)["agrees"]:
        world.complaints.append(f"replay: {again.out}")
    world.comparable = False


STORIES = (
    steer_running,
    batch,
    batch_with_restart,
    revisit,
    retry,
    steer_finished,
    steer_fork,
    fork,
    import_new,
    import_old,
    export,
    two_at_once,
    stop,
)


def prepare(server, folder):
    """A finished run's store, its bundle, and a bundle of a run of another name."""
    world = World(server, folder, folder)
    world.new_run([*BATCH, "--seed", "2"], RUN)
    world.end(world.start(["export", RUN, "--format", "bundle", "-o", str(folder / "bundle.zip")]))
    other = World(server, folder / "elsewhere", folder)
    other.new_run(["batch", "scripted:other", "head", "--units", "0-1", "-N", "1", "-n", "2"], "other-head-1")
    other.end(other.start(["export", "other-head-1", "--format", "bundle", "-o", str(folder / "other.zip")]))
    assert not world.complaints + other.complaints + world.stuck + other.stuck, (
        world.complaints,
        other.complaints,
    )
