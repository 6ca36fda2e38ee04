"""One unit's screen: what it shows, live and of the past, and every key of it."""

import time
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import pytest
from textual.widgets import Footer, Tabs

from line_neurons.agent.text import format_spread
from line_neurons.tools.store.activity import Activity
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands
from line_neurons.tui.app.unit.board import BoardTable
from line_neurons.tui.app.unit.history import HistoryTable
from line_neurons.tui.app.unit.image import ImageScreen
from line_neurons.tui.app.unit.images import ImageGrid
from line_neurons.tui.app.unit.prompt import PromptScreen
from line_neurons.tui.app.unit.score_plot import ScorePlot
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.unit_view import UnitReader, board
from support.app_pilot import drawn, opened, sees, shown, until
from support.store_factory import FAILED, INTERRUPTED, REASON, at_work

pytestmark = pytest.mark.anyio
WIDE = (160, 48)


@asynccontextmanager
async def unit_opened(store, run=FAILED, unit=0, *, size=(80, 24), **more):
    async with opened(store, size=size, **more) as pilot:
        screen = UnitScreen(store, run, unit)
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.query_one(HistoryTable).row_count or screen.sub_title)
        yield pilot, screen


async def told(pilot, text):
    await until(pilot, lambda: any(text in one.message for one in pilot.app._notifications))


async def all_images(pilot, screen):
    """Wait for the images of the concept that is chosen now."""
    shown = screen.query_one(ImageGrid)
    await until(pilot, lambda: shown.loaded and shown.image_ids == tuple(one.image.id for one in shown.loaded))
    await until(pilot, lambda: len(shown.query("ImageCard")) == len(shown.loaded))


def working(unit=2, node="activate", **more):
    """A unit at work since a time that has not come, so that what is drawn does not change."""
    given = {"kind": "iteration", "step": 4, "steps": 5, "attempt": 1, "concept": "rusty gears"} | more
    return Activity(
        unit, node, **given, best="wet cobblestones", best_score=6.6, since=time.time() + 1e6
    )  # fmt: skip


async def test_how_a_unit_at_work_looks(store, view, snapshot_svg):
    at_work(store, INTERRUPTED, working())
    async with unit_opened(store, INTERRUPTED, 2, **view) as (pilot, screen):
        await sees(pilot, "rusty gears", "wet cobblestones", "● activate" if view["size"] == WIDE else "●activate")
        await all_images(pilot, screen)
        assert await drawn(pilot) == snapshot_svg


async def test_how_the_past_of_a_finished_unit_looks(store, view, snapshot_svg):
    async with unit_opened(store, **view) as (pilot, screen):
        await until(pilot, lambda: screen.query_one(HistoryTable).row_count)
        # From the first row, so that the table has scrolled as far whenever it was filled.
        await pilot.press("2", "home")
        await sees(pilot, "Past: the initial board")
        await pilot.press(*["down"] * 9)
        await sees(pilot, "Past: the board after step")
        await all_images(pilot, screen)
        assert await drawn(pilot) == snapshot_svg


async def test_the_node_at_work_is_lit_and_moves_on(store):
    at_work(store, INTERRUPTED, working(node="propose", concept=""))
    async with unit_opened(store, INTERRUPTED, 2, size=WIDE) as (pilot, _):
        await sees(pilot, "● propose", "step 4 of 5", "prompting the language model")
        at_work(store, INTERRUPTED, working(node="score"))
        await sees(pilot, "● score", "scoring “rusty gears”")
        assert "● propose" not in shown(pilot)


async def test_a_concept_that_enters_and_one_that_leaves_are_marked(store):
    async with unit_opened(store) as (pilot, screen):
        await sees(pilot, "striped animal")
        rows = {row.concept: row for row in screen.query_one(BoardTable).records}
        with closing(RunStore(store, read_only=True)) as runs:
            last = runs.steps(FAILED, 0)[-1]
        assert rows[last.concept].mark == "+"
        assert rows[last.removed].mark == "-"
        assert "· new" in shown(pilot)
        assert "· left" in shown(pilot)


