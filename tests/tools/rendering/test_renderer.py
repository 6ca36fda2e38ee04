"""Small renders with the real path tracer and denoiser."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from line_neurons.agent.errors import BackendError, MissingPartError
from line_neurons.tools.rendering.renderer import PASSES, Renderer
from line_neurons.tools.rendering.stage import Order, Shot
from line_neurons.tools.rendering.surroundings import INDOORS
from support.model_pack import records

SIZE = 48


@pytest.fixture(scope="module")
def renderer(renderable):
    return Renderer(renderable, SIZE, samples=4)


@pytest.fixture(scope="module")
def things(renderable):
    return records(renderable)


def shot(things, *names, count=1, **settings):
    return Shot(tuple(Order(things[name], count) for name in names), home=("wood",), **settings)


def digest(pixels):
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def render(renderer, order, seed=0, progress=None):
    return renderer.render(order, np.random.default_rng(seed), progress)


def test_the_same_shot_gives_the_same_pixels_in_another_process_on_one_core(renderer, things, renderable):
    first, account, operations = render(renderer, shot(things, "crate"))
    assert first.shape == (SIZE, SIZE, 3) and 0 <= first.min() < first.max() <= 1
    assert digest(render(renderer, shot(things, "crate"))[0]) == digest(first)
    assert account["ground"] in INDOORS and operations[0].startswith("neutral: azimuth")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import sys, hashlib, numpy as np\n"
        "from pathlib import Path\n"
        "from line_neurons.tools.rendering.renderer import Renderer\n"
        "from line_neurons.tools.rendering.stage import Order, Shot\n"
        "from support.model_pack import records\n"
        "pack = Path(sys.argv[1])\n"
        "shot = Shot((Order(records(pack)['crate']),), home=('wood',))\n"
        f"pixels = Renderer(pack, {SIZE}, samples=4).render(shot, np.random.default_rng(0))[0]\n"
        "print(hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest())\n"
    )
    path = "import sys; sys.path[:0] = " + repr([p for p in sys.path if p]) + "\n"
    child = subprocess.run(
        [sys.executable, "-c", path + code, str(renderable)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert child.stdout.split()[-1] == digest(first)


def test_seed_angle_light_place_and_hour_change_the_image(renderer, things):
    base = shot(things, "crate")
    variants = [
        base,
        replace(base, angle="aerial view"),
        replace(base, light="cinematic lighting"),
        replace(base, place="meadow"),
        replace(base, place="water"),
        replace(base, conditions=("snow",)),
        replace(base, place="studio"),
    ]
    images = [render(renderer, variant)[0] for variant in variants] + [render(renderer, base, seed=1)[0]]
    assert len({digest(image) for image in images}) == len(images)
    night = render(renderer, replace(base, conditions=("night",)))[0]
    assert night.mean() < 0.7 * images[0].mean()


def test_several_things_stand_side_by_side(renderer, things):
    one, _, _ = render(renderer, shot(things, "crate", place="studio"))
    _, account, operations = render(renderer, shot(things, "crate", "clock", count=2, place="wood"))
    assert account["wall"] == "plain"
    assert "enlarged" not in " ".join(operations)
    assert one.shape == (SIZE, SIZE, 3)


def test_cancelling_within_an_image_stops_it_and_the_next_one_is_as_ever(renderer, things):
    expected = digest(render(renderer, shot(things, "box"))[0])
    seen = []

    def cancel(part):
        seen.append(part)
        if part == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(renderer, shot(things, "box"), progress=cancel)
    assert seen == [1, 2]
    complete = []
    assert digest(render(renderer, shot(things, "box"), progress=complete.append)[0]) == expected
    assert complete == list(range(1, PASSES + 1))


def test_an_unreadable_model_names_the_command_that_checks_the_pack(renderer, things):
    broken = replace(things["box"], member="none.obj")
    with pytest.raises(BackendError, match=r"has no none\.obj") as raised:
        render(renderer, Shot((Order(broken),)))
    assert raised.value.remedy == "run: line assets verify render"


def test_the_identity_holds_packages_samples_and_the_surroundings(renderer, renderable, tmp_path):
    identity = renderer.identity
    assert identity == Renderer(renderable, SIZE, samples=4).identity
    assert identity != Renderer(renderable, SIZE, samples=8).identity
    with pytest.raises(MissingPartError, match="cannot be read"):
        _ = Renderer(tmp_path, SIZE).identity
