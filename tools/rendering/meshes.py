"""Read the triangles, materials and textures of OBJ models."""

from __future__ import annotations

import posixpath
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from line_neurons.tools.images.reader import read_cutout
from line_neurons.tools.rendering.catalogue import ModelRecord

Floats = NDArray[np.float32]

_LONGEST_TEXTURE = 1024
_DEFAULT_COLOUR = (0.6, 0.6, 0.6)
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Args:
        colour: sRGB in [0, 1], where there is no texture.
        opacity: in [0, 1].
        shininess: Phong's exponent; 0 for a matt surface.
        texture: RGB or RGBA, None for an even colour.
    """

    colour: tuple[float, float, float] = _DEFAULT_COLOUR
    opacity: float = 1.0
    shininess: float = 0.0
    texture: Image.Image | None = None


@dataclass(frozen=True)
class Part:
    """Triangles of one material.

    Args:
        positions: float32 [n, 3].
        faces: uint32 [m, 3], indices of positions.
        normals: float32 [n, 3] of length 1, where the file has them.
        texcoords: float32 [n, 2], where the file has them; v grows upwards.
    """

    positions: Floats
    faces: NDArray[np.uint32]
    material: Material
    normals: Floats | None = None
    texcoords: Floats | None = None

    @property
    def areas(self) -> Floats:
        """Area of each triangle, float32 [m]."""
        a, b, c = (self.positions[self.faces[:, corner]] for corner in range(3))
        areas: Floats = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        return areas


@dataclass(frozen=True)
class Model:
    """A model upright on the floor: y is up, the lowest point at 0, the middle at x = z = 0, in cm.

    Args:
        parts: its triangles, by material.
        size: width, height, depth in cm.
    """

    parts: tuple[Part, ...]
    size: tuple[float, float, float]
    hung: bool = False
    walled: bool = False

    def surface(self, count: int = 3000) -> Floats:
        """Return points of the surface, evenly spread over its area and the same each time; float32 [count, 3]."""
        areas = np.concatenate([part.areas for part in self.parts])
        corners = np.concatenate([part.positions[part.faces] for part in self.parts])
        rng = np.random.default_rng(0)
        total = float(areas.sum())
        chosen = rng.choice(len(areas), count, p=areas / total) if total > 0 else np.zeros(count, int)
        u, v = rng.random((2, count, 1), dtype=np.float32)
        flip = u + v > 1
        u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
        a, b, c = (corners[chosen, corner] for corner in range(3))
        points: Floats = (a + u * (b - a) + v * (c - a)).astype(np.float32)
        return points


def read_model(record: ModelRecord) -> Model:
    """Read a model with its materials.

    Raises:
        OSError: the library cannot be read.
        ValueError: the model has no triangles, or is not in the library.
    """
    with zipfile.ZipFile(record.library) as bundle:
        names = set(bundle.namelist())
        if record.member not in names:
            raise ValueError(f"{record.library.name} has no {record.member}")
        obj = _parse_obj(bundle.read(record.member).decode("latin-1"))
        base = posixpath.dirname(record.member)
        materials: dict[str, Material] = {}
        for library in obj.libraries:
            path = posixpath.join(base, library)
            if path in names:
                materials.update(_read_materials(bundle, path, names))
    parts = _parts(obj, materials)
    if not parts:
        raise ValueError(f"{record.member} has no triangles")
    return _upright(parts, record)


@dataclass
class _Obj:
    positions: list[Sequence[str]] = field(default_factory=list)
    texcoords: list[Sequence[str]] = field(default_factory=list)
    normals: list[Sequence[str]] = field(default_factory=list)
    faces: dict[str, list[list[tuple[int, int, int]]]] = field(default_factory=lambda: defaultdict(list))
    libraries: list[str] = field(default_factory=list)


def _parse_obj(text: str) -> _Obj:
    obj, material = _Obj(), ""
    for line in text.splitlines():
        kind, _, rest = line.strip().partition(" ")
        words = rest.split()
        if kind == "v":
            obj.positions.append(words[:3])
        elif kind == "vt":
            obj.texcoords.append((*words, "0")[:2])
        elif kind == "vn":
            obj.normals.append(words[:3])
        elif kind == "f":
            corners = [_corner(word) for word in words]
            obj.faces[material] += [[corners[0], *corners[i : i + 2]] for i in range(1, len(corners) - 1)]
        elif kind == "usemtl":
            material = rest.strip()
        elif kind == "mtllib":
            obj.libraries.append(rest.strip())
    return obj


def _corner(word: str) -> tuple[int, int, int]:
    position, texcoord, normal = (*word.split("/"), "", "")[:3]
    return int(position), int(texcoord or 0), int(normal or 0)


def _parts(obj: _Obj, materials: Mapping[str, Material]) -> tuple[Part, ...]:
    """Make a part of each material: a vertex for each different corner."""
    positions = np.array(obj.positions, np.float32).reshape(-1, 3)
    texcoords = np.array(obj.texcoords, np.float32).reshape(-1, 2)
    normals = np.array(obj.normals, np.float32).reshape(-1, 3)
    parts = []
    for name, triangles in obj.faces.items():
        corners = np.array(triangles, np.int64).reshape(-1, 3)
        for column, count in enumerate((len(positions), len(texcoords), len(normals))):
            # Negative indices count from the end; 0 stands for none.
            negative = corners[:, column] < 0
            corners[negative, column] += count + 1
        used, faces = np.unique(corners, axis=0, return_inverse=True)
        if used[:, 0].min() < 1 or used[:, 0].max() > len(positions):
            raise ValueError("a face names a vertex that the file does not have")
        parts.append(
            Part(
                positions[used[:, 0] - 1],
                faces.reshape(-1, 3).astype(np.uint32),
                materials.get(name, Material()),
                _taken(normals, used[:, 2]),
                _taken(texcoords, used[:, 1]),
            )
        )
    return tuple(parts)


def _taken(values: Floats, indices: NDArray[np.int64]) -> Floats | None:
    usable = len(values) > 0 and indices.min() >= 1 and indices.max() <= len(values)
    return values[indices - 1] if usable else None


def _upright(parts: Sequence[Part], record: ModelRecord) -> Model:
    turn = np.array(record.rotation or np.eye(3).ravel(), np.float32).reshape(3, 3)
    turned = [part.positions @ turn.T for part in parts]
    low = np.min([positions.min(0) for positions in turned], 0)
    high = np.max([positions.max(0) for positions in turned], 0)
    extent = np.maximum(high - low, _SMALLEST)
    scale = (np.array(record.size, np.float32) / extent).astype(np.float32)
    origin = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2], np.float32)
    placed = []
    for part, positions in zip(parts, turned, strict=True):
        normals = None if part.normals is None else _unit((part.normals @ turn.T) / scale)
        placed.append(replace(part, positions=((positions - origin) * scale).astype(np.float32), normals=normals))
    return Model(tuple(placed), record.size, record.hung, record.walled)


def _unit(vectors: Floats) -> Floats:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SMALLEST)
    unit: Floats = (vectors / lengths).astype(np.float32)
    return unit


def _read_materials(bundle: zipfile.ZipFile, path: str, names: set[str]) -> dict[str, Material]:
    found: dict[str, Material] = {}
    current = ""
    for line in bundle.read(path).decode("latin-1").splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "newmtl":
            current = rest.strip()
            found[current] = Material()
        elif current:
            found[current] = _with_property(found[current], kind, rest.strip(), bundle, path, names)
    return found


def _with_property(
    material: Material, kind: str, value: str, bundle: zipfile.ZipFile, path: str, names: set[str]
) -> Material:
    if kind == "map_Kd":
        name = posixpath.join(posixpath.dirname(path), value.replace("\\", "/").split("/")[-1])
        return replace(material, texture=_read_texture(bundle.read(name))) if name in names else material
    try:
        numbers = [float(word) for word in value.split()]
        if kind == "Kd":
            red, green, blue = numbers[:3]
            return replace(material, colour=(red, green, blue))
        if kind == "Ns":
            return replace(material, shininess=numbers[-1])
        if kind == "d":
            return replace(material, opacity=numbers[-1])
    except (ValueError, IndexError):
        # A line that is not as the format says leaves the property at its default, as other readers do.
        return material
    return material


def _read_texture(content: bytes) -> Image.Image:
    texture = read_cutout(content)
    if texture.getchannel("A").getextrema() == (255, 255):
        texture = texture.convert("RGB")
    texture.thumbnail((_LONGEST_TEXTURE, _LONGEST_TEXTURE), Image.Resampling.LANCZOS)
    return texture
