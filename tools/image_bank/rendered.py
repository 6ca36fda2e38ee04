"""Render plans of which the subjects are 3D models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from PIL import Image

from line_neurons.agent.ports import DrawnImage
from line_neurons.tools.image_bank import effects
from line_neurons.tools.image_bank.bank import Bank
from line_neurons.tools.image_bank.compose import encode
from line_neurons.tools.image_bank.plans import (
    ImageSource,
    NotComposableError,
    Plan,
    PlannedSubject,
    account_of,
    nearest_names,
)
from line_neurons.tools.rendering.meshes import Material, Model
from line_neurons.tools.rendering.renderer import PASSES, Renderer
from line_neurons.tools.rendering.scene import Paint
from line_neurons.tools.rendering.stage import Order, Shot
from line_neurons.tools.rendering.surroundings import ASKED, CONDITIONS

_MOST_THINGS = 6
_PALETTE = 400
_AIR = "sky"
_INDOORS = {"wood", "studio"}


class ModelPainter:
    """Renders plans with a bank's models.

    Args:
        size: side of the square results in pixels.
    """

    parts = PASSES
    places = ASKED

    def __init__(self, bank: Bank, size: int) -> None:
        self._bank = bank
        library = next(entry.path for entry in bank.entries if entry.kind == "model")
        self._renderer = Renderer(library.parent.parent, size)

    @cached_property
    def identity(self) -> list[object]:
        """What decides the pixels besides the bank and the size."""
        return self._renderer.identity

    def prepare(self, plan: Plan) -> Plan:
        """Keep the models that fit the plan.

        Raises:
            NotComposableError: it cannot be rendered truthfully.
        """
        if reason := _refused_scene(plan):
            raise _NotRenderableError(plan, reason)
        things = tuple(self._usable(plan, thing) for thing in plan.things)
        if sum(thing.count for thing in things) > _MOST_THINGS:
            raise _NotRenderableError(plan, f"at most {_MOST_THINGS} things are set side by side")
        return replace(plan, things=things)

    def _usable(self, plan: Plan, thing: PlannedSubject) -> PlannedSubject:
        found = [source for source in thing.sources if source.entry.model is not None]
        plain = [source for source in found if not source.ignored]
        if not plain:
            word = found[0].ignored[0] if found else ""
            reason = f"no model shows {word!r}" if word else f"there is no model of {thing.phrase!r}"
            raise _NotRenderableError(plan, reason)
        outdoors = (plan.place is not None and plan.place not in _INDOORS) or "snow" in plan.conditions
        fixed = outdoors or len(plan.things) > 1
        kept = [source for source in plain if not (fixed and source.entry.model and source.entry.model.hung)]
        if not kept:
            raise _NotRenderableError(plan, f"{thing.phrase!r} hangs at a wall or from a ceiling")
        if plan.place == _AIR:
            kept = [source for source in kept if _AIR in source.entry.scenes]
            if not kept:
                raise _NotRenderableError(plan, f"{thing.phrase!r} does not fly")
        return replace(thing, sources=tuple(kept))

    def paint(
        self,
        plan: Plan,
        sources: Sequence[ImageSource],
        angle: str,
        light: str,
        rng: np.random.Generator,
        progress: Callable[[int], None] | None,
    ) -> DrawnImage:
        """Render a prepared plan; see ``Painter.paint``.

        Raises:
            BackendError: a model cannot be read or rendered.
            MissingPartError: the packages are not installed.
        """
        pairs = list(zip(plan.things, sources, strict=True))
        homes = [set(source.entry.scenes) for source in sources if source.entry.scenes]
        home = sorted(set.intersection(*homes)) if homes else []
        pixels, account, operations = self._renderer.render(
            Shot(
                tuple(_order(thing, source) for thing, source in pairs),
                plan.place,
                plan.conditions,
                angle,
                light,
                tuple(home),
            ),
            rng,
            progress,
        )
        pixels, varied = effects.jitter(pixels, rng)
        provenance: dict[str, Any] = {
            "subjects": [
                account_of(thing, source) | ({"count": thing.count} if thing.count > 1 else {})
                for thing, source in pairs
            ],
            "background": account,
            "scene": [*([plan.place] if plan.place else []), *plan.conditions],
            "colour": [thing.colour for thing in plan.things if thing.colour],
            "angle": f"{angle or 'none'}: {operations[0]}",
            "lighting": operations[1],
            "operations": [*operations[2:], varied],
            "ignored": [],
            "bank": self._bank.fingerprint,
        }
        return DrawnImage(encode(pixels), provenance)


class _NotRenderableError(NotComposableError):
    def __init__(self, plan: Plan, reason: str) -> None:
        super().__init__(plan.concept, reason, nearest_names(plan))
        self.args = (f"{plan.concept!r} cannot be rendered: {reason}",)


def _refused_scene(plan: Plan) -> str:
    """Return why a plan cannot be rendered whatever its subjects are; empty if it can."""
    unknown = [condition for condition in plan.conditions if condition not in CONDITIONS]
    if not plan.things:
        return "models are shown, and it names only a scene"
    if plan.ignored:
        return f"{plan.ignored[0]!r} cannot be shown"
    if plan.place is not None and plan.place not in ASKED:
        return f"there are no surroundings of {plan.place!r}"
    if unknown or "snowfall" in plan.concept.casefold():
        return f"{unknown[0] if unknown else 'snowfall'!r} cannot be shown"
    return ""


def _order(thing: PlannedSubject, source: ImageSource) -> Order:
    assert source.entry.model is not None
    paint = partial(_paint, colour=thing.colour) if thing.colour else None
    return Order(source.entry.model, thing.count, paint)


def _paint(model: Model, colour: str) -> Paint:
    """Return what recolours the textures of a model: its coloured parts, or all of it if it is mostly plain."""
    areas = np.array([part.areas.sum() for part in model.parts])
    counts = np.maximum(1, np.round(_PALETTE * areas / max(areas.sum(), 1e-9))).astype(int)
    means = [np.asarray(_mean_colour(part.material), np.float32) for part in model.parts]
    palette = np.repeat(np.stack(means), counts, 0)
    whole = effects.is_plain(palette, np.ones(len(palette), np.float32))

    def paint(image: Image.Image) -> Image.Image:
        return effects.recolour(image.convert("RGBA"), colour, whole=whole)[0]

    return paint


def _mean_colour(material: Material) -> Any:
    if material.texture is None:
        return material.colour
    return np.asarray(material.texture.convert("RGB"), np.float32).mean((0, 1)) / 255
