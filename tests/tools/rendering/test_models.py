"""Libraries of 3D models, and their OBJ files."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from line_neurons.tools.rendering.catalogue import CATALOGUE, ModelRecord, read_library
from line_neurons.tools.rendering.meshes import read_model
from support.model_pack import SIZES, cuboid_obj


def library(tmp_path, obj, mtl="", **files):
    path = tmp_path / "One.sh3f"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("a/one.obj", obj)
        bundle.writestr("a/cube.mtl", mtl)
        for name, content in files.items():
            bundle.writestr(f"a/{name}.png", content)
    return ModelRecord(path, "a/one.obj", (20.0, 10.0, 40.0))


def test_a_library_lists_its_models_by_icon_with_their_size_and_place(models):
    assert set(models) == set(SIZES)
    assert {name: record.size for name, record in models.items()} == SIZES
    assert [name for name, record in models.items() if record.hung] == ["clock"]
    assert models["clock"].walled and not models["board"].walled


@pytest.mark.parametrize("content", [b"no zip", None])
def test_a_file_that_is_no_library_says_so(tmp_path, content):
    path = tmp_path / "Bad.sh3f"
    if content is None:
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("readme", "")
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Bad\.sh3f is no library of models"):
        read_library(path)


def test_a_record_without_a_size_is_an_error(tmp_path):
    path = tmp_path / "Bad.sh3f"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(CATALOGUE, "icon#1=/a.png\nmodel#1=/a.obj\n")
    with pytest.raises(ValueError, match="has a model without 'width'"):
        read_library(path)


def test_a_model_stands_on_the_floor_in_its_real_size(models):
    for name, record in models.items():
        model = read_model(record)
        points = np.concatenate([part.positions for part in model.parts])
        assert np.ptp(points, axis=0) == pytest.approx(SIZES[name], rel=1e-4)
        assert points[:, 1].min() == 0
        assert (points.min(0) + points.max(0))[[0, 2]] == pytest.approx((0, 0), abs=1e-3)
        assert sum(len(part.faces) for part in model.parts) == 12


def test_the_surface_is_sampled_evenly_by_area(models):
    model = read_model(models["crate"])
    points = model.surface(4000)
    assert points.tolist() == model.surface(4000).tolist()
    top = float(np.mean(points[:, 1] > 49.99))
    width, height, depth = SIZES["crate"]
    whole = 2 * (width * height + width * depth + height * depth)
    assert top == pytest.approx(width * depth / whole, abs=0.03)


def test_materials_have_colour_opacity_shininess_and_texture(tmp_path):
    picture = io.BytesIO()
    Image.new("RGBA", (2, 2), (10, 200, 30, 100)).save(picture, "PNG")
    mtl = "newmtl side\nKd 0.1 0.2 0.3\nd 0.4\nNs 96\nKs oops\nmap_Kd textures\\leaf.png\n"
    (part,) = read_model(library(tmp_path, cuboid_obj(), mtl, leaf=picture.getvalue())).parts
    material = part.material
    assert (material.colour, material.opacity, material.shininess) == ((0.1, 0.2, 0.3), 0.4, 96)
    assert material.texture is not None and material.texture.getpixel((0, 0)) == (10, 200, 30, 100)
    assert part.texcoords is not None and part.normals is None


def test_negative_indices_count_from_the_end(tmp_path):
    corners = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 1\n"
    (first,) = read_model(library(tmp_path, f"{corners}f 1 2 3 4")).parts
    (second,) = read_model(library(tmp_path, f"{corners}f -4 -3 -2 -1")).parts
    assert np.array_equal(first.positions[first.faces], second.positions[second.faces])


@pytest.mark.parametrize(
    ("obj", "reason"),
    [("v 0 0 0\nf 1 2 3", "a vertex that the file does not have"), ("v 0 0 0", "has no triangles")],
)
def test_a_broken_model_says_why(tmp_path, obj, reason):
    with pytest.raises(ValueError, match=reason):
        read_model(library(tmp_path, obj))


def test_a_model_that_the_library_lacks_is_named(models):
    record = ModelRecord(models["box"].library, "none.obj", (1, 1, 1))
    with pytest.raises(ValueError, match=r"Things\.sh3f has no none\.obj"):
        read_model(record)
