"""Surroundings of rendered things: grounds, panoramas and light, by place, hour and the prompt's words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from line_neurons.tools.images.reader import read_image
from line_neurons.tools.rendering.meshes import Floats

STUDIO = "studio"
WATER = "water"

_SIDE = 512


@dataclass(frozen=True)
class Ground:
    """A flat ground.

    Args:
        images: textures of the pack, of which one is used; empty for a made one.
        make: makes the texture, float32 [n, n, 3] in sRGB, where the pack has none.
        tile: side of the texture in cm.
    """

    name: str
    tile: float
    images: tuple[str, ...] = ()
    make: Callable[[], Floats] | None = None


@dataclass(frozen=True)
class Surroundings:
    """A ground below panoramas that fit it; no ground where things fly."""

    ground: str
    panoramas: tuple[str, ...]


def _noise(exponent: float, seed: int) -> Floats:
    """Make noise that repeats without seams: its spectrum falls with the power of the frequency; mean 0, sd 1."""
    rng = np.random.default_rng(seed)
    across, down = np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None, :]
    frequency = np.hypot(across, down)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE))) / frequency**exponent
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (_SIDE, _SIDE))
    noise: Floats = (field / field.std()).astype(np.float32)
    return noise


def _mottled(colour: tuple[float, float, float], depth: float, exponent: float, seed: int) -> Callable[[], Floats]:
    def make() -> Floats:
        shade = 1 + depth * (0.6 * _noise(exponent, seed) + 0.4 * _noise(0.3, seed + 1))
        pixels: Floats = np.clip(np.array(colour, np.float32) * shade[..., None], 0, 1).astype(np.float32)
        return pixels

    return make


GROUNDS: Mapping[str, Ground] = {
    ground.name: ground
    for ground in (
        Ground("grass", 100.0, ("grass.jpg",)),
        Ground("wooden floor", 90.0, ("woodenFloor.jpg",)),
        Ground("paving", 130.0, ("pavingStone.jpg",)),
        Ground("tiles", 120.0, ("stoneTiles.jpg",)),
        Ground("carpet", 90.0, make=_mottled((0.72, 0.69, 0.66), 0.1, 0.3, 5)),
        Ground("asphalt", 160.0, make=_mottled((0.36, 0.36, 0.37), 0.2, 0.6, 1)),
        Ground("sand", 180.0, make=_mottled((0.84, 0.75, 0.58), 0.07, 1.0, 2)),
        Ground("snow", 220.0, make=_mottled((0.93, 0.95, 0.98), 0.025, 1.3, 3)),
        Ground(WATER, 240.0, make=lambda: _noise(2.2, 4)),
    )
}

OPEN_AIR = ("park", "forest", "dawn")
PLACES: Mapping[str, Surroundings] = {
    "wood": Surroundings("wooden floor", ("apartment", "lobby", "hall", "workshop")),
    "meadow": Surroundings("grass", OPEN_AIR),
    "garden": Surroundings("grass", ("park",)),
    "leaves": Surroundings("grass", ("forest", "park")),
    "forest": Surroundings("grass", ("forest",)),
    "field": Surroundings("grass", ("dawn", "sky")),
    "plain": Surroundings("grass", ("dawn", "sky")),
    "mountain": Surroundings("grass", ("dawn", "sky")),
    "road": Surroundings("asphalt", ("city", "bridge", "esplanade")),
    "beach": Surroundings("sand", ("sky", "sunrise")),
    "water": Surroundings(WATER, ("sky", "dawn")),
    "lake": Surroundings(WATER, ("dawn", "forest")),
    "sea": Surroundings(WATER, ("sky", "sunset")),
    "sky": Surroundings("", ("sky", "dawn")),
    "sand": Surroundings("sand", ("sky", "sunrise")),
    "city": Surroundings("paving", ("city", "venice", "bridge")),
    STUDIO: Surroundings("", (STUDIO,)),
}
"""By the names of scenes that the image bank uses, and further ones."""

INDOORS = ("wooden floor", "wooden floor", "carpet", "tiles")
"""Grounds of things that are usually indoors, where the phrase names no ground."""

ASKED = frozenset(PLACES) - {"mountain", "leaves"}
"""Places that a phrase may ask for. The others are only where a thing usually is, and are not shown in full."""

CONDITIONS: Mapping[str, tuple[str, ...]] = {"night": ("night",), "sunset": ("sunset", "sunrise"), "snow": ()}
"""Conditions that can be rendered, with their panoramas; snow lies on the ground."""


@dataclass(frozen=True)
class Lighting:
    """Light besides the panorama's.

    Args:
        ambient: range of the panorama's mean radiance.
        key: range of the key light's irradiance; 0 for none.
        colour: of the key light, linear.
        side: range of the key light's angle from the camera, in degrees.
        height: range of its height in degrees.
        rim: irradiance of a light from behind.
        exposure: linear value that the image's upper quarter is set to.
    """

    name: str
    ambient: tuple[float, float] = (0.9, 1.1)
    key: tuple[float, float] = (0.8, 1.6)
    colour: tuple[float, float, float] = (1.0, 0.97, 0.92)
    side: tuple[float, float] = (20.0, 70.0)
    height: tuple[float, float] = (35.0, 60.0)
    rim: float = 0.0
    exposure: float = 0.5


NEUTRAL = Lighting("neutral light")
NIGHT = Lighting(
    "night", (0.10, 0.16), (0.6, 1.0), (0.5, 0.68, 1.0), (30.0, 90.0), (35.0, 60.0), rim=0.25, exposure=0.1
)
SUNSET = Lighting("sunset", (0.5, 0.7), (2.2, 3.2), (1.0, 0.55, 0.25), (50.0, 110.0), (8.0, 18.0), exposure=0.45)
_LIGHTINGS: Mapping[str, Lighting] = {
    "cinematic": Lighting(
        "cinematic light", (0.2, 0.35), (2.4, 3.4), (1.0, 0.82, 0.6), (55.0, 100.0), (20.0, 42.0), 1.2, 0.42
    ),
    "sun": Lighting("sunlight", (0.8, 1.0), (3.0, 4.5), (1.0, 0.9, 0.74), (25.0, 80.0), (30.0, 60.0)),
    STUDIO: Lighting("studio light", (1.0, 1.2), (0.5, 0.9), (1.0, 1.0, 1.0), (25.0, 50.0), (40.0, 60.0)),
}


def lighting_of(words: str, conditions: tuple[str, ...] = ()) -> Lighting:
    """Return the light that an hour or a prompt's words name; neutral where they name none."""
    if "night" in conditions:
        return NIGHT
    if "sunset" in conditions:
        return SUNSET
    said = words.casefold()
    return next((lighting for key, lighting in _LIGHTINGS.items() if key in said), NEUTRAL)


def read_panorama(pack: Path, name: str) -> bytes:
    """Read a panorama of the pack: an EXR file inside a JavaScript module.

    Raises:
        OSError: it is not there.
        ValueError: it is not what the pack has.
    """
    text = (pack / "hdri" / f"{name}.exr.js").read_text("ascii")
    _, comma, rest = text.partition("base64,")
    if not comma:
        raise ValueError(f"{name}.exr.js has no panorama")
    return base64.b64decode(rest.partition("'")[0])


def read_ground(pack: Path, ground: Ground, rng: np.random.Generator) -> Floats:
    """Return a ground's texture: float32 [n, m, 3] in sRGB, for water its heights.

    Raises:
        ImageError: the pack does not have it, or it is damaged.
    """
    if ground.make is not None:
        return ground.make()
    name = ground.images[int(rng.integers(len(ground.images)))]
    return np.asarray(read_image(pack / "textures" / name), np.float32) / np.float32(255)
