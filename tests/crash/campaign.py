"""Kill a batch again and again, go on each time, and compare what it ends with."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sqlite_utils import Database

from crash.kill_points import PLACES
from crash.nursery import Nursery
from line_neurons.tools.doctor import store as store_check
from line_neurons.tools.doctor.repair import repair
from line_neurons.tools.store.schema import SCHEMA

# What an interrupted run may leave for the next process to take up.
_IN_HAND = {
    "run interrupted", "unit interrupted", "lease left behind", "leftover", "image without a row",
    "control without a row",
}  # fmt: skip
_WITHOUT = {"created", "finished", "seconds", "taken"}


def _joined(problem):
    """Whether a control set was being joined: its chunks' files go first, their rows tell a resume which."""
    return problem.kind == "control without a file" and all("\nchunk " in key for key, *_ in problem.items)


@dataclass
class Figures:
    """What a series of kills came to."""

    kills: Counter[str] = field(default_factory=Counter)
    drains: int = 0
    resumes: int = 0
    stores: int = 0
    mended: int = 0
    drawn: int = 0
    drawn_twice: int = 0
    in_hand: int = 0
    most_in_hand: int = 0
    asked_twice: int = 0
    left_by_kills: Counter[str] = field(default_factory=Counter)

    def __str__(self):
        width = max(map(len, self.kills), default=0)
        return "\n".join(
            [
                *(f"{place:{width}}  {count:4d}" for place, count in sorted(self.kills.items())),
                f"{'kills':{width}}  {self.kills.total():4d}, drains as by Ctrl-C {self.drains}, "
                f"resumes {self.resumes}, stores {self.stores}, "
                f"mended by --fix in between {self.mended}",
                f"images drawn {self.drawn}, drawn twice {self.drawn_twice}; in hand at a kill {self.in_hand} "
                f"in all, {self.most_in_hand} at most; questions asked twice {self.asked_twice}",
                "left behind by kills, before the resume: "
                + (", ".join(f"{what} {n}" for what, n in sorted(self.left_by_kills.items())) or "nothing"),
                "differences from the undisturbed run: 0; found by the check of the store at the end: 0",
            ]
        )


