"""Choose cameras: angle of a prompt, views in which a thing can be recognised, and framing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from line_neurons.tools.rendering.meshes import Floats

_TRIES = 6
_GRID = 40
_ENOUGH_BREADTH = 0.62
_ENOUGH_SEEN = 0.97
_FIXED_POINT_STEPS = 6
_RING = 12
_STEEPEST = 70.0


@dataclass(frozen=True)
class Angle:
    """Camera angle of a prompt.

    Args:
        elevation: range in degrees above the horizon.
        extent: range of the longer side of the things' image, as a share of the frame.
        field: range of the field of view in degrees.
        hung_elevation: range for things that hang, which are seen from below or straight on.
    """

    name: str
    elevation: tuple[float, float]
    extent: tuple[float, float]
    field: tuple[float, float] = (28.0, 40.0)
    hung_elevation: tuple[float, float] = (-18.0, 8.0)


NEUTRAL = Angle("neutral", (8.0, 30.0), (0.66, 0.84))
_ANGLES: dict[str, Angle] = {
    "close-up": Angle("close-up", (8.0, 28.0), (0.92, 1.04), (22.0, 34.0)),
    "wide": Angle("wide", (8.0, 24.0), (0.5, 0.64), (46.0, 58.0)),
    "aerial": Angle("aerial", (42.0, 62.0), (0.62, 0.8), hung_elevation=(12.0, 32.0)),
    "low": Angle("low", (2.0, 7.0), (0.74, 0.9), (40.0, 54.0), hung_elevation=(-40.0, -20.0)),
}


@dataclass(frozen=True)
class View:
    """A camera.

    Args:
        origin, target: points in the scene.
        field: horizontal and vertical field of view in degrees.
        shift: how far the image is shifted right and down, as a share of the frame.
        azimuth, elevation: its direction in degrees; azimuth 0 is in front.
        seen: share of the silhouette within the frame.
        breadth: area of the silhouette relative to the broadest one of that elevation.
    """

    origin: tuple[float, float, float]
    target: tuple[float, float, float]
    field: float
    shift: tuple[float, float]
    azimuth: float
    elevation: float
    seen: float = 1.0
    breadth: float = 1.0

    @property
    def text(self) -> str:
        """Numbers for the provenance."""
        return (
            f"azimuth {self.azimuth:+.0f}, elevation {self.elevation:.0f} degrees, field of view {self.field:.0f} "
            f"degrees, {self.seen:.0%} of the silhouette in the frame, {self.breadth:.0%} of its broadest side"
        )


def angle_of(words: str) -> Angle:
    """Return the camera angle that a prompt's words name; neutral where they name none."""
    said = words.casefold().replace("close up", "close-up")
    return next((angle for key, angle in _ANGLES.items() if key in said), NEUTRAL)


def choose_view(
    points: Floats, angle: Angle, rng: np.random.Generator, *, hung: bool, reach: float, lift: float = 0.0
) -> View:
    """Choose a camera for things, such that they can be recognised.

    Views are drawn until one shows nearly the whole silhouette, and not the narrow side of a flat thing; after six
    the best of them is taken.

    Args:
        points: float32 [n, 3] of the things' surfaces.
        hung: whether the things hang.
        reach: largest azimuth in degrees, either way.
        lift: added to the elevation, for flat things that lie.
    """
    best: View | None = None
    ring = {}
    for _ in range(_TRIES):
        azimuth = float(rng.uniform(-reach, reach))
        elevation = min(float(rng.uniform(*(angle.hung_elevation if hung else angle.elevation))) + lift, _STEEPEST)
        field = float(rng.uniform(*angle.field))
        extent = float(rng.uniform(*angle.extent))
        drift = (float(rng.uniform(-0.04, 0.04)), float(rng.uniform(-0.02, 0.05)))
        band = round(elevation / 10)
        if band not in ring:
            turns = np.linspace(-180, 180, _RING, endpoint=False)
            ring[band] = max(silhouette(points, float(turn), band * 10.0) for turn in turns)
        breadth = min(1.0, silhouette(points, azimuth, elevation) / max(ring[band], 1e-9))
        view = _frame(points, azimuth, elevation, field, extent, drift, breadth)
        if best is None or (view.seen * view.breadth > best.seen * best.breadth):
            best = view
        # A close-up shows less than all of it on purpose.
        if view.breadth >= _ENOUGH_BREADTH and view.seen >= min(_ENOUGH_SEEN, 0.97 / max(extent, 1.0) ** 2):
            return view
    assert best is not None
    return best


def silhouette(points: Floats, azimuth: float, elevation: float) -> float:
    """Return the area of the silhouette of points from a direction, in the points' units squared."""
    right, up, _ = _axes(azimuth, elevation)
    flat = np.stack([points @ right, points @ up], 1)
    cell = max(float(np.ptp(points, axis=0).max()), 1e-9) * 1.8 / _GRID
    cells = np.unique(np.floor((flat - flat.min(0)) / cell).astype(np.int64), axis=0)
    return len(cells) * cell**2


def project(points: Floats, view: View) -> Floats:
    """Project points to the frame: float32 [n, 2], 0 to 1 from left to right and from top to bottom."""
    right, up, forward = _axes(view.azimuth, view.elevation)
    relative = points - np.array(view.origin, np.float32)
    depth = np.maximum(relative @ -forward, 1e-6)
    scale = 0.5 / np.tan(np.radians(view.field) / 2)
    across = 0.5 + scale * (relative @ right) / depth + view.shift[0]
    down = 0.5 - scale * (relative @ up) / depth + view.shift[1]
    flat: Floats = np.stack([across, down], 1).astype(np.float32)
    return flat


def _axes(azimuth: float, elevation: float) -> Sequence[Floats]:
    """Return the camera's right and up, and the direction from the things to it."""
    a, e = np.radians(azimuth), np.radians(elevation)
    right = np.array([np.cos(a), 0.0, -np.sin(a)], np.float32)
    towards = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], np.float32)
    up = np.cross(towards, right).astype(np.float32)
    return right, up, towards


def _frame(
    points: Floats,
    azimuth: float,
    elevation: float,
    field: float,
    extent: float,
    drift: tuple[float, float],
    breadth: float,
) -> View:
    """Set the distance such that the things fill ``extent`` of the frame, and shift their image to the middle."""
    low, high = points.min(0), points.max(0)
    target = (low + high) / 2
    _, _, towards = _axes(azimuth, elevation)
    radius = float(np.linalg.norm(high - low)) / 2
    distance = radius / np.tan(np.radians(field) / 2)
    # In front of the nearest point by a margin, for the image grows without bound towards it.
    nearest = float(((points - target) @ towards).max()) + 0.15 * radius
    view = View((0, 0, 0), _point(target), field, (0.0, 0.0), azimuth, elevation, breadth=breadth)
    for _ in range(_FIXED_POINT_STEPS):
        view = replace(view, origin=_point(target + np.float32(max(distance, nearest)) * towards))
        size = float(np.ptp(project(points, view), axis=0).max())
        distance = max(distance * size / extent, nearest)
    view = replace(view, origin=_point(target + np.float32(distance) * towards))
    flat = project(points, view)
    centre = (flat.min(0) + flat.max(0)) / 2
    shift = (0.5 + drift[0] - float(centre[0]), 0.5 + drift[1] - float(centre[1]))
    moved = flat + np.array(shift, np.float32)
    seen = float(np.mean(((moved >= 0) & (moved <= 1)).all(1)))
    return replace(view, shift=shift, seen=seen)


def _point(values: Floats) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
