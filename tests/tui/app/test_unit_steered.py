"""A unit steered from its screen while a real runner works on it, and forked from its past."""

import threading
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands
from line_neurons.tui.app import external
from line_neurons.tui.app.unit.board import BoardTable
from line_neurons.tui.app.unit.history import HistoryTable
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.guidance_text import next_candidates
from support import guided
from support.app_pilot import opened, sees, told, until
from support.fakes import LAYER, ScriptedModel, scripted_components
from support.store_factory import FAILED, INTERRUPTED

pytestmark = pytest.mark.anyio
PATIENCE = 60


@contextmanager
def runner(store):
    """A run of one unit whose language model answers only when it is told to; gives the run and the turnstile."""
    turns = threading.Semaphore(0)
    words = iter(f"word {letter}" for letter in "abcdefghijklmnop")

    def answer(prompt, seed, temperature):
        assert turns.acquire(timeout=PATIENCE)
        return next(words)

    components = scripted_components(store, ScriptedModel(answer), iterations=6, images=2, top=3, random=2)
    run = start(components, LAYER, ["0"], "line explain")
    thread = threading.Thread(target=work, args=(components, run))
    thread.start()
    try:
        yield run.id, turns
    finally:
        turns.release(50)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        components.runs.close()


def board_of(screen):
    return {row.concept: row for row in screen.query_one(BoardTable).records}


async def test_a_running_unit_is_steered_with_every_wish(tmp_path):
    store = tmp_path / "store"
    with runner(store) as (run, turns):
        async with opened(store) as pilot:
            screen = UnitScreen(store, run, 0)
            pilot.app.push_screen(screen)
            await sees(pilot, "●propose", "step 1 of 7")
            table = screen.query_one(BoardTable)
            await until(pilot, lambda: table.row_count == 5)
            last = table.records[-1].concept

            await pilot.press("end", "P")
            await sees(pilot, f"pin “{last}”: applied before the next node")
            turns.release()
            await sees(pilot, f"✓ pin “{last}”", "· pinned")
            await sees(pilot, "step 2 of 7")

            await pilot.press("T", *"quilt", "enter")
            await sees(pilot, "… suggest “quilt”")
            turns.release()
            await until(pilot, lambda: "quilt" in board_of(screen))
            assert board_of(screen)["quilt"].origin.startswith("typed")

            best = table.records[0].concept
            await pilot.press("home", "B")
            turns.release()
            await sees(pilot, f"✓ ban “{best}”")
            await until(pilot, lambda: best not in board_of(screen))

            await pilot.press("A")
            await sees(pilot, "regenerate")
            turns.release(50)
            await sees(pilot, "✓ finished")
            assert last in board_of(screen)
            with closing(RunStore(store, read_only=True)) as runs:
                assert runs.unit(run, 0).label != best


async def test_a_finished_unit_goes_on_once_it_is_asked_and_resumed(tmp_path, monkeypatch):
    store = tmp_path / "store"
    with runner(store) as (run, turns):
        turns.release(50)
        async with opened(store) as pilot:
            screen = UnitScreen(store, run, 0)
            pilot.app.push_screen(screen)
            await sees(pilot, "✓ finished")
            await until(pilot, lambda: not screen.check_action("resume", ()))
            await pilot.press("T", *"quilt", "enter")
            await sees(pilot, "pending until the run is resumed (r)")
            started = []
            monkeypatch.setattr(
                external, "launch", lambda store, arguments: started.append(arguments) or _Ended(0)
            )
            await pilot.press("r")
            assert started == [["resume", run]]


class _Ended:
    """A command that has ended."""

    def __init__(self, status, last_message=""):
        self._status, self._said = status, last_message

    def poll(self):
        return self._status

    def last_message(self):
        return self._said


