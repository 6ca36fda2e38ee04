"""Batches killed by SIGKILL at every place that matters and at random ones: nothing lost, nothing done twice.

`make crash` kills 300 times amid a batch (the variable LINE_KILLS) and 200 times after its end, and prints what
came of it.
"""

import os
import random
import signal
import time

import pytest

from crash.campaign import Campaign, Story, evidence
from crash.kill_points import PLACES, UPGRADE
from crash.nursery import Nursery
from line_neurons.tools.doctor import store as store_check

STEERED_ENDS = 200 if "LINE_KILLS" in os.environ else 8
"""Kills, and stops as by Ctrl-C, of work on a finished run that was steered."""
RANDOM_KILLS = max(6, int(os.environ.get("LINE_KILLS", "0")) - len(PLACES) - len(UPGRADE))


@pytest.fixture(scope="module")
def campaign(nursery, tmp_path_factory):
    campaign = Campaign(tmp_path_factory.mktemp("campaign"), nursery)
    yield campaign
    print(f"\n{campaign.figures}")  # noqa: T201 - the figures of `make crash`


@pytest.mark.parametrize("place", PLACES)
def test_a_batch_killed_there_ends_as_an_undisturbed_one(campaign, place):
    story = campaign.story(place.replace(" ", "-"))
    assert story.kill(place, (campaign.calls[place] + 1) // 2), "the batch never came there"
    if PLACES.index(place) % 2:
        story.repair()
    campaign.end(story)


@pytest.mark.parametrize("place", UPGRADE)
def test_a_batch_killed_while_its_store_is_upgraded_ends_as_an_undisturbed_one(campaign, place):
    story = campaign.story(place.replace(" ", "-"), older=True)
    assert story.kill(place, UPGRADE[place]), "the store was not upgraded"
    campaign.end(story)


def test_a_batch_killed_at_random_again_and_again_ends_as_an_undisturbed_one(campaign):
    kills = number = 0
    while kills < RANDOM_KILLS:
        rng = random.Random(number)
        story = campaign.story(f"random-{number}", older=rng.random() < 0.1)
        for _ in range(min(rng.randint(1, 6), RANDOM_KILLS - kills)):
            if not campaign.random_kill(story, rng):
                break
            if rng.random() < 0.3:
                story.repair()
        kills += len(story.kills)
        number += 1
        campaign.end(story)


def test_a_finished_batch_that_is_steered_and_then_killed_or_stopped_is_concluded_all_the_same(campaign):
    ends = number = 0
    while ends < STEERED_ENDS:
        rng = random.Random(number)
        story = campaign.steered_story(f"steered-{number}")
        for _ in range(min(rng.randint(1, 6), STEERED_ENDS - ends)):
            call = rng.randint(1, campaign.steered_calls)
            if not (story.drain(call) if rng.random() < 0.4 else story.kill(None, call)):
                break
            if rng.random() < 0.2:
                story.repair()
        ends += len(story.kills) + story.drains
        number += 1
        campaign.end(story)


@pytest.fixture(scope="module")
def two(nursery):
    other = Nursery()
    yield nursery, other
    other.close()


@pytest.fixture(scope="module")
def both_runs(campaign, nursery):
    """What a store holds after two runs, one after the other."""
    story = Story(campaign.root / "both-undisturbed", nursery)
    story.finish()
    assert nursery.do(store=str(story.store), log=str(story.log), seed=1) == 0
    return evidence(story.store)


@pytest.fixture
def shared(tmp_path, nursery):
    """A job for each of two runs in one store."""
    jobs = [
        {"store": str(tmp_path / "store"), "log": str(tmp_path / f"log-{seed}"), "seed": seed} for seed in (0, 1)
    ]
    for job in jobs:
        assert nursery.do(**job, only_start=True) == 0
    return tmp_path, jobs


def until_it_draws(log):
    give_up = time.monotonic() + 60
    while "begun" not in (written := log.read_text()):
        assert "refused" not in written and time.monotonic() < give_up, written
        time.sleep(0.01)


def test_a_second_process_on_a_run_is_refused_and_one_on_another_run_goes_on(two, shared, both_runs):
    folder, (mine, other) = shared
    first, second = two
    hold = folder / "hold"
    hold.touch()
    first.start(**mine, hold=str(hold))
    until_it_draws(folder / "log-0")
    assert second.do(**{**mine, "log": str(folder / "log-refused")}) == 2
    assert "is in use by process" in (folder / "log-refused").read_text()
    assert second.do(**other) == 0
    hold.unlink()
    assert first.wait() == 0
    assert evidence(folder / "store") == both_runs
    assert store_check.check(folder / "store", deep=True) == []


@pytest.mark.parametrize("seed", range(2))
def test_two_batches_of_one_store_killed_together_both_go_on(two, shared, both_runs, seed):
    folder, jobs = shared
    children = [nursery.start(**job, pause=0.02) for nursery, job in zip(two, jobs, strict=True)]
    for number in (0, 1):
        until_it_draws(folder / f"log-{number}")
    time.sleep(random.Random(seed).uniform(0, 0.5))
    for child in children:
        os.kill(child, signal.SIGKILL)
    assert [nursery.wait() for nursery in two] == [-signal.SIGKILL] * 2
    for nursery, job in zip(two, jobs, strict=True):
        nursery.start(**job)
    assert [nursery.wait() for nursery in two] == [0, 0]
    assert evidence(folder / "store") == both_runs
    assert store_check.check(folder / "store", deep=True) == []
