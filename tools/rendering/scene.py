"""Build scenes for Mitsuba from models, a camera, grounds and lights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from line_neurons.tools.rendering.camera import View
from line_neurons.tools.rendering.meshes import Floats, Material, Model, Part

Paint = Callable[[Image.Image], Image.Image]

_FAR = 60.0
_GLASS, _PANE = 0.6, 0.3
_BRIGHTEST = 15.0
_DARKEST_COLOUR, _LIGHTEST_COLOUR = 0.01, 0.92


@dataclass(frozen=True)
class Thing:
    """A model in its place.

    Args:
        model: in cm.
        offset: of its middle on the ground, in cm: to the right, and towards the front.
        yaw: its turn around the vertical, in degrees.
        sunk: how far it is below the ground, in cm.
    """

    model: Model
    offset: tuple[float, float] = (0.0, 0.0)
    yaw: float = 0.0
    scale: float = 1.0
    sunk: float = 0.0
    paint: Paint | None = None

    def place(self, points: Floats) -> Floats:
        """Move points of the model to where the thing is, in cm."""
        shift = np.array([self.offset[0], -self.sunk, self.offset[1]], np.float32)
        placed = (points * np.float32(self.scale)) @ self._turn().T + shift
        return placed.astype(np.float32)

    def turn(self, normals: Floats) -> Floats:
        """Turn normals of the model as the thing is turned."""
        turned: Floats = normals @ self._turn().T
        return turned

    def _turn(self) -> Floats:
        a = np.radians(self.yaw)
        return np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]], np.float32)


def meshes(mi: Any, thing: Thing, unit: float) -> list[Any]:
    """Make Mitsuba's meshes of a thing; ``unit`` cm are 1 in the scene."""
    return [
        _mesh(
            mi,
            thing.place(part.positions) / np.float32(unit),
            part.faces,
            _surface(mi, part, thing.paint),
            None if part.normals is None else thing.turn(part.normals),
            part.texcoords,
        )
        for part in thing.model.parts
    ]


def plane(mi: Any, corners: Floats, surface: dict[str, Any], texcoords: Floats) -> Any:
    """Make a strip of quadrilaterals: ``corners`` float32 [2 n, 3], pairs across the strip."""
    quads = len(corners) // 2 - 1
    faces = np.array([[[2 * i, 2 * i + 1, 2 * i + 2], [2 * i + 1, 2 * i + 3, 2 * i + 2]] for i in range(quads)])
    return _mesh(mi, corners, faces.reshape(-1, 3).astype(np.uint32), surface, None, texcoords)


def ground(mi: Any, texture: Floats, tile: float, *, water: bool, height: float = 0.0) -> Any:
    """Make a flat ground to the horizon; ``tile`` is the texture's side in the scene's units."""
    corners = np.array(
        [[-_FAR, height, _FAR], [_FAR, height, _FAR], [-_FAR, height, -_FAR], [_FAR, height, -_FAR]], np.float32
    )
    texcoords = (corners[:, [0, 2]] / np.float32(tile)).astype(np.float32)
    if not water:
        return plane(mi, corners, _matt(_bitmap(mi, texture)), texcoords)
    ripples = _bitmap(mi, np.repeat(texture[..., None] * np.float32(0.008) + np.float32(0.5), 3, 2), raw=True)
    pool = {"type": "principled", "base_color": _rgb((0.03, 0.09, 0.11)), "roughness": 0.08, "specular": 0.6}
    bumped = {"type": "bumpmap", "arbitrary": ripples, "scale": 1.0, "bsdf": pool}
    return plane(mi, corners, {"type": "twosided", "bsdf": bumped}, texcoords)


def paper(mi: Any, azimuth: float, colour: Sequence[float]) -> Any:
    """Make the paper roll of a studio: a floor that bends up behind the things."""
    bend = [(np.sin(t) * 2.0, 2.0 - np.cos(t) * 2.0) for t in np.linspace(0, np.pi / 2, 9)]
    profile = [(-_FAR / 2, 0.0), *((3.0 + across, up) for across, up in bend), (5.0, 20.0)]
    rows = [[[-_FAR, up, -back], [_FAR, up, -back]] for back, up in profile]
    a = np.radians(azimuth)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    corners = (np.array(rows).reshape(-1, 3) @ turn.T).astype(np.float32)
    return plane(mi, corners, _matt(_rgb(colour)), np.zeros((len(corners), 2), np.float32))