@pytest.mark.parametrize("status", [0, 1, 2, 130])
async def test_only_what_failed_is_told_as_failed(store, monkeypatch, status):
    # Units that failed (1) are seen in the store, and to be stopped (130) was asked for.
    polled = []

    class Resuming(_Ended):
        def poll(self):
            polled.append(status)
            return status

    monkeypatch.setattr(external, "launch", lambda *_: Resuming(status, "it is so"))
    async with opened(store) as pilot:
        screen = UnitScreen(store, INTERRUPTED, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.query_one(HistoryTable).row_count)
        await pilot.press("r")
        await until(pilot, lambda: polled)
        await pilot.pause()
        assert ("Failed: resuming the run it is so" in told(pilot)) == (status == 2)


async def test_a_fork_that_cannot_be_made_says_why(store):
    with closing(RunStore(store)) as runs:
        runs.update_run(FAILED, model="nowhere:resnet50")
    async with opened(store) as pilot:
        screen = UnitScreen(store, FAILED, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.query_one(HistoryTable).row_count)
        await pilot.press("f")
        await sees(pilot, "the search ended with step 5: name an earlier one")
        await pilot.press("9")
        await sees(pilot, "no step '9'")
        await pilot.press("backspace", "2", "tab", "x")
        await sees(pilot, "a seed is a whole number")
        await pilot.press("backspace", "3", "tab", *"gpt", "tab")
        await sees(pilot, "no language model 'gpt'")
        await pilot.press("shift+tab", *["backspace"] * 3, *"random", "tab", *"a/b")
        await sees(pilot, "without punctuation")
        await pilot.press(*["backspace"] * 3, *"Quilts", "enter")
        # There is no such model: the real command says so, before it loads what opens models.
        await until(
            pilot, lambda: any("Failed: forking after step 2" in one.title for one in pilot.app._notifications)
        )


async def test_a_fork_opens_when_it_is_there(store, monkeypatch):
    def forked(store, arguments):
        with closing(RunStore(store)) as runs:
            original = runs.run(FAILED)
            new = replace(original, id="fork-1", forked_from=FAILED, forked_unit=0, forked_step=2)
            runs.add_run(
                new, [replace(runs.unit(FAILED, 0), run="fork-1", position=0, status="pending", label=None)]
            )
            runs.put_steps([replace(one, run="fork-1") for one in runs.steps(FAILED, 0) if one.step <= 2])
        started.append(arguments)
        return _Ended(0)

    started = []
    monkeypatch.setattr(external, "launch", forked)
    async with opened(store) as pilot:
        screen = UnitScreen(store, FAILED, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.query_one(HistoryTable).row_count)
        await pilot.press("2", "home", *["down"] * 6)
        await sees(pilot, "Past: the board after step 2")
        await pilot.press("f")
        await sees(pilot, "Fork unit 0")
        await pilot.press("tab", "7", "enter")
        await until(pilot, lambda: pilot.app.screen is not screen and isinstance(pilot.app.screen, UnitScreen))
        assert started == [["fork", FAILED, "0", "--step", "2", "--seed=7"]]
        await sees(pilot, f"of {FAILED} after step 2")


async def test_retry_starts_the_command_and_says_how_it_failed(store, monkeypatch):
    started = []
    monkeypatch.setattr(
        external,
        "launch",
        lambda store, arguments: started.append(arguments) or _Ended(2, "no [red]such[/] model"),
    )
    async with opened(store) as pilot:
        pilot.app.push_screen(UnitScreen(store, FAILED, 5))
        await sees(pilot, "press t")
        await pilot.press("t")
        await until(pilot, lambda: any(one.message == "no [red]such[/] model" for one in pilot.app._notifications))
        assert started == [["retry", FAILED]]


