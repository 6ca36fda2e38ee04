"""A pack of the generator render with a few small models."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from line_neurons.tools.rendering.catalogue import CATALOGUE, ModelRecord, read_library
from line_neurons.tools.rendering.renderer import open_mitsuba
from line_neurons.tools.rendering.surroundings import GROUNDS, PLACES

SIZES = {"crate": (60, 50, 40), "box": (30, 30, 30), "board": (100, 80, 2), "clock": (30, 30, 4)}
"""Width, height and depth in cm of the models, all of which are cuboids."""

_CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
_FACES = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))


def cuboid_obj(material: str = "side") -> str:
    """Return an OBJ file of a cube with its corners at 0 and 1."""
    lines = [
        "mtllib cube.mtl",
        *(f"v {x} {y} {z}" for x, y, z in _CORNERS),
        "vt 0 0",
        "vt 1 1",
        f"usemtl {material}",
    ]
    lines += ["f " + " ".join(f"{corner}/{1 + corner % 2}" for corner in face) for face in _FACES]
    return "\n".join(lines)


def write_pack(folder: Path, exr: bytes = b"no image") -> Path:
    """Write a pack whose panoramas are all ``exr``."""
    for name in ("libraries", "hdri", "textures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    texture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(60, 200, (8, 8, 3), dtype=np.uint8)).save(texture, "PNG")
    rows = ["id=Test"]
    with zipfile.ZipFile(folder / "libraries" / "Things.sh3f", "w") as bundle:
        for number, (name, (width, height, depth)) in enumerate(SIZES.items(), 1):
            values = {"name": name, "icon": f"/{name}.png", "model": f"/{name}/{name}.obj", "creator": "Somebody"}
            values |= {"width": width, "height": height, "depth": depth, "doorOrWindow": "false"}
            values |= {"elevation": 150} if name == "clock" else {}
            rows += [f"{key}#{number}={value}" for key, value in values.items()]
            bundle.writestr(f"{name}/{name}.obj", cuboid_obj())
            map_line = "map_Kd wood.png\n" if name == "box" else ""
            bundle.writestr(f"{name}/cube.mtl", f"newmtl side\nKd 0.6 0.5 0.4\nNs 20\n{map_line}")
            bundle.writestr(f"{name}/wood.png", texture.getvalue())
        bundle.writestr(CATALOGUE, "\n".join(rows).encode("latin-1"))
    for name in {name for place in PLACES.values() for name in place.panoramas} | {"night", "sunset", "sunrise"}:
        text = f"export default 'data:application/exr;base64,{base64.b64encode(exr).decode()}'"
        (folder / "hdri" / f"{name}.exr.js").write_text(text)
    for ground in GROUNDS.values():
        for name in ground.images:
            Image.new("RGB", (4, 4), (120, 140, 80)).save(folder / "textures" / name)
    return folder


def records(pack: Path) -> dict[str, ModelRecord]:
    """Return the records of the models by name."""
    return {
        icon.removesuffix(".png"): record
        for icon, record in read_library(next((pack / "libraries").iterdir())).items()
    }


def write_renderable_pack(folder: Path) -> Path:
    """Write a pack with a panorama that can be rendered; skip the test where the extra is not installed."""
    for package in ("mitsuba", "pyoidn"):
        pytest.importorskip(package, reason="the extra render is not installed")
    mitsuba = open_mitsuba()
    sky = np.full((8, 16, 3), 0.5, np.float32)
    sky[:4] = (0.6, 0.8, 1.2)
    stream = mitsuba.MemoryStream()
    mitsuba.Bitmap(sky).write(stream, mitsuba.Bitmap.FileFormat.OpenEXR)
    stream.seek(0)
    return write_pack(folder, stream.raw_buffer())