def wall(mi: Any, behind: float, hung: bool, colour: Sequence[float]) -> Any:
    """Make a wall at depth ``-behind``, from the ground upwards, or around what hangs at it."""
    foot = -_FAR if hung else 0.0
    corners = np.array([[-_FAR, foot, 0], [_FAR, foot, 0], [-_FAR, _FAR, 0], [_FAR, _FAR, 0]], np.float32)
    corners[:, 2] = -behind
    return plane(mi, corners, _matt(_rgb(colour)), np.zeros((4, 2), np.float32))


def panorama(mi: Any, exr: bytes, radiance: float, turn: float) -> dict[str, Any]:
    """Make an environment of an EXR file, scaled to a mean radiance and turned by an angle in degrees.

    Its sun is cut off, which the few samples of a pixel would hit too rarely; a light stands in for it. It is
    blurred, because its pixels would be seen.
    """
    stream = mi.MemoryStream()
    stream.write(exr)
    stream.seek(0)
    bitmap = mi.Bitmap(stream).convert(mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.Float32, False)
    pixels = np.array(bitmap, np.float32)
    pixels = np.clip(np.nan_to_num(pixels), 0, None)
    weights = np.cos(np.linspace(np.pi / 2, -np.pi / 2, pixels.shape[0], dtype=np.float32))[:, None, None]
    mean = float((pixels.clip(max=float(np.percentile(pixels, 99))) * weights).mean() / weights.mean())
    pixels = np.minimum(pixels * np.float32(radiance / max(mean, 1e-6)), np.float32(_BRIGHTEST * radiance))
    pixels = _soften(pixels)
    to_world = mi.ScalarTransform4f().rotate([0, 1, 0], turn)
    return {"type": "envmap", "bitmap": mi.Bitmap(pixels), "to_world": to_world}


def _soften(pixels: Floats) -> Floats:
    """Double the size of a panorama and blur it, around its seam too."""
    soft: Any = np.pad(pixels.repeat(2, 0).repeat(2, 1), ((8, 8), (0, 0), (0, 0)), "edge")
    for _ in range(4):
        soft = (np.roll(soft, 1, 1) + 2 * soft + np.roll(soft, -1, 1)) / 4
        soft = (np.roll(soft, 1, 0) + 2 * soft + np.roll(soft, -1, 0)) / 4
    softened: Floats = soft[8:-8].astype(np.float32)
    return softened


def sun(colour: Sequence[float], irradiance: float, azimuth: float, height: float) -> dict[str, Any]:
    """Make a light from far away; azimuth 0 is in front of the things."""
    a, e = np.radians(azimuth), np.radians(height)
    direction = [-np.sin(a) * np.cos(e), -np.sin(e), -np.cos(a) * np.cos(e)]
    return {
        "type": "directional",
        "direction": [float(value) for value in direction],
        "irradiance": {"type": "rgb", "value": [float(c * irradiance) for c in colour]},
    }


def camera(mi: Any, view: View, size: int, unit: float) -> dict[str, Any]:
    """Make the camera of a view, which is in cm, with a square image."""
    return {
        "type": "perspective",
        "fov": view.field,
        "principal_point_offset_x": -view.shift[0],
        "principal_point_offset_y": -view.shift[1],
        "near_clip": 1e-3,
        "far_clip": 1e4,
        "to_world": mi.ScalarTransform4f().look_at(
            origin=[value / unit for value in view.origin],
            target=[value / unit for value in view.target],
            up=[0, 1, 0],
        ),
        # A wider filter correlates the noise of neighbours, which the denoiser then takes for detail.
        "film": {
            "type": "hdrfilm",
            "width": size,
            "height": size,
            "rfilter": {"type": "box"},
            "pixel_format": "rgb",
        },
        "sampler": {"type": "independent"},
    }