class Campaign:
    """Kills of batches in stores of their own, each compared with an undisturbed one in ``root``."""

    def __init__(self, root: Path, nursery: Nursery) -> None:
        self.root = root
        self.figures = Figures()
        self._nursery = nursery
        whole = Story(root / "undisturbed", nursery)
        whole.finish()
        self.expected = evidence(whole.store)
        done = whole.lines()[-1]
        self.seconds, self.calls = done["seconds"], Counter(done["calls"])

    def story(self, name: str, *, older: bool = False) -> Story:
        """A store of its own; with ``older`` the run is as the first version would have begun it."""
        story = Story(self.root / name, self._nursery)
        if older:
            assert self._nursery.do(store=str(story.store), log=str(story.log), only_start=True) == 0
            of_the_first_schema(story.store)
            story.older = True
        self.figures.stores += 1
        return story

    @cached_property
    def steered(self) -> dict[str, object]:
        """What a store holds where units were steered after the end, and the run finished once more."""
        story = self.story("steered-undisturbed")
        story.finish()
        story.steer()
        shutil.copytree(story.root, self.root / "steered")
        story.finish()
        self.steered_calls = Counter(story.lines()[-1]["calls"]).total()
        return evidence(story.store)

    def steered_story(self, name: str) -> Story:
        """A store of its own, in which units of a finished run were steered."""
        assert self.steered != self.expected
        shutil.copytree(self.root / "steered", self.root / name)
        self.figures.stores += 1
        return Story(self.root / name, self._nursery, steered=True)

    def end(self, story: Story) -> None:
        """Finish a batch and see that it ended as the undisturbed one, with nothing left over."""
        figures = self.figures
        story.finish()
        figures.resumes += story.resumes
        figures.drains += story.drains
        expected = self.steered if story.steered else self.expected
        assert evidence(story.store) == (begun_before(expected) if story.older else expected)
        assert store_check.check(story.store, deep=True) == []
        figures.kills.update(story.kills)
        figures.mended += story.mended
        drawn = [tuple(image) for line in story.lines() if (image := line.get("begun"))]
        figures.drawn += len(drawn)
        figures.drawn_twice += len(drawn) - len(set(drawn))
        asked = [line["asked"] for line in story.lines() if "asked" in line]
        figures.asked_twice += len(asked) - len(set(asked))
        figures.in_hand += sum(story.in_hand)
        figures.most_in_hand = max([figures.most_in_hand, *story.in_hand])
        figures.left_by_kills.update(story.left)
        shutil.rmtree(story.store)

    def random_kill(self, story: Story, rng: random.Random) -> bool:
        """Kill at a random place, at a random call of any place, or from outside at a random time."""
        kind = rng.choice(["place", "call", "time"])
        if kind == "place":
            place = rng.choice(PLACES)
            return story.kill(place, rng.randint(1, max(1, self.calls[place] // 2)))
        if kind == "call":
            return story.kill(None, rng.randint(1, self.calls.total() // 2))
        return story.kill_from_outside(rng.uniform(0, self.seconds))


class Story:
    """One store, and the processes that work on it one after another."""

    def __init__(self, root: Path, nursery: Nursery, *, steered: bool = False) -> None:
        root.mkdir(exist_ok=steered)
        self.root = root
        self.store = root / "store"
        self.log = root / "log"
        self.kills: list[str] = []
        self.in_hand: list[int] = []
        self.left: Counter[str] = Counter()
        self.resumes = 0
        self.mended = 0
        self.drains = 0
        self.older = False
        self.steered = steered
        self._nursery = nursery
        self._job = {"store": str(self.store), "log": str(self.log)}
        self._here = images(self.store) if steered else set()

    def kill(self, place: str | None, call: int) -> bool:
        """Work on the batch until it kills itself there; False if it finished before it came there."""
        read = len(self.lines())
        status = self._nursery.do(**self._job, place=place, call=call)
        self._ended(read, status)
        if status == 0:
            return False
        died = [line["killed"] for line in self.lines()[read:] if "killed" in line]
        assert len(died) == 1
        self._killed(place or "a random call of any place")
        return True

    def steer(self) -> None:
        """Ask something of units that have their labels."""
        labels = {row["unit"]: row["label"] for row in _rows(self.store / "runs.db", "units")}
        asked = [(0, "ban", labels[0]), (1, "again", ""), (2, "try", "thing 99"), (3, "ban", labels[3]),
                 (3, "again", ""), (4, "pin", labels[4])]  # fmt: skip
        assert self._nursery.do(**self._job, ask=asked) == 0
        self.steered = True

    def drain(self, call: int) -> bool:
        """Work on the batch until it is asked to stop, at a call of any place; False if it finished before."""
        read = len(self.lines())
        status = self._nursery.do(**self._job, call=call, drained=True)
        self._ended(read, status)
        drained = any("drained" in line for line in self.lines()[read:])
        self.drains += drained
        return drained

    def kill_from_outside(self, seconds: float) -> bool:
        """Kill the batch after some time; False if it finished before."""
        read = len(self.lines())
        child = self._nursery.start(**self._job)
        time.sleep(seconds)
        # It may have ended by itself.
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = self._nursery.wait()
        self._ended(read, status)
        if status == 0:
            return False
        self._killed("from outside, at a random time")
        return True

    def repair(self) -> None:
        """Let the check of the store mend what the kill left."""
        assert repair(self.store, deep=True) == []
        assert store_check.check(self.store, deep=True) == []
        self.mended += 1

    def finish(self) -> None:
        """Work on the batch until it is done."""
        read = len(self.lines())
        status = self._nursery.do(**self._job)
        self._ended(read, status)
        assert status == 0
        assert [line["status"] for line in self.lines()[read:] if "status" in line] == ["finished"]

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def _killed(self, place: str) -> None:
        self.kills.append(place)
        if self.store.exists():
            problems = store_check.check(self.store, deep=True)
            found = Counter(problem.kind for problem in problems)
            assert not found.keys() - _IN_HAND - {problem.kind for problem in problems if _joined(problem)}, found
            self.left += found

    def _ended(self, read: int, status: int) -> None:
        """A process drew nothing that was there before it began."""
        lines = self.lines()[read:]
        assert not [line for line in lines if "bug" in line or "refused" in line]
        assert status in {0, -signal.SIGKILL}
        begun = [tuple(line["begun"]) for line in lines if "begun" in line]
        assert not self._here & set(begun)
        assert len(begun) == len(set(begun))
        self.resumes += bool(self.kills)
        self._here = images(self.store)
        self.in_hand.append(len(set(begun) - self._here))


def images(store: Path) -> set[tuple[str, int]]:
    """Prompt and seed of the images whose row and file are there."""
    here = {path.stem for path in (store / "images").rglob("[!.]*.png")}
    rows = _rows(store / "bank.db", "draws")
    return {(row["prompt"], row["seed"]) for row in rows if row["image"] in here}


def evidence(store: Path) -> dict[str, object]:
    """All that a store holds but for times: rows of every table, images."""
    files = {"runs.db": ("runs", "units", "steps", "wishes"), "bank.db": ("draws", "activations", "controls"),
             "replies.db": ("full_llm_cache",)}  # fmt: skip
    found: dict[str, object] = {
        f"{file} {table}": sorted(
            json.dumps({name: str(value) for name, value in row.items() if name not in _WITHOUT})
            for row in _rows(store / file, table)
        )
        for file, tables in files.items()
        for table in tables
    }
    found["pictures"] = {path.name: path.read_bytes() for path in (store / "images").rglob("*") if path.is_file()}
    found["controls"] = sorted(path.name for path in (store / "controls").iterdir())
    return found


def begun_before(expected: dict[str, object]) -> dict[str, object]:
    """The evidence of a run that the first version began: it did not record the classes of the control set."""
    runs = [json.dumps({**json.loads(row), "vocabulary": "None"}) for row in expected["runs.db runs"]]
    return {**expected, "runs.db runs": sorted(runs)}


def _rows(path: Path, table: str) -> list[dict]:
    if not path.exists():
        return []
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        database.row_factory = sqlite3.Row
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone():
            return []
        return [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
    finally:
        database.close()


def of_the_first_schema(store: Path) -> None:
    """Put in place of ``runs.db`` what the first version would have written at the start of the run."""
    path = store / "runs.db"
    newer = {table: _rows(path, table) for table in ("runs", "units", "steps", "events")}
    for file in store.glob("runs.db*"):
        file.unlink()
    older = Database(path)
    SCHEMA.apply(older, stop_before=SCHEMA.pending(Database(memory=True))[1].name)
    for table, rows in newer.items():
        columns = older[table].columns_dict
        older[table].insert_all([{name: row[name] for name in columns} for row in rows])
    older.close()
