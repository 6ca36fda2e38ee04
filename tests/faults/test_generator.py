"""A generator that raises, runs out of memory, or gives something that must not be scored."""

import io
import sqlite3
from dataclasses import dataclass, field

import pytest
import torch
from PIL import Image

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import DrawnImage
from line_neurons.agent.seeds import derive_seed
from line_neurons.graphs.runs.lifecycle import retry, start, work
from support.fakes import (
    LAYER,
    ScriptedGenerator,
    ScriptedModel,
    ScriptedTarget,
    events,
    image_of,
    outcome,
    scripted_components,
)


def components_for(store, generator=None, **options):
    model = ScriptedModel(lambda prompt, seed, temperature: f"thing {seed}")
    given = {
        "iterations": 2,
        "images": 3,
        "top": 2,
        "random": 2,
        "max_consecutive_failures": 3,
        "retries": 2,
    } | options
    return scripted_components(store, model, generator=generator, **given)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    components = components_for(tmp_path_factory.mktemp("undisturbed"))
    return outcome(components, work(components, start(components, LAYER, ["0-2"])).id)


@pytest.fixture(scope="module")
def proposed(undisturbed):
    """What unit 1 and no other unit is shown first."""
    return next(row[5] for row in undisturbed[1] if row[0] == 1 and row[3] == "iteration")


def plain(colour="black"):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


class Faulty(ScriptedGenerator):
    """Does something else for the requests that ``at`` tells."""

    def __init__(self, at, fault):
        super().__init__(batch_size=3)
        self.at, self.fault = at, fault

    def synthesize(self, requests, progress=None):
        drawn = super().synthesize(requests)
        if any(map(self.at, requests)):
            return self.fault(requests, drawn)
        return drawn


def raising(error):
    def fault(requests, drawn):
        raise error

    return fault


def giving(first):
    return lambda requests, drawn: [first, *drawn[1:]]