def _mesh(
    mi: Any,
    positions: Floats,
    faces: Any,
    surface: dict[str, Any],
    normals: Floats | None,
    texcoords: Floats | None,
) -> Any:
    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(surface)
    mesh = mi.Mesh(
        "part",
        len(positions),
        len(faces),
        has_vertex_normals=normals is not None,
        has_vertex_texcoords=texcoords is not None,
        props=properties,
    )
    values = mi.traverse(mesh)
    values["vertex_positions"] = positions.astype(np.float32).ravel()
    values["faces"] = faces.ravel()
    if normals is not None:
        values["vertex_normals"] = normals.astype(np.float32).ravel()
    if texcoords is not None:
        values["vertex_texcoords"] = _for_mitsuba(texcoords).ravel()
    values.update()
    return mesh


def _for_mitsuba(texcoords: Floats) -> Floats:
    """Turn v over: images of Mitsuba start at the top, those of OBJ files at the bottom."""
    turned: Floats = np.stack([texcoords[:, 0], 1 - texcoords[:, 1]], 1).astype(np.float32)
    return turned


def _surface(mi: Any, part: Part, paint: Paint | None) -> dict[str, Any]:
    material = part.material
    textured = material.texture is not None and part.texcoords is not None
    if material.opacity < _GLASS and not textured:
        # Clear glass shows nothing but what is behind it, and a thing all of glass could not be recognised.
        pane = {"type": "roughplastic", "diffuse_reflectance": _rgb((0.8, 0.87, 0.87)), "alpha": 0.08}
        return {"type": "mask", "opacity": _PANE, "bsdf": {"type": "twosided", "bsdf": pane}}
    reflectance, cutout = _reflectance(mi, material, paint, textured=textured)
    surface: dict[str, Any]
    if material.shininess > 5:
        alpha = float(np.clip(np.sqrt(2 / (material.shininess + 2)), 0.08, 0.5))
        surface = {"type": "roughplastic", "diffuse_reflectance": reflectance, "alpha": alpha, "nonlinear": True}
        surface = {"type": "twosided", "bsdf": surface}
    else:
        surface = _matt(reflectance)
    if cutout is not None:
        return {"type": "mask", "opacity": cutout, "bsdf": surface}
    if material.opacity < 0.95:
        return {"type": "mask", "opacity": float(max(material.opacity, 0.15)), "bsdf": surface}
    return surface


def _reflectance(
    mi: Any, material: Material, paint: Paint | None, *, textured: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the colour of a surface, and where it is cut out."""
    image = material.texture if textured and material.texture is not None else _swatch(material.colour)
    alpha = image.getchannel("A") if "A" in image.getbands() else None
    if paint is not None:
        image = paint(image)
    if not textured:
        red, green, blue = image.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
        return _rgb([red / 255, green / 255, blue / 255]), None
    cutout = None
    if alpha is not None and alpha.getextrema()[0] < 240:  # type: ignore[operator]
        opaque = np.asarray(alpha, np.float32)[..., None] / np.float32(255)
        cutout = _bitmap(mi, np.repeat(opaque, 3, 2), raw=True)
    return _bitmap(mi, np.asarray(image.convert("RGB"), np.float32) / np.float32(255)), cutout


def _swatch(colour: Sequence[float]) -> Image.Image:
    red, green, blue = (round(255 * min(max(value, 0.0), 1.0)) for value in colour)
    return Image.new("RGB", (1, 1), (red, green, blue))


def _matt(reflectance: dict[str, Any]) -> dict[str, Any]:
    return {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": reflectance}}


def _rgb(colour: Sequence[float]) -> dict[str, Any]:
    """Make an even reflectance of an sRGB colour; real surfaces are neither black nor white."""
    return {
        "type": "rgb",
        "value": [min(_LIGHTEST_COLOUR, max(_DARKEST_COLOUR, float(_linear(np.float32(c))))) for c in colour],
    }


def _bitmap(mi: Any, pixels: Floats, *, raw: bool = False) -> dict[str, Any]:
    values = pixels if raw else np.clip(_linear(pixels), _DARKEST_COLOUR, _LIGHTEST_COLOUR)
    return {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(values, np.float32)),
        "raw": raw,
        "filter_type": "bilinear",
        "wrap_mode": "repeat",
    }


def _linear(values: Any) -> Any:
    """Convert sRGB values to linear ones, as the display's curve says."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
