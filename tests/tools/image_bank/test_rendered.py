"""Plans with 3D models: what can be rendered, what is refused, and banks of both."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import MissingPartError, NotDrawableError
from line_neurons.agent.ports import ImageRequest
from line_neurons.tools.image_bank.bank import Bank, Entry, bundled_bank
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from line_neurons.tools.image_bank.plans import NotComposableError
from support.model_pack import records, write_pack

TEMPLATE = "A realistic photo of a {concept}, {angle}, {lighting}"


def ask(concept, seed=0):
    return ImageRequest(concept, "wide angle shot", "natural sunlight", seed, TEMPLATE)


def models_of(pack):
    homes = {"crate": ("wood",), "box": ("wood",), "board": ("sky",), "clock": ("wood",)}
    return [
        Entry(
            id=f"render/{name}/{name}.obj",
            path=record.library,
            caption=name,
            also=(),
            broader=("thing",),
            kind="model",
            scenes=homes[name],
            split="search",
            sha256=name,
            source=f'render of the 3D model "{name}" by Somebody, CC0',
            model=record,
        )
        for name, record in records(pack).items()
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return models_of(write_pack(tmp_path_factory.mktemp("models")))


@pytest.fixture
def generator(models, encoder):
    return ImageBankGenerator(Bank("render", models), encoder, settings=BankSettings(size=48, threshold=0.55))


@pytest.fixture
def mixed(models, bank, encoder):
    both = [*models, replace(models[0], id="render/ball.obj", caption="ball", source="render of a ball")]
    return ImageBankGenerator(Bank("mixed", [*bank.entries, *both]), encoder, settings=BankSettings(size=48))


@pytest.mark.parametrize(
    ("concept", "place", "conditions", "colours", "counts"),
    [
        ("crate", None, (), [None], [1]),
        ("red crate", None, (), ["red"], [1]),
        ("two red crates on grass", "meadow", (), ["red"], [2]),
        ("crate and box", None, (), [None, None], [1, 1]),
        ("two crates and a blue box", None, (), [None, "blue"], [2, 1]),
        ("crate at night", None, ("night",), [None], [1]),
        ("crate in snow", None, ("snow",), [None], [1]),
        ("crate on sand", "sand", (), [None], [1]),
        ("board in the sky", "sky", (), [None], [1]),
        ("clock at night", None, ("night",), [None], [1]),
    ],
)
def test_places_hours_colours_and_numbers_are_rendered(generator, concept, place, conditions, colours, counts):
    plan = generator.plan(concept)
    assert (plan.place, plan.conditions) == (place, conditions)
    assert [thing.colour for thing in plan.things] == colours
    assert [thing.count for thing in plan.things] == counts


@pytest.mark.parametrize(
    ("concept", "reason"),
    [
        ("crate in fog", "'fog' cannot be shown"),
        ("crate in the rain", "'rain' cannot be shown"),
        ("crate in snowfall", "'snowfall' cannot be shown"),
        ("dancing crate", "no model shows 'dancing'"),
        ("crate in the reef", "there are no surroundings of 'underwater'"),
        ("crate in the mountains", "there are no surroundings of 'mountain'"),
        ("crate in the sky", "'crate' does not fly"),
        ("clock on grass", "'clock' hangs at a wall or from a ceiling"),
        ("clock and crate", "'clock' hangs at a wall or from a ceiling"),
        ("five crates and two boxes", "at most 6 things are set side by side"),
        ("night street", "models are shown, and it names only a scene"),
        ("crate, box and board", "'board' cannot be shown"),
    ],
)
def test_what_cannot_be_rendered_is_refused_and_never_replaced(generator, concept, reason):
    with pytest.raises(NotComposableError) as raised:
        generator.synthesize([ask(concept)])
    assert str(raised.value) == f"{concept!r} cannot be rendered: {reason}"


@pytest.mark.parametrize("concept", ["snowing", "a violin", "two violins"])
def test_what_there_is_no_model_of_is_not_drawable(generator, concept):
    with pytest.raises(NotDrawableError):
        generator.plan(concept)


def test_numbers_are_read_only_where_there_are_models(bank, encoder):
    plan = ImageBankGenerator(bank, encoder, settings=BankSettings(threshold=0.3)).plan("two dogs")
    assert plan.things[0].count == 1


def test_a_thing_with_images_and_models_is_shown_as_both(mixed):
    kinds = {source.entry.kind for source in mixed.plan("ball").things[0].sources}
    assert kinds == {"cutout", "model"}
    assert {s.entry.kind for s in mixed.plan("dog").things[0].sources} == {"cutout"}
    assert {s.entry.kind for s in mixed.plan("crate").things[0].sources} == {"model"}


def test_several_things_are_all_rendered_or_all_composed(mixed):
    rendered, composed = mixed.plan("ball and crate"), mixed.plan("dog and ball")
    assert {s.entry.kind for thing in rendered.things for s in thing.sources} == {"model"}
    assert {s.entry.kind for thing in composed.things for s in thing.sources} == {"cutout"}
    with pytest.raises(NotDrawableError, match="there is no model of 'dog'"):
        mixed.plan("dog and crate")


def test_what_only_one_kind_can_show_is_shown_by_it(mixed):
    assert {s.entry.kind for s in mixed.plan("two balls").things[0].sources} == {"model"}
    assert {s.entry.kind for s in mixed.plan("ball in the rain").things[0].sources} == {"cutout"}
    assert {s.entry.kind for s in mixed.plan("ball on sand").things[0].sources} == {"model"}
    assert mixed.plan("forest").things == ()


def test_models_leave_a_bank_of_images_as_it_was(mixed, bank, encoder):
    alone = ImageBankGenerator(bank, encoder, settings=BankSettings(size=48))
    drawn = [generator.synthesize([ask("dog", seed) for seed in range(2)]) for generator in (mixed, alone)]
    assert [image.png for image in drawn[0]] == [image.png for image in drawn[1]]


def test_the_renderer_is_part_of_the_fingerprint(models, encoder, monkeypatch):
    pytest.importorskip("mitsuba", reason="the extra render is not installed")
    first = ImageBankGenerator(Bank("render", models), encoder)
    assert first.identity()["renderer"]
    before = first.fingerprint
    monkeypatch.setattr("line_neurons.tools.rendering.renderer.FORMAT", 99)
    assert ImageBankGenerator(Bank("render", models), encoder).fingerprint != before


def test_without_the_extra_its_command_is_named(models, encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(MissingPartError) as raised:
        ImageBankGenerator(Bank("render", models), encoder).synthesize([ask("crate")])
    assert "mitsuba and pyoidn" in raised.value.message and "render" in raised.value.remedy


def test_a_missing_pack_of_models_names_the_command_that_installs_it(tmp_path):
    with pytest.raises(MissingPartError) as raised:
        bundled_bank(tmp_path, "render")
    assert raised.value.remedy == "run: line assets install render"
    (tmp_path / "render").mkdir()
    with pytest.raises(MissingPartError, match="cannot be read"):
        bundled_bank(tmp_path, "render")


def test_images_say_model_author_and_camera_and_show_the_colour(renderable, encoder):
    generator = ImageBankGenerator(Bank("render", models_of(renderable)), encoder, settings=BankSettings(size=48))
    steps = []
    request = replace(ask("two green boxes on a white background"), angle="", lighting="")
    (image,) = generator.synthesize([request], lambda done, total: steps.append((done, total)))
    subject = image.provenance["subjects"][0]
    assert (subject["kind"], subject["count"]) == ("model", 2)
    assert subject["source"] == 'render of the 3D model "box" by Somebody, CC0'
    assert image.provenance["angle"].startswith("none: neutral: azimuth")
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4), (4, 4)]
    pixels = np.asarray(Image.open(io.BytesIO(image.png)), np.float32)
    assert pixels.shape == (48, 48, 3)
    assert (pixels[..., 1] > pixels[..., 0] + 25).mean() > 0.05
    (again,) = generator.synthesize([request])
    assert again.png == image.png
