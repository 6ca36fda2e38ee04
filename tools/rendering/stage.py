"""Set the stage of an image: things in their places, camera, surroundings and lights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from line_neurons.tools.rendering import scene
from line_neurons.tools.rendering.camera import View, angle_of, choose_view
from line_neurons.tools.rendering.catalogue import ModelRecord
from line_neurons.tools.rendering.meshes import Model
from line_neurons.tools.rendering.scene import Paint, Thing
from line_neurons.tools.rendering.surroundings import (
    CONDITIONS,
    GROUNDS,
    INDOORS,
    OPEN_AIR,
    PLACES,
    STUDIO,
    WATER,
    Lighting,
    lighting_of,
    read_ground,
    read_panorama,
)

_MOST_DIFFERENT_SIZES = 3.0
_GAP = 0.12
_SUNK = 0.12
_REACH, _REACH_OF_SEVERAL, _REACH_BEFORE_WALL = 55.0, 22.0, 35.0
_SIDE_BEFORE_WALL = 60.0
_DARKER = (0.45, 1.05)
_FLAT, _LIFT = 0.2, 20.0
_SHADES = (0.85, 1.1)
_SNOW_EXPOSURE = 0.85
_COLD = (0.7, 0.85, 1.0)


@dataclass(frozen=True)
class Order:
    """Things of one kind in an image.

    Args:
        paint: makes the function that recolours textures from the model; None leaves its colours.
    """

    record: ModelRecord
    count: int = 1
    paint: Callable[[Model], Paint] | None = None


@dataclass(frozen=True)
class Shot:
    """What an image shows.

    Args:
        orders: the things, at least one.
        place: a key of ``PLACES`` that the phrase names.
        conditions: keys of ``CONDITIONS``.
        home: places where the things usually are, used where the phrase names none.
    """

    orders: tuple[Order, ...]
    place: str | None = None
    conditions: tuple[str, ...] = ()
    angle: str = ""
    light: str = ""
    home: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A scene to be traced.

    Args:
        objects: Mitsuba's dictionary of the scene, without an integrator.
        exposure: linear value that the image's upper quarter is set to.
        account: of the surroundings, for the provenance.
        operations: text on camera, light, and others.
    """

    objects: dict[str, Any]
    exposure: float
    account: dict[str, Any]
    operations: tuple[str, ...]


def set_stage(
    mi: Any, shot: Shot, models: Sequence[Model], pack: Path, size: int, rng: np.random.Generator
) -> Stage:
    """Set the stage of a shot; the same arguments give the same scene.

    Args:
        pack: folder with the panoramas and textures.
        size: side of the image in pixels.

    Raises:
        OSError: a file of the pack cannot be read.
    """
    hung, walled = any(model.hung for model in models), any(model.walled for model in models)
    usual = [name for name in shot.home if name in PLACES] or ["wood"]
    where = shot.place or usual[int(rng.integers(len(usual)))]
    free = shot.place is None and not shot.conditions
    paper = not walled and (shot.place == STUDIO or (free and STUDIO in shot.light.casefold()))
    snow = "snow" in shot.conditions
    flooring = INDOORS[int(rng.integers(len(INDOORS)))] if where == "wood" and free else PLACES[where].ground
    ground = "" if paper or hung else "snow" if snow else flooring
    things, enlarged = _lay_out(models, shot.orders, rng, _SUNK if ground == WATER else 0.0)
    points = np.concatenate([thing.place(thing.model.surface()) for thing in things])
    unit = float(np.linalg.norm(np.ptp(points, axis=0))) / 2
    angle = angle_of(shot.angle)
    reach = _REACH_BEFORE_WALL if walled else _REACH_OF_SEVERAL if len(things) > 1 else _REACH
    above = points[points[:, 1] >= 0] if ground == WATER else points
    lift = _LIFT if not walled and all(max(m.size[::2]) * _FLAT > m.size[1] for m in models) else 0.0
    view = choose_view(above, angle, rng, hung=hung, reach=reach, lift=lift)

    panoramas = next((CONDITIONS[name] for name in shot.conditions if CONDITIONS[name]), PLACES[where].panoramas)
    if snow and where == "wood" and not shot.place:
        panoramas = OPEN_AIR
    panorama = STUDIO if paper else panoramas[int(rng.integers(len(panoramas)))]
    lighting = lighting_of(shot.light, shot.conditions)
    objects, lit = _lights(mi, lighting, pack, panorama, view, rng, walled=walled)
    account: dict[str, Any] = {"kind": "rendered", "panorama": panorama, "ground": ground or "none"}
    if paper:
        tint = _tone(rng, 0.6, 0.95)
        objects["ground"] = scene.paper(mi, view.azimuth, tint)
        account["ground"] = "paper"
    elif ground:
        surface = GROUNDS[ground]
        texture = read_ground(pack, surface, rng)
        if ground != WATER:
            low, high = (1.0, 1.0) if snow else _DARKER if ground in INDOORS else _SHADES
            hues = rng.uniform(0.8, 1.0, 3) if ground == "carpet" else np.ones(3)
            texture = np.clip(texture * (hues * rng.uniform(low, high)).astype(np.float32), 0, 1)
        objects["ground"] = scene.ground(mi, texture, surface.tile / unit, water=ground == WATER)
    if walled:
        objects["wall"] = scene.wall(mi, float(-points[:, 2].min()) / unit + 0.002, hung, _tone(rng, 0.62, 0.92))
        account["wall"] = "plain"
    parts = [mesh for thing in things for mesh in scene.meshes(mi, thing, unit)]
    objects |= {f"mesh{number}": mesh for number, mesh in enumerate(parts)}
    objects["sensor"] = scene.camera(mi, view, size, unit)
    exposure = lighting.exposure * float(rng.uniform(0.9, 1.1))
    if snow and lighting.exposure > 0.5:
        exposure = _SNOW_EXPOSURE
    return Stage(objects, exposure, account, (f"{angle.name}: {view.text}", lit, *enlarged))


