"""What stands beside a unit's screen: questions and replies, an image, concepts and units side by side."""

from contextlib import closing

import pytest

from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.unit.compare import CompareConceptsScreen, CompareUnitsScreen
from line_neurons.tui.app.unit.dialogs import ConceptDialog, ForkDialog
from line_neurons.tui.app.unit.image import ImageScreen
from line_neurons.tui.app.unit.images import ImageCard, ImageGrid, load_images
from line_neurons.tui.app.unit.prompt import PromptScreen
from line_neurons.tui.unit_view import read_unit
from support.app_pilot import SIZES, drawn, opened, sees, shown, until
from support.store_factory import FAILED, FINISHED

pytestmark = pytest.mark.anyio


def unit_of(store, unit=0):
    with closing(RunStore(store, read_only=True)) as runs:
        return read_unit(runs, FAILED, unit)


def asked(store):
    return [one for one in unit_of(store).steps if one.kind != "initial" and one.outcome != "stalled"]


async def test_how_they_look(store, view, snapshot_svg):
    seen = unit_of(store)
    scored = [one for one in seen.steps if one.outcome == "scored" and one.kind != "initial"]
    screens = {
        "prompt": (PromptScreen(store, asked(store), 2), "as it was sent (its hash matches)"),
        "image": (
            ImageScreen("tiger fur", load_images(store, scored[0].images, seen.run, 0)),
            "prompt: A realistic",
        ),
        "concepts": (CompareConceptsScreen(store, seen, *scored[-2:]), "more than"),
        "units": (CompareUnitsScreen(store, (FAILED, 0), (FINISHED, 1)), "scored on both"),
        "fork": (ForkDialog("unit 0", range(6), 2, 0, "ollama:llama3.1:8b"), "first proposal"),
        "concept": (ConceptDialog("unit 0", ["zebra"], ["piano"]), "Suggest"),
    }
    async with opened(store, **view) as pilot:
        for name, (screen, text) in screens.items():
            pilot.app.push_screen(screen)
            await sees(pilot, text)
            images = list(screen.query(ImageGrid))
            await until(pilot, lambda images=images: all(one.loaded for one in images))
            if view["size"] == SIZES[1]:
                # Images of this size would be a megabyte of text; the small screens show them.
                for card in screen.query(ImageCard):
                    card.children[0].visible = False
            assert await drawn(pilot) == snapshot_svg(name=name)
            pilot.app.pop_screen()


async def test_images_count_as_loaded_when_their_cards_stand(store, monkeypatch):
    seen = unit_of(store)
    scored = [one for one in seen.steps if one.outcome == "scored" and one.kind != "initial"]
    composed, early = ImageCard.compose, []

    def compose(card):
        early.extend(card.parent.loaded)
        return composed(card)

    monkeypatch.setattr(ImageCard, "compose", compose)
    async with opened(store, size=(160, 48)) as pilot:
        pilot.app.push_screen(CompareConceptsScreen(store, seen, *scored[-2:]))
        await sees(pilot, "more than")
        await until(pilot, lambda: all(one.loaded for one in pilot.app.screen.query(ImageGrid)))
        assert len(pilot.app.screen.query(ImageCard)) == sum(len(one.images) for one in scored[-2:])
    assert not early


async def test_the_prompt_is_that_of_the_step_with_its_refusals(store):
    async with opened(store, size=(160, 48)) as pilot:
        entries = asked(store)
        second = next(at for at, one in enumerate(entries) if (one.step, one.attempt) == (2, 1))
        pilot.app.push_screen(PromptScreen(store, entries, second))
        await sees(pilot, "as it was sent (its hash matches)", 'Refused: "striped cat" was tried already', "seed")
        await pilot.press("left")
        await sees(pilot, "step 2, attempt 1", "its hash matches")
        assert "Refused" not in shown(pilot)
        await pilot.press("c")
        assert pilot.app.clipboard.startswith("[system]\nYou find out")
        await pilot.press("y")
        assert pilot.app.clipboard == entries[second - 1].reply


async def test_a_prompt_that_is_another_than_was_sent_is_told(store):
    with closing(RunStore(store)) as runs:
        last = runs.steps(FAILED, 0)[-1]
        with runs.atomic() as db:
            db.execute(
                "UPDATE steps SET prompt = 'abc' WHERE run = ? AND unit = 0 AND step = ?", [FAILED, last.step]
            )
            db.execute("UPDATE steps SET prompt = NULL WHERE run = ? AND unit = 0 AND step = 1", [FAILED])
    async with opened(store, size=(160, 48)) as pilot:
        entries = asked(store)
        pilot.app.push_screen(PromptScreen(store, entries, len(entries) - 1))
        await sees(pilot, "rebuilt; its hash differs")
        pilot.app.push_screen(PromptScreen(store, entries, 0))
        await sees(pilot, "rebuilt, not checked")


async def test_a_damaged_history_has_its_reply_without_a_prompt(store):
    entries = asked(store)
    with closing(RunStore(store)) as runs, runs.atomic() as db:
        db.execute("DELETE FROM steps WHERE run = ? AND unit = 0 AND step < 2", [FAILED])
    async with opened(store, size=(160, 48)) as pilot:
        pilot.app.push_screen(PromptScreen(store, entries, len(entries) - 1))
        await sees(pilot, "does not tell what came before", "striped animal")


async def test_two_units_share_concepts_and_are_followed(store):
    async with opened(store, size=(160, 48)) as pilot:
        pilot.app.push_screen(CompareUnitsScreen(store, (FAILED, 0), (FAILED, 1)))
        await sees(pilot, "scored on both", "unit 0 (tabby cat)", "unit 1 (tiger)", "striped animal")
        with closing(RunStore(store)) as runs:
            runs.update_unit(FAILED, 1, label="quilt", score=99.0)
        await sees(pilot, "label quilt")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(pilot.app.screen, ImageScreen))