async def test_commands_are_undone_and_withdrawn(tmp_path):
    store = tmp_path / "store"
    with runner(store) as (run, turns):
        turns.release(50)
        async with opened(store, size=(100, 30)) as pilot:
            screen = UnitScreen(store, run, 0)
            pilot.app.push_screen(screen)
            await sees(pilot, "✓ finished")
            assert not screen.check_action("undo", ())
            best = screen.query_one(BoardTable).records[0].concept
            await pilot.press("home", "B")
            await sees(pilot, f"… ban “{best}”", "u: undo")
            assert "press u to undo" in told(pilot)
            await pilot.press("u")
            await sees(pilot, f"↶ ban “{best}”: withdrawn: by")

            await pilot.press("T", *"quilt", "enter")
            await sees(pilot, "… suggest “quilt”")
            await pilot.press("A")
            await sees(pilot, "… regenerate")
            await pilot.press("W")
            await sees(pilot, "Withdraw a waiting command")
            await pilot.press("down", "enter")
            await sees(pilot, "↶ suggest “quilt”", "… regenerate")
            with closing(RunStore(store, read_only=True)) as runs:
                states = [command.state for command in commands(runs, run, 0)]
            assert states == ["withdrawn", "withdrawn", "waiting"]


async def test_what_was_banned_is_unbanned_with_the_key_that_banned_it(tmp_path):
    store = tmp_path / "store"
    with runner(store) as (run, turns):
        async with opened(store, size=(100, 40)) as pilot:
            screen = UnitScreen(store, run, 0)
            pilot.app.push_screen(screen)
            await sees(pilot, "●propose")
            table = screen.query_one(BoardTable)
            await until(pilot, lambda: table.row_count == 5)
            best = table.records[0].concept
            await pilot.press("home", "B")
            turns.release()
            await sees(pilot, f"✓ ban “{best}”")
            await pilot.press("u")
            # It may be applied before the app shows that it waits.
            await sees(pilot, f"unban “{best}”")
            turns.release()
            await sees(pilot, f"✓ unban “{best}”: no longer banned")
            await until(pilot, lambda: best in board_of(screen))


@pytest.mark.parametrize("sure", [False, True])
async def test_a_ban_that_may_be_a_slip_is_asked_about(tmp_path, monkeypatch, sure):
    store = tmp_path / "store"
    with runner(store) as (run, turns):
        turns.release(50)
        async with opened(store, size=(100, 30)) as pilot:
            screen = UnitScreen(store, run, 0)
            pilot.app.push_screen(screen)
            await sees(pilot, "✓ finished")
            started = []
            doubt = "'wrod a' is doubtful; near it: word a (in its history) (correct it, or add --yes)"
            monkeypatch.setattr(
                external, "launch", lambda store, arguments: started.append(arguments) or _Ended(2, doubt)
            )
            await pilot.press("T", *"wrod a", "tab", "tab", "enter")
            await sees(pilot, "near it: word a (in its history)")
            assert started == [["steer", run, "0", "--ban=wrod a"]]
            await pilot.press(*["tab"] * sure, "enter")
            await until(pilot, lambda: pilot.app.screen is screen)
            if sure:
                await sees(pilot, "… ban “wrod a”")
            await pilot.press("T", *"word a", "tab", "tab", "enter")
            await sees(pilot, "… ban “word a”")
            with closing(RunStore(store, read_only=True)) as runs:
                assert [command.concept for command in commands(runs, run, 0)] == ["wrod a"] * sure + ["word a"]


async def test_the_next_candidates_of_the_response_model_are_tried_with_one_key(tmp_path):
    store = tmp_path / "store"
    searched, run = guided.explain(store)
    candidates = next_candidates(searched.runs.steps(run.id, 0))
    async with opened(store) as pilot:
        screen = UnitScreen(store, run.id, 0)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.query_one(BoardTable).row_count > 0)
        await pilot.press("N")
        await until(pilot, lambda: len(commands(searched.runs, run.id, 0)) == len(candidates))
        assert [(row.kind, row.concept) for row in commands(searched.runs, run.id, 0)] == [
            ("try", name) for name in candidates
        ]
        await sees(pilot, f"… suggest “{candidates[-1]}”")
        await pilot.press("N")
        await until(pilot, lambda: "has no candidates that nobody tried" in told(pilot))
    searched.runs.close()