async def test_the_board_changes_when_a_step_is_written(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        before = screen.query_one(BoardTable).row_count
        with closing(RunStore(store)) as runs:
            last = runs.steps(INTERRUPTED, 2)[-1]
            board = (("quilt", 9.5), *last.board[:-1])
            runs.put_step(
                replace(
                    last, step=3, attempt=0, concept="quilt", score=9.5, board=board, removed=last.board[-1][0]
                )
            )
        await sees(pilot, "quilt")
        assert screen.query_one(BoardTable).row_count == before
        assert screen.query_one(HistoryTable).selected().concept == "quilt"


async def test_a_failed_unit_says_why_and_what_to_press(store):
    async with unit_opened(store, FAILED, 5, size=(80, 24)) as (pilot, screen):
        await sees(pilot, "failed", REASON[:40], "press t")
        assert screen.check_action("retry", ())


async def test_a_unit_that_nobody_works_on_says_what_to_press(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        await sees(pilot, "stopped after step 2", "press r to resume")
        assert screen.check_action("resume", ())
        assert not screen.check_action("stop", ())


async def test_a_unit_that_has_not_begun_shows_an_empty_board(store):
    async with unit_opened(store, INTERRUPTED, 4) as (pilot, screen):
        await sees(pilot, "not started", "no label yet")
        assert screen.query_one(BoardTable).row_count == 0
        await pilot.press("p", "v", "m", "c", "f", "P", "e", "2", "3", "4")
        assert pilot.app.screen is screen


async def test_moving_in_the_history_shows_the_board_as_it_was(store):
    async with unit_opened(store) as (pilot, screen):
        board = screen.query_one(BoardTable)
        await until(pilot, lambda: board.row_count)
        now = [row.concept for row in board.records]
        await pilot.press("2", "home")
        await sees(pilot, "Past: the initial board")
        assert [row.mark for row in board.records] == [""] * 5
        await pilot.press("end")
        await until(pilot, lambda: [row.concept for row in board.records] == now)
        assert "Past:" not in shown(pilot)


async def test_escape_goes_back_to_now_and_then_from_the_screen(store):
    async with unit_opened(store) as (pilot, screen):
        await pilot.press("2", "up", "up")
        await sees(pilot, "Past:")
        await pilot.press("escape")
        assert pilot.app.screen is screen
        assert "Past:" not in shown(pilot)
        await pilot.press("escape")
        assert pilot.app.screen is not screen


async def test_who_looks_at_the_past_is_not_taken_away_by_a_new_step(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        await pilot.press("2", "home", "down")
        await sees(pilot, "Past: the initial board")
        at_work(store, INTERRUPTED, working())
        await sees(pilot, "●activate")
        assert "Past: the initial board" in shown(pilot)
        assert screen.query_one(HistoryTable).cursor_row == 1


async def test_a_narrow_terminal_shows_one_pane_at_a_time(store):
    async with unit_opened(store, size=(80, 24)) as (pilot, screen):
        for key, name in zip("1234", ("board", "history", "plot", "images"), strict=True):
            await pilot.press(key)
            await pilot.pause()
            assert [pane.id for pane in screen.query(".pane") if pane.display] == [name]
        await pilot.click(screen.query_one(Tabs).query("#tab-history").first())
        await until(pilot, lambda: screen.query_one("#history").display)
        await pilot.resize_terminal(*WIDE)
        await until(pilot, lambda: all(pane.display for pane in screen.query(".pane")))


async def test_the_plot_of_a_dead_unit_has_all_its_scores_at_zero(store):
    with closing(RunStore(store)) as runs:
        zeros = [replace(step, score=0.0) for step in runs.steps(FAILED, 0) if step.score is not None]
    async with unit_opened(store, size=WIDE) as (pilot, screen):
        screen.query_one(ScorePlot).show(zeros)
        await sees(pilot, "●", "0.0")
        screen.query_one(ScorePlot).show([replace(step, score=-1.0) for step in zeros])
        await sees(pilot, "-1.0")


async def test_images_have_the_units_activations_and_open_large(store):
    async with unit_opened(store, size=WIDE) as (pilot, screen):
        await all_images(pilot, screen)
        loaded = screen.query_one(ImageGrid).loaded
        assert [one.image.activation is not None for one in loaded] == [True] * 4
        await pilot.press("p")
        await sees(pilot, "prompt: A realistic photo of a", "image 1 of 4", f"seed: {loaded[0].image.seed}")
        await pilot.press("right")
        await sees(pilot, "image 2 of 4")
        await pilot.press("left", "left")
        await sees(pilot, "image 4 of 4")
        await pilot.press("escape")
        assert pilot.app.screen is screen


async def test_a_click_opens_that_image(store):
    async with unit_opened(store, size=WIDE) as (pilot, screen):
        await all_images(pilot, screen)
        await pilot.click(list(screen.query("ImageCard"))[2])
        await until(pilot, lambda: isinstance(pilot.app.screen, ImageScreen))
        await sees(pilot, "image 3 of 4")


async def test_images_that_are_gone_or_harmed_are_said(store):
    with closing(RunStore(store, read_only=True)) as runs:
        images = runs.units(FAILED)[0].images
    paths = [store / "images" / one[:2] / f"{one}.png" for one in images]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-9])
    async with unit_opened(store, size=WIDE) as (pilot, screen):
        await all_images(pilot, screen)
        troubles = [one.error for one in screen.query_one(ImageGrid).loaded]
        assert troubles == ["has gone", "is damaged: its content has changed", "", ""]
        await sees(pilot, "gone", "damaged")


async def test_without_a_viewer_the_image_files_path_is_said(store, monkeypatch):
    monkeypatch.setenv("PATH", "")
    async with unit_opened(store) as (pilot, screen):
        await all_images(pilot, screen)
        await pilot.press("e")
        await told(pilot, screen.query_one(ImageGrid).loaded[0].image.id)


async def test_the_label_is_copied(store):
    async with unit_opened(store) as (pilot, _):
        await pilot.press("c")
        assert pilot.app.clipboard == "striped animal"


async def test_two_marked_concepts_are_compared(store):
    async with unit_opened(store) as (pilot, screen):
        await until(pilot, lambda: screen.query_one(BoardTable).row_count)
        first, second = (row.concept for row in screen.query_one(BoardTable).records[:2])
        await pilot.press("m")
        await sees(pilot, "· compare")
        await pilot.press("down", "m")
        await sees(pilot, f"{first} scores", "more than", second, "1:", "4:")
        await pilot.press("p")
        await sees(pilot, f"{first} — image 1 of 4")
        await pilot.press("escape", "escape")
        assert pilot.app.screen is screen


async def test_pinning_without_a_runner_waits_and_says_so(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        await until(pilot, lambda: screen.query_one(BoardTable).row_count)
        concept = screen.query_one(BoardTable).records[0].concept
        await pilot.press("P")
        await sees(pilot, f"… pin “{concept}”: pending until the run is resumed (r)")
        with closing(RunStore(store, read_only=True)) as runs:
            assert [(wish.kind, wish.concept) for wish in commands(runs, INTERRUPTED, 2)] == [("pin", concept)]


async def test_a_key_that_is_pressed_again_withdraws_the_waiting_command(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        await until(pilot, lambda: screen.query_one(BoardTable).row_count)
        await pilot.press("B")
        await sees(pilot, "… ban")
        await pilot.press("B")
        await sees(pilot, "↶ ban")


async def test_what_makes_no_sense_is_refused_in_words(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        await until(pilot, lambda: screen.query_one(BoardTable).row_count)
        await pilot.press("B")
        await sees(pilot, "… ban")
        await pilot.press("P")
        await told(pilot, "is banned")


async def test_a_concept_of_ones_own_is_looked_at_as_it_is_typed(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        await pilot.press("T", *"a/b", "enter")
        await sees(pilot, "without punctuation")
        await pilot.press(*["backspace"] * 3, *"Lighthouses")
        await sees(pilot, "was already scored")
        await pilot.press(*["backspace"] * 11, *"the Quilts")
        await sees(pilot, "✓ “quilts”")
        await pilot.press("enter")
        await sees(pilot, "… suggest “quilts”")
        assert pilot.app.screen is screen


async def test_regenerating_queues_a_steering_command(store):
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, _):
        await pilot.press("A")
        await sees(pilot, "… regenerate")


async def test_stopping_asks_the_process_that_works_on_the_run(store):
    at_work(store, INTERRUPTED, working())
    async with unit_opened(store, INTERRUPTED, 2) as (pilot, screen):
        await until(pilot, lambda: screen.check_action("stop", ()))
        await pilot.press("x")
        await sees(pilot, "stopping at the next checkpoint")
        assert not screen.check_action("stop", ())


async def test_text_of_a_model_is_no_markup(store):
    with closing(RunStore(store)) as runs:
        runs.update_unit(FAILED, 5, error="[red]boom[/red] [@click=app.quit]x[/] \x1b[31m")
        runs.update_unit(FAILED, 5, name="[bold]name[/]")
    async with unit_opened(store, FAILED, 5) as (pilot, _):
        await sees(pilot, "[red]boom[/red] [@click=app.quit]x[/]", "([bold]name[/])")


async def test_scores_are_shown_with_their_standard_errors(store):
    with closing(RunStore(store)) as runs:
        view = UnitReader(FAILED, 0)(runs)
    known = {entry: spread for entry, spread in view.spreads.items() if spread is not None}
    shown_scores = {(row.concept, row.score): row.spread for row in board(view) if row.spread is not None}
    assert known and shown_scores.items() <= known.items()
    async with unit_opened(store, FAILED, 0, size=WIDE) as (pilot, _):
        await sees(pilot, *map(format_spread, shown_scores.values()))


async def test_the_footer_offers_only_what_can_be_done(store):
    async with unit_opened(store) as (pilot, screen):
        await sees(pilot, "striped animal")

        def keys():
            return {key.description for key in screen.query_one(Footer).query("FooterKey")}

        await until(pilot, lambda: keys() >= {"Fork", "Pin", "Ban"})
        assert not keys() & {"Retry", "Stop"}


async def test_a_unit_that_does_not_exist_is_said(store):
    async with opened(store) as pilot:
        pilot.app.push_screen(UnitScreen(store, FAILED, 99))
        await sees(pilot, "has no unit 99")


async def test_enter_on_an_entry_opens_what_was_asked(store):
    async with unit_opened(store) as (pilot, _):
        await pilot.press("2", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, PromptScreen))