FAULTS = {
    "raises": (raising(KeyError("odd")), "the generator failed: 'odd' (--debug shows where)"),
    "GPU memory": (raising(torch.OutOfMemoryError("CUDA out of memory. Tried\nto")), "memory. Tried (free some"),
    "CPU memory": (raising(RuntimeError("DefaultCPUAllocator: can't allocate memory")), "out of memory: Default"),
    "memory": (raising(MemoryError()), "the generator ran out of memory: MemoryError (free some, or generate"),
    "too few": (lambda requests, drawn: drawn[:-1], "the generator gave 2 images for 3 requests"),
    "too many": (lambda requests, drawn: drawn * 2, "the generator gave 6 images for 3 requests"),
    "nothing": (giving(None), "it is NoneType"),
    "text": (giving(DrawnImage("an image")), "it is str"),
    "no PNG": (giving(DrawnImage(b"GIF89a")), "its 6 bytes are no whole PNG file"),
    "cut": (giving(DrawnImage(plain()[:40])), "its 40 bytes are no whole PNG file"),
    "broken": (giving(DrawnImage(plain()[:20] + b"????" + plain()[24:])), "a broken image of 'thing "),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_the_unit_with_its_reason_and_after_mending_all_is_as_undisturbed(
    tmp_path, undisturbed, proposed, fault
):
    do, said = FAULTS[fault]
    components = components_for(tmp_path, Faulty(lambda request: request.concept == proposed, do))
    run = work(components, start(components, LAYER, ["0-2"]))
    units = components.runs.units(run.id)
    assert (run.status, [unit.status for unit in units]) == ("failed", ["finished", "failed", "finished"])
    assert said in units[1].error
    assert "\n" not in units[1].error
    with sqlite3.connect(tmp_path / "bank.db") as db:
        kept = db.execute("SELECT count(*) FROM draws WHERE request LIKE ?", (f'%"{proposed}"%',)).fetchone()
    assert kept == (0,)
    again = components_for(tmp_path)
    assert retry(again.runs, run) == 1
    assert work(again, again.runs.run(run.id)).status == "finished"
    assert outcome(again, run.id) == undisturbed


def test_what_a_generator_raised_is_kept_with_where_it_was_raised(tmp_path, proposed):
    components = components_for(
        tmp_path, Faulty(lambda request: request.concept == proposed, raising(KeyError("odd")))
    )
    run = work(components, start(components, LAYER, ["0-2"]))
    (event,) = events(components, run.id, "unit failed")
    assert "test_generator.py" in event["trace"]
    assert event["trace"].endswith("KeyError: 'odd'\n")


def test_a_generator_that_always_fails_stops_the_run_in_one_line_and_it_resumes(tmp_path, undisturbed):
    components = components_for(tmp_path, Faulty(lambda request: True, raising(OSError("no such file"))))
    run = start(components, LAYER, ["0-2"])
    with pytest.raises(BackendError, match="3 units in a row failed, the last one: the generator failed: no such"):
        work(components, run)
    again = components_for(tmp_path)
    assert work(again, run).status == "finished"
    assert outcome(again, run.id) == undisturbed


@dataclass
class Seeing(ScriptedTarget):
    """Remembers what it was shown."""

    seen: list[bytes] = field(default_factory=list)

    def activate(self, images, layers, progress=None):
        self.seen += images
        return super().activate(images, layers, progress)

    def _value(self, image):
        return 0.5 if image == plain("red") else super()._value(image)


class Plain(ScriptedGenerator):
    """Draws nothing but black for the requests that ``at`` tells."""

    def __init__(self, at, composed=False, colour="black"):
        super().__init__(batch_size=3)
        self.at, self.composed, self.colour = at, composed, colour

    def synthesize(self, requests, progress=None):
        drawn = super().synthesize(requests)
        return [
            DrawnImage(plain(self.colour), composed=self.composed) if self.at(request) else image
            for request, image in zip(requests, drawn, strict=True)
        ]


def test_a_black_image_is_drawn_again_with_a_seed_that_follows_from_its_own(tmp_path, proposed, caplog):
    def first_seed(request):
        return request.concept == proposed and request.seed == derive_seed("image", 0, proposed, 1)

    components = components_for(tmp_path / "one", Plain(first_seed))
    run = work(components, start(components, LAYER, ["0-2"]))
    assert run.status == "finished"
    (told,) = events(components, run.id, "image drawn again")
    assert (told["concept"], told["plain"]) == (proposed, "rgb(0, 0, 0)")
    again = derive_seed("plain", derive_seed("image", 0, proposed, 1))
    account = components.cache.provenance(told["picture"])
    assert account["seed"] == derive_seed("image", 0, proposed, 1)
    assert account["drawn_again"] == {"seed": again, "plain": "rgb(0, 0, 0)"}
    (step,) = [step for step in components.runs.steps(run.id, 1) if step.concept == proposed]
    assert components.cache.image_bytes(step.images[1]) == image_of(
        proposed, again, next(r.prompt for r in components.generator.drawn if r.seed == again)
    )
    assert (components.cache.stats.retried, caplog.text.count("was generated with another seed")) == (1, 1)
    # Another store draws the same.
    other = components_for(tmp_path / "two", Plain(first_seed), max_concurrent_units=3)
    assert outcome(other, work(other, start(other, LAYER, ["0-2"])).id) == outcome(components, run.id)


def test_a_concept_that_stays_black_is_refused_and_never_scored(tmp_path, proposed, caplog):
    target = Seeing()
    components = components_for(tmp_path, Plain(lambda request: request.concept == proposed), retries=3)
    components = components.with_(target=target)
    run = work(components, start(components, LAYER, ["0-2"]))
    assert run.status == "finished"
    refused, after = [step for step in components.runs.steps(run.id, 1) if step.step == 1]
    reason = f"{proposed!r} came out as one plain colour, rgb(0, 0, 0), drawn with a second seed too."
    assert (refused.outcome, refused.concept, refused.detail) == ("not_drawable", proposed, {"reason": reason})
    assert (after.outcome, after.attempt) == ("scored", 1)
    prompts = [prompt.messages[-1].content for prompt, _, _ in components.language_model.asked]
    assert sum(reason in prompt for prompt in prompts) == 1
    assert plain() not in target.seen
    (told,) = events(components, run.id, "concept refused")
    assert (told["concept"], told["plain"]) == (proposed, "rgb(0, 0, 0)")
    assert reason in caplog.text


@pytest.mark.parametrize("where", ["the first board", "a later step"])
def test_a_generator_that_gives_only_black_fails_the_unit_instead_of_stalling_it(tmp_path, undisturbed, where):
    def at(request):
        return where == "the first board" or request.concept.startswith("thing")

    components = components_for(tmp_path, Plain(at), max_consecutive_failures=5)
    run = work(components, start(components, LAYER, ["0-2"]))
    assert run.status == "failed"
    for unit in components.runs.units(run.id):
        assert unit.error.startswith("3 concepts in a row, the last one ")
        assert "came out as one plain colour: the generator gives no images (half precision" in unit.error
        assert "start a run with diffusion.dtype bfloat16 or float32, or with another generator)" in unit.error
    # The same generator may do better on another machine. What was refused before stays so in the history.
    again = components_for(tmp_path)
    retry(again.runs, run)
    assert work(again, again.runs.run(run.id)).status == "finished"
    if where == "the first board":
        assert outcome(again, run.id) == undisturbed


def test_a_plain_image_that_was_composed_of_real_ones_is_scored_as_any_other(tmp_path, proposed):
    wall = Plain(lambda request: request.concept == proposed, composed=True, colour="red")
    components = components_for(tmp_path, wall)
    components = components.with_(target=Seeing())
    run = work(components, start(components, LAYER, ["0-2"]))
    assert run.status == "finished"
    (step,) = [step for step in components.runs.steps(run.id, 1) if step.concept == proposed]
    assert (step.outcome, step.score) == ("scored", 1.5)
    assert not events(components, run.id, "concept refused")
