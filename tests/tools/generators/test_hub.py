import json
import subprocess
import sys
from pathlib import Path

import pytest

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.errors import MissingPartError
from line_neurons.tools.generators.text_to_image import open_text_to_image
from support.fake_hub import COMMIT, fill_cache, hub_of
from support.tiny_pipelines import ask, tiny


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_model_in_the_hubs_cache_is_drawn_with_without_a_network(sdxl, cache):
    fill_cache(cache, "lab/tiny", sdxl)
    generator = tiny("lab/tiny")
    folder = tiny(sdxl)
    (drawn,) = generator.synthesize([ask("cat")])
    assert drawn.png == folder.synthesize([ask("cat")])[0].png
    assert generator.fingerprint == folder.fingerprint
    assert (drawn.provenance["model"], drawn.provenance["commit"]) == ("lab/tiny", COMMIT)


def test_a_preset_takes_another_repository_of_its_kind(sdxl, cache):
    fill_cache(cache, "lab/fine-tuned", sdxl)
    generator = open_text_to_image("sdxl=lab/fine-tuned", DiffusionSettings(), device="cpu")
    assert "steps=25 guidance=5.0 size=1024" in generator.fingerprint


def test_lightning_takes_its_denoiser_from_a_repository_of_its_own(folders, cache):
    fill_cache(cache, "stabilityai/stable-diffusion-xl-base-1.0", folders["sdxl"])
    with pytest.raises(MissingPartError, match="ByteDance/SDXL-Lightning"):
        _ = tiny("sdxl-lightning", steps=4).fingerprint
    fill_cache(cache, "ByteDance/SDXL-Lightning", folders["lightning"])
    generator = tiny("sdxl-lightning", steps=4)
    assert generator.synthesize([ask("cat")]) != tiny(folders["sdxl"], steps=4).synthesize([ask("cat")])


def test_half_a_download_counts_as_missing(sdxl, cache):
    fill_cache(cache, "lab/tiny", sdxl, leave_out="vae/diffusion_pytorch_model.safetensors")
    with pytest.raises(MissingPartError, match=r"lab/tiny is not here.*--download.*hf download lab/tiny"):
        _ = tiny("lab/tiny").fingerprint


def test_a_revision_that_is_not_in_the_cache_is_named(sdxl, cache):
    fill_cache(cache, "lab/tiny", sdxl)
    assert tiny("lab/tiny", revision="main").fingerprint
    with pytest.raises(MissingPartError, match=r"at revision 'v2' is not here.*--revision v2"):
        _ = tiny("lab/tiny", revision="v2").fingerprint


FIND = """
import sys
from line_neurons.agent.errors import LineError
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.generators.weights import find_lora, find_model
for spec in sys.argv[1:]:
    try:
        if spec.startswith("lora:"):
            print(find_lora(spec[5:], download=True)[0].name)
        else:
            found = find_model(parse_source(spec), revision=None, full_precision=False, steps=4, download=True)
            print(found.commit, found.variant, *found.files)
    except LineError as error:
        print(type(error).__name__, error)
"""


def test_a_download_takes_only_what_drawing_reads(sdxl, tmp_path):
    served = tmp_path / "served"
    for path in (path for path in sdxl.rglob("*") if path.is_file()):
        copy = served / path.relative_to(sdxl)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        if path.suffix == ".safetensors":
            copy.with_suffix(".fp16.safetensors").write_bytes(path.read_bytes())
            copy.with_suffix(".bin").write_bytes(b"code")
    (served / "all_in_one.safetensors").write_bytes(b"large")
    (served / "README.md").write_text("about")
    loras = tmp_path / "loras"
    loras.mkdir()
    for name in ("one.safetensors", "two.safetensors"):
        (loras / name).write_text(name)
    pickled = tmp_path / "pickled"
    (pickled / "unet").mkdir(parents=True)
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (pickled / "model_index.json").write_text(json.dumps(index))
    (pickled / "unet" / "config.json").write_text("{}")
    (pickled / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"code")
    with hub_of({"lab/tiny": served, "lab/loras": loras, "lab/pickled": pickled}, tmp_path / "home") as hub:
        specs = ["lab/tiny", "lab/tiny", "lab/none", "lab/gated", "flux-dev", "lab/pickled"]
        specs += ["lora:lab/loras", "lora:lab/loras/two.safetensors"]
        done = subprocess.run(
            [sys.executable, "-c", FIND, *specs],
            check=False,
            env=hub.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    first, again, none, gated, flux, unsafe, several, lora = done.stdout.splitlines()
    assert first == again
    commit, variant, *files = first.split()
    assert (commit, variant) == (COMMIT, "fp16")
    sent = hub.sent
    assert {"unet/diffusion_pytorch_model.fp16.safetensors", "tokenizer_2/tokenizer_config.json"} <= set(files)
    assert set(sent) - set(files) == {"one.safetensors", "two.safetensors"}
    weights = [name for name in files if name.endswith(".safetensors")]
    assert [sent.count(name) for name in weights] == [1] * 4
    assert none.startswith("UsageError the hub has no repository 'lab/none'")
    assert gated.startswith("MissingPartError lab/gated is available only after accepting its licence")
    assert "hf auth login" in flux
    assert unsafe.startswith("UsageError lab/pickled has no safetensors weights of unet")
    assert several.startswith("UsageError lab/loras has several LoRA files: one.safetensors, two.safetensors")
    assert lora == "two.safetensors"
