"""Backdrops of composed images: of a scene, of where subjects usually are, or plain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from line_neurons.agent.errors import AbsentConceptError
from line_neurons.tools.image_bank import effects
from line_neurons.tools.image_bank.bank import Entry
from line_neurons.tools.image_bank.compose import Framing
from line_neurons.tools.image_bank.effects import Pixels
from line_neurons.tools.image_bank.plans import ImageSource, NotComposableError, Plan, nearest_names

STUDIO = "studio"
MADE_CONDITIONS = {"night", "snow", "fog", "rain", "sunset"}
"""Weather and hours that are painted where no background shows them."""

_SHARE_SCENERY = 0.6
_LANDSCAPES = {"forest", "meadow", "field", "plain", "mountain", "road", "lake"}
_DARK = {"night", "storm"}
_SPECIAL = {"night", "underwater", "water"}


@dataclass(frozen=True)
class Backdrop:
    """Pixels behind the subjects, how they came about, and the scenes that they show."""

    pixels: Pixels
    account: dict[str, Any]
    scenes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenery:
    """What takes the place of an image's backdrop, while subjects, light and every other draw stay.

    Args:
        change: ``plain``: a backdrop that shows no scene; ``mirrored``: its own, mirrored; ``scene``: one of the
            scene.
        scene: a place; the image must show it already, unless it is put there.
    """

    change: Literal["plain", "mirrored", "scene"]
    scene: str


class Backdrops:
    """Draws backdrops from backgrounds of a bank.

    Args:
        size: side of the images in pixels.
    """

    def __init__(self, entries: Sequence[Entry], size: int, decode: Callable[[Entry], Image.Image]) -> None:
        self.entries = tuple(entries)
        self._size = size
        self._decode = decode

    def pool(self, plan: Plan) -> tuple[tuple[Entry, ...], tuple[str, ...]] | None:
        """Return backgrounds of the plan's scene, and the conditions still to be added."""
        at_place = [e for e in self.entries if plan.place is None or plan.place in e.scenes]
        if not at_place:
            return None
        asked = set(plan.conditions)
        imaged = [e for e in at_place if asked and asked <= set(e.scenes)]
        if imaged:
            return tuple(imaged), ()
        needed = {c for c in asked if c not in MADE_CONDITIONS}
        partly = [e for e in at_place if needed <= set(e.scenes)]
        if not partly:
            return None
        if plan.place is None and not needed:
            open_air = [e for e in partly if _LANDSCAPES & set(e.scenes) and not _SPECIAL & set(e.scenes)]
            partly = open_air or partly
        return tuple(partly), tuple(c for c in plan.conditions if c not in needed)

    def draw(
        self,
        plan: Plan,
        sources: Sequence[ImageSource],
        view: Framing,
        light: str,
        rng: np.random.Generator,
    ) -> Backdrop:
        """Draw the backdrop of an image: of its scene, else where its subjects usually are, else a plain one."""
        wanted = bool(plan.place or plan.conditions)
        usual = self._usual(sources)
        glowing = any(glows(source.entry) for source in sources) and bool(usual)
        if plan.place == STUDIO or (not wanted and not glowing and STUDIO in light.casefold()):
            pixels, text = effects.gradient(self._size, rng, studio=True)
            return Backdrop(pixels, {"kind": "plain", "colour": text})
        pool = self.pool(plan)
        if wanted and pool is not None:
            return self._scenery(pool[0], view, rng, made=pool[1], clear=True, alone=not plan.things)
        draw = float(rng.uniform())
        if glowing or (usual and draw < _SHARE_SCENERY):
            return self._scenery(usual, view, rng)
        maker = effects.texture if draw < (1 + _SHARE_SCENERY) / 2 else effects.gradient
        pixels, text = maker(self._size, rng)
        return Backdrop(pixels, {"kind": "plain", "colour": text})

    def changed(self, backdrop: Backdrop, scenery: Scenery, plan: Plan, view: Framing, key: str) -> Backdrop:
        """Return what takes the place of a backdrop; ``key`` decides its own draws, those of the image stay.

        Raises:
            AbsentConceptError: it does not show the scene that is to be taken out.
            NotComposableError: there is no background of the scene.
        """
        if scenery.change != "scene" and scenery.scene not in backdrop.scenes:
            shown = " and ".join(backdrop.scenes) or "no scene"
            raise AbsentConceptError(scenery.scene, f"the image's backdrop shows {shown}, not {scenery.scene!r}")
        if scenery.change == "mirrored":
            operations = [*backdrop.account.get("operations", ()), "mirrored"]
            return Backdrop(backdrop.pixels[:, ::-1].copy(), {**backdrop.account, "operations": operations})
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{key}\0{scenery}".encode()).digest()[:16]))
        if scenery.change == "plain":
            pixels, text = effects.texture(self._size, rng)
            return Backdrop(pixels, {"kind": "plain", "colour": text})
        pool = self.pool(Plan(plan.concept, (), scenery.scene))
        if pool is None:
            raise NotComposableError(
                plan.concept, f"it has no background of {scenery.scene!r}", nearest_names(plan)
            )
        return self._scenery(pool[0], view, rng, clear=True)

    def _usual(self, sources: Sequence[ImageSource]) -> tuple[Entry, ...]:
        """Return backgrounds where the subjects usually are; else any ordinary one."""
        homes = [set(source.entry.scenes) for source in sources if source.entry.scenes]
        home = set.intersection(*homes) if homes else set()
        return tuple(e for e in self.entries if home & set(e.scenes)) or tuple(
            e for e in self.entries if not _SPECIAL & set(e.scenes)
        )

    def _scenery(
        self,
        pool: Sequence[Entry],
        view: Framing,
        rng: np.random.Generator,
        *,
        made: tuple[str, ...] = (),
        clear: bool = False,
        alone: bool = False,
    ) -> Backdrop:
        entry = pool[int(rng.integers(len(pool)))]
        low, high = view.defocus
        blur = (0.0, 0.0) if alone else (0.3 * low, 0.45 * high) if clear else view.defocus
        pixels, text = effects.scene(
            self._decode(entry), self._size, rng, zoom=view.zoom, blur=blur, ground=view.ground and not alone
        )
        account: dict[str, Any] = {
            "kind": "photo",
            "file": entry.id,
            "caption": entry.caption,
            "sha256": entry.sha256,
            "operations": [text],
        }
        if "snow" in made:
            pixels, snowed = effects.snow_ground(pixels, rng)
            account["operations"].append(snowed)
        return Backdrop(pixels, account, entry.scenes)


def glows(entry: Entry) -> bool:
    """Tell whether a subject belongs only in the dark: it is shown there, and not dimmed."""
    return bool(entry.scenes) and entry.kind == "cutout" and set(entry.scenes) <= _DARK
