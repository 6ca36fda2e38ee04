"""Compose an image from a plan of subjects, places and colours."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import DrawnImage
from line_neurons.tools.image_bank import effects
from line_neurons.tools.image_bank.backdrops import MADE_CONDITIONS, STUDIO, Backdrop, Backdrops, Scenery, glows
from line_neurons.tools.image_bank.bank import Bank, Entry, Selection, shuffle_key
from line_neurons.tools.image_bank.compose import Cutout, Framing, encode, framing, place, trim, view_photo
from line_neurons.tools.image_bank.effects import Pixels, recolour
from line_neurons.tools.image_bank.plans import (
    ImageSource,
    NotComposableError,
    Plan,
    PlannedSubject,
    account_of,
    nearest_names,
)
from line_neurons.tools.image_bank.rendered import ModelPainter
from line_neurons.tools.images.reader import read_cutout, read_image

_REMEMBERED_IMAGES = 256
_UNGROUNDED = {"sky", "underwater", "water"}
_DIM = {
    "night": np.array([0.30, 0.36, 0.48], np.float32),
    "sunset": np.array([0.95, 0.84, 0.74], np.float32),
    "underwater": np.array([0.80, 1.0, 1.04], np.float32),
}


class Painter:
    """Composes plans from one split of a bank.

    Args:
        size: side of the square results in pixels, at least 32.
    """

    def __init__(self, bank: Bank, selection: Selection, size: int) -> None:
        if size < 32:
            raise ValueError(f"size must be at least 32, not {size}")
        self._bank = bank
        self._size = size
        self._decode = lru_cache(maxsize=_REMEMBERED_IMAGES)(self._decode_now)
        backgrounds = [entry for entry in bank.select(selection) if entry.kind == "background"]
        self._backdrops = Backdrops(backgrounds, size, self._decode)
        self._rendered = ModelPainter(bank, size) if bank.has_models else None
        places = self._rendered.places if self._rendered else frozenset()
        self.scenes = places.union(scene for entry in self._backdrops.entries for scene in entry.scenes)

    @property
    def identity(self) -> list[object]:
        """What decides the pixels besides the bank and the settings; empty if nothing is rendered."""
        return self._rendered.identity if self._rendered else []

    @property
    def parts(self) -> int:
        """Parts of an image that progress is reported of."""
        return self._rendered.parts if self._rendered else 1

    def prepare(self, plan: Plan) -> Plan:
        """Keep the images and models that fit the plan.

        A subject of which there are both is shown as both in turn; several in one image are all rendered, where
        they can be.

        Raises:
            NotComposableError: the scene, or a subject in it, cannot be composed from this bank or rendered.
        """
        if self._rendered is None:
            return self._composed(plan)
        things = [
            replace(thing, sources=tuple(s for s in thing.sources if s.entry.kind != "model"))
            for thing in plan.things
        ]
        composed = None
        refusal: NotComposableError | None = None
        if self._backdrops.entries and all(thing.sources and thing.count == 1 for thing in things):
            try:
                composed = self._composed(replace(plan, things=tuple(things)))
            except NotComposableError as error:
                refusal = error
        try:
            rendered = self._rendered.prepare(plan)
        except NotComposableError as error:
            if composed is None:
                raise (refusal or error) from None
            return composed
        if composed is None or len(plan.things) > 1:
            return rendered
        both = (*composed.things[0].sources, *rendered.things[0].sources)
        return replace(rendered, things=(replace(rendered.things[0], sources=both),))

    def _composed(self, plan: Plan) -> Plan:
        """Keep the images that fit the plan: cut-outs where a subject is moved or recoloured.

        Raises:
            NotComposableError: the scene, or a subject in it, cannot be composed from this bank.
        """
        self._check_scene(plan)
        cuts = [tuple(s for s in thing.sources if s.entry.kind == "cutout") for thing in plan.things]
        loose = plan.place is not None or any(c not in MADE_CONDITIONS for c in plan.conditions)
        whole_photos = 0
        things: list[PlannedSubject] = []
        for thing, found in zip(plan.things, cuts, strict=True):
            if not found and (thing.colour or loose):
                what = f"given the colour {thing.colour}" if thing.colour else f"put into the scene {plan.place}"
                raise NotComposableError(
                    plan.concept,
                    f"it has only whole photographs of {thing.phrase!r}, which cannot be {what}",
                    nearest_names(plan),
                )
            whole_photos += not found
            keep = (
                found if found and (thing.colour or loose or plan.conditions or len(cuts) > 1) else thing.sources
            )
            things.append(PlannedSubject(thing.phrase, keep, thing.colour))
        if len(things) > 1 and whole_photos == len(things):
            raise NotComposableError(
                plan.concept,
                "it has only whole photographs of both things, and none can be cut out",
                nearest_names(plan),
            )
        return Plan(plan.concept, tuple(things), plan.place, plan.conditions, plan.ignored)

    def sources(self, plan: Plan, turn: int) -> list[ImageSource]:
        """Return the image that stands for each subject of a plan; consecutive turns use different ones."""
        return [_pick(thing, turn) for thing in plan.things]

    def paint(
        self,
        plan: Plan,
        angle: str,
        light: str,
        *,
        key: str,
        turn: int,
        progress: Callable[[int], None] | None = None,
        leave_out: frozenset[int] = frozenset(),
        instead: Plan | None = None,
        scenery: Scenery | None = None,
    ) -> DrawnImage:
        """Compose or render a prepared plan; deterministic in the arguments and the bank.

        With ``leave_out`` or ``instead`` the same random draws are made: the image is the same photograph without
        a subject, or with another in its place, equal to the bit outside of the subjects and their shadows. With
        ``scenery`` the subjects are the same, before another backdrop.

        Args:
            plan: from ``prepare``.
            turn: which of the sources to use; consecutive turns use different ones.
            progress: called with the complete parts of an image that is rendered; raising from it cancels.
            leave_out: indices of subjects that are not shown.
            instead: a prepared plan with a first subject that takes the place of the plan's first.
            scenery: what takes the place of the backdrop.

        Raises:
            NotComposableError: what is left out or replaced, or its substitute, is not a cut-out; or the backdrop
                is part of a photograph.
            AbsentConceptError: the image does not show the scene that is to be taken out.
        """
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:16]))
        sources = self.sources(plan, turn)
        if leave_out or instead or scenery:
            every = set(range(len(sources))) if scenery else set()
            _check_removable(plan, sources, leave_out | ({0} if instead else set()) | every)
        if self._rendered and any(source.entry.kind == "model" for source in sources):
            return self._rendered.paint(plan, sources, angle, light, rng, progress)
        view = framing(angle)
        photo = next((s for s in sources if s.entry.kind == "photo"), None)
        if photo is None:
            backdrop = self._backdrops.draw(plan, sources, view, light, rng)
        else:
            pixels, done = view_photo(self._decode(photo.entry), self._size, view, rng)
            backdrop = Backdrop(pixels, {"kind": "photo", "file": photo.entry.id, "operations": done})
        if scenery is not None:
            # The scenes stay those of the drawn backdrop: they decide the light on the subjects and the weather.
            changed = self._backdrops.changed(backdrop, scenery, plan, view, key)
            backdrop = replace(backdrop, pixels=changed.pixels, account=changed.account)
        if instead is not None:
            # Only now: the backdrop is that of the plan's own subjects.
            substitutes = self.sources(instead, turn)[:1]
            _check_removable(instead, substitutes, {0})
            sources = [*substitutes, *sources[1:]]
            plan = replace(plan, things=(*instead.things[:1], *plan.things[1:]))
        pixels, operations = self._lay(plan, sources, backdrop, view, rng, leave_out)
        pixels, weather = _conditions(pixels, plan, backdrop, rng)
        pixels, lit = effects.light(pixels, light, rng)
        pixels, varied = effects.jitter(pixels, rng)
        ignored = [*plan.ignored, *(word for source in sources for word in source.ignored)]
        provenance: dict[str, Any] = {
            "subjects": [
                account_of(thing, source)
                for index, (thing, source) in enumerate(zip(plan.things, sources, strict=True))
                if index not in leave_out
            ],
            "background": backdrop.account,
            "scene": [*([plan.place] if plan.place else []), *plan.conditions],
            "colour": [thing.colour for thing in plan.things if thing.colour],
            "angle": f"{angle or 'none'}: {view.name}",
            "lighting": lit,
            "operations": [*operations, *weather, varied],
            "ignored": list(dict.fromkeys(ignored)),
            "bank": self._bank.fingerprint,
        }
        if leave_out:
            provenance["left_out"] = [sources[index].entry.caption for index in sorted(leave_out)]
        return DrawnImage(encode(pixels), provenance, composed=True)

    def _check_scene(self, plan: Plan) -> None:
        missing = [plan.place] if plan.place and plan.place != STUDIO else []
        missing = [scene for scene in missing if scene not in self.scenes]
        missing += [c for c in plan.conditions if c not in self.scenes and c not in MADE_CONDITIONS]
        if missing:
            raise NotComposableError(plan.concept, f"it has no background of {missing[0]!r}", nearest_names(plan))
        if not plan.things and not (plan.place or self._backdrops.entries):
            raise NotComposableError(plan.concept, "it has no background to show it on", nearest_names(plan))
        if not self._backdrops.pool(plan) and plan.place not in (None, STUDIO):
            wanted = " and ".join([str(plan.place), *plan.conditions])
            raise NotComposableError(plan.concept, f"it has no background of {wanted!r}", nearest_names(plan))

    def _lay(
        self,
        plan: Plan,
        sources: Sequence[ImageSource],
        backdrop: Backdrop,
        view: Framing,
        rng: np.random.Generator,
        leave_out: frozenset[int],
    ) -> tuple[Pixels, list[str]]:
        cutouts: list[Cutout] = []
        operations: list[str] = []
        pairs = [
            (thing, source, index in leave_out)
            for index, (thing, source) in enumerate(zip(plan.things, sources, strict=True))
            if source.entry.kind == "cutout"
        ]
        together = len(plan.things) > 1
        # Beside another cut-out, or in a corner of the other thing's photograph.
        sides, sizes = ((0.3, 0.7), (0.52, 0.66)) if len(pairs) > 1 else ((0.22, 0.78), (0.36, 0.46))
        sides = sides if rng.integers(2) else sides[::-1]
        for number, (thing, source, hidden) in enumerate(pairs):
            image = self._decode(source.entry)
            if thing.colour:
                image, painted = recolour(image, thing.colour)
                operations.append(f"{source.entry.caption}: {painted}")
            scale = float(rng.uniform(*sizes)) if together else 1.0
            centre = sides[number] if together else 0.5
            cutouts.append(Cutout(image, scale, centre, source.entry.caption, hidden))
        if not cutouts:
            return backdrop.pixels, operations
        shown = set(backdrop.scenes)
        lit = any(glows(source.entry) for _, source, _ in pairs)
        dims = [] if lit else [dim for scene, dim in _DIM.items() if scene in shown]
        dim = np.prod(np.stack(dims), axis=0).astype(np.float32) if dims else None
        grounded = not _UNGROUNDED & shown
        pixels, placed = place(backdrop.pixels, cutouts, view, rng, grounded=grounded, dim=dim)
        return pixels, [*operations, *placed]

    def _decode_now(self, entry: Entry) -> Image.Image:
        """Decode at the size that compositions need: RGBA trimmed for a cut-out, else RGB."""
        longest = 2 * self._size
        try:
            if entry.kind == "cutout":
                return trim(read_cutout(entry.path, value_range=self._bank.value_range), longest)
            rgb = read_image(entry.path, value_range=self._bank.value_range, side=longest)
        except ValueError as error:
            raise BackendError(
                f"image {entry.id} of the image bank cannot be read: {error}", "repair or remove the file"
            ) from error
        scale = longest / min(rgb.size)
        if scale < 1:
            rgb = rgb.resize(
                (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))),
                Image.Resampling.LANCZOS,
                reducing_gap=2.0,
            )
        return rgb


def _check_removable(plan: Plan, sources: Sequence[ImageSource], indices: Collection[int]) -> None:
    """Check that subjects of an image can be left out or replaced.

    Raises:
        NotComposableError: one is part of a photograph, or the image's light depends on what it shows.
    """
    for index in sorted(indices):
        if not 0 <= index < len(sources):
            raise NotComposableError(plan.concept, f"its image has {len(sources)} subjects", nearest_names(plan))
        if sources[index].entry.kind != "cutout":
            caption = sources[index].entry.caption
            what = "rendered" if sources[index].entry.kind == "model" else "a whole photograph"
            reason = f"{caption!r} is {what}, and only a cut-out can be left out or replaced"
            raise NotComposableError(plan.concept, reason, nearest_names(plan))
    if "night" in plan.conditions:
        # Its exposure follows from the brightness of the whole image.
        raise NotComposableError(plan.concept, "the light of a night depends on the subject", nearest_names(plan))


def _conditions(
    pixels: Pixels, plan: Plan, backdrop: Backdrop, rng: np.random.Generator
) -> tuple[Pixels, list[str]]:
    """Add the weather and hour that the backdrop does not already show."""
    operations: list[str] = []
    makers = {
        "night": effects.night,
        "fog": effects.fog,
        "sunset": effects.sunset,
        "rain": effects.rainfall,
        "snow": effects.snowfall,
    }
    for condition in plan.conditions:
        if condition in backdrop.scenes and condition != "snow":
            operations.append(f"{condition}: as in the background")
        elif condition in makers:
            pixels, text = makers[condition](pixels, rng)
            operations.append(text)
    return pixels, operations


def _pick(thing: PlannedSubject, turn: int) -> ImageSource:
    """Cycle through captions first, then images, in an order set by the phrase."""
    groups: dict[str, list[ImageSource]] = defaultdict(list)
    for source in thing.sources:
        groups[source.entry.caption].append(source)
    captions = sorted(groups, key=lambda caption: shuffle_key(thing.phrase, caption))
    group = sorted(groups[captions[turn % len(captions)]], key=lambda s: shuffle_key(thing.phrase, s.entry.id))
    return group[(turn // len(captions)) % len(group)]
