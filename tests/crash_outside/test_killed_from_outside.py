"""Commands that are ended from outside, in varied stories: the store ends as that of the undisturbed story.

LINE_KILLS says how many kills; LINE_KILL_SEED where the moments are drawn from.
"""

import os
import random
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field

import pytest

from crash_outside.outside import serving
from crash_outside.stories import STORIES, World, prepare
from crash_outside.visible import differences, visible

KILLS = int(os.environ.get("LINE_KILLS", "4"))
SEED = int(os.environ.get("LINE_KILL_SEED", "1"))


@dataclass
class Table:
    """What came of the kills, by story and by moment."""

    stories: Counter = field(default_factory=Counter)
    kills: Counter = field(default_factory=Counter)
    moments: Counter = field(default_factory=Counter)
    found: dict[str, list[str]] = field(
        default_factory=lambda: {"differences": [], "stuck": [], "doctor": [], "complaints": []}
    )
    drains: Counter = field(default_factory=Counter)
    misses: int = 0
    resumes: int = 0
    fixes: int = 0

    def add(self, story, world, differing, problems):
        self.stories[story] += 1
        self.kills[story] += world.kills.total()
        self.moments += world.kills
        self.drains += world.drains
        self.misses += world.misses
        self.resumes += world.resumes
        self.fixes += world.fixes
        for kind, lines in zip(self.found, (differing, world.stuck, problems, world.complaints), strict=True):
            self.found[kind] += [f"{world.folder.name}: {line}" for line in lines]

    def __str__(self):
        counts = ", ".join(f"{kind} {len(lines)}" for kind, lines in self.found.items())
        return "\n".join(
            [
                f"kills {self.kills.total()} in {self.stories.total()} stories; drains {dict(self.drains)}",
                f"moments that did not come {self.misses}; resumes to the end {self.resumes};"
                f" --fix in between {self.fixes}",
                *(
                    f"  {name:22}{self.stories[name]:4} stories {n:4} kills"
                    for name, n in self.kills.most_common()
                ),
                *(f"  {name:28}{n:4}" for name, n in self.moments.most_common()),
                counts,
                *(f"  {kind}: {line}" for kind, lines in self.found.items() for line in lines),
            ]
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_every_story_ends_as_if_undisturbed(server, tmp_path):
    prepared = tmp_path / "prepared"
    prepare(server, prepared)
    draw, table, expected = random.Random(SEED), Table(), {}
    order = [story for _ in range(KILLS) for story in draw.sample(STORIES, len(STORIES))]
    for number, story in enumerate(order):
        name = story.__name__
        if name not in expected:
            calm = World(server, tmp_path / f"{name}-undisturbed", prepared)
            story(calm)
            expected[name] = (*visible(calm), calm.seconds)
            assert not calm.stuck + calm.complaints, calm.log
            shutil.rmtree(calm.folder)
        world = World(server, tmp_path / f"{number}-{name}", prepared, random.Random(f"{SEED} {number}"))
        world.usual = expected[name][2]
        differing, problems = [], []
        try:
            story(world)
            seen, problems = visible(world)
            differing = differences(seen, expected[name][0]) if world.comparable else []
            problems = [problem for problem in problems if problem not in expected[name][1]]
        except Exception as error:
            world.stuck.append(f"{type(error).__name__}: {error}")
            world.log.append(repr(error))
        table.add(name, world, differing, problems)
        if differing or problems or world.stuck or world.complaints:
            (world.folder / "log").write_text("\n".join(world.log))
            sys.stdout.write(f"{world.folder}: {differing} {problems} {world.stuck} {world.complaints}\n")
            sys.stdout.flush()
        else:
            shutil.rmtree(world.folder)
        if table.kills.total() >= KILLS:
            break
    sys.stdout.write(f"\n{table}\n")
    assert not any(table.found.values()), str(table)