def _tone(rng: np.random.Generator, low: float, high: float) -> list[float]:
    """Draw a pale colour."""
    tone = float(rng.uniform(low, high)) * (1 + rng.uniform(-0.05, 0.05, 3))
    return [float(value) for value in np.clip(tone, 0, 1)]


def _lights(
    mi: Any,
    lighting: Lighting,
    pack: Path,
    panorama: str,
    view: View,
    rng: np.random.Generator,
    *,
    walled: bool,
) -> tuple[dict[str, Any], str]:
    ambient = float(rng.uniform(*lighting.ambient))
    turn = float(rng.uniform(0, 360))
    side = float(rng.uniform(*lighting.side))
    # Light from behind a wall does not arrive.
    side = (min(side, _SIDE_BEFORE_WALL) if walled else side) * (1 if rng.integers(2) else -1)
    height, key = float(rng.uniform(*lighting.height)), float(rng.uniform(*lighting.key))
    objects: dict[str, Any] = {
        "type": "scene",
        "sky": scene.panorama(mi, read_panorama(pack, panorama), ambient, turn),
        "key": scene.sun(lighting.colour, key * np.pi, view.azimuth + side, height),
    }
    text = (
        f"{lighting.name}: panorama {ambient:.2f}, key light {key:.2f} from {side:+.0f} degrees, {height:.0f} high"
    )
    if lighting.rim:
        objects["rim"] = scene.sun(_COLD, lighting.rim * np.pi, view.azimuth + 180 - side / 2, 30.0)
        text += f", light from behind {lighting.rim:.2f}"
    return objects, text


def _lay_out(
    models: Sequence[Model], orders: Sequence[Order], rng: np.random.Generator, sunk: float
) -> tuple[list[Thing], list[str]]:
    """Set things side by side on the ground, a small thing beside a large one enlarged."""
    longest = [max(model.size) for model in models]
    scales = [max(1.0, max(longest) / _MOST_DIFFERENT_SIZES / length) for length in longest]
    several = sum(order.count for order in orders) > 1
    things: list[Thing] = []
    edge = 0.0
    for model, order, scale in zip(models, orders, scales, strict=True):
        paint = order.paint(model) if order.paint else None
        for _ in range(order.count):
            yaw, depth = (float(rng.uniform(-25, 25)), float(rng.uniform(-0.15, 0.15))) if several else (0.0, 0.0)
            loose = 0.0 if model.walled else 1.0
            thing = Thing(model, yaw=yaw * loose, scale=scale, sunk=sunk * model.size[1] * scale, paint=paint)
            low, high = (float(end) for end in _ends(thing))
            offset = (edge - low, depth * (high - low) * loose) if several else (0.0, 0.0)
            things.append(replace(thing, offset=offset))
            edge += (high - low) * (1 + _GAP)
    middle = edge / 2 if several else 0.0
    centred = [replace(thing, offset=(thing.offset[0] - middle, thing.offset[1])) for thing in things]
    return centred, [f"enlarged x{scale:.1f} beside the other" for scale in scales if scale > 1]


def _ends(thing: Thing) -> tuple[float, float]:
    across = thing.place(thing.model.surface())[:, 0]
    return float(across.min()), float(across.max())
