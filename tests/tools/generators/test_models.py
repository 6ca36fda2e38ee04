import inspect
import itertools
import json
import shutil
import subprocess
import sys

import pytest
import torch

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.errors import BackendError, MissingPartError, UsageError
from line_neurons.tools.generators.presets import PRESETS
from line_neurons.tools.generators.text_to_image import open_text_to_image
from line_neurons.tools.generators.weights import choose_files
from line_neurons.tools.images.png import with_file
from line_neurons.tools.packages import pip_install
from support import tiny_pipelines
from support.tiny_pipelines import LIGHTNING, ask, save, save_lora, tiny

STAND_INS = {
    "sdxl": "sdxl",
    "sdxl-turbo": "sdxl",
    "sdxl-lightning": "lightning",
    "sd15": "sd15",
    "sd-turbo": "sd15",
    "flux-dev": "flux",
    "flux-schnell": "flux-schnell",
}


@pytest.fixture
def copied(sdxl, tmp_path):
    """A copy of the tiny SDXL that a test may spoil."""
    return shutil.copytree(sdxl, tmp_path / "copy")


def png(generator) -> bytes:
    return with_file(generator.synthesize([ask("cat", 1)])[0]).png


def drawn_with(generator) -> dict:
    """The arguments that the pipeline is called with."""
    pipe, seen = generator._pipe, {}

    class Spy(type(pipe)):
        def __call__(self, **given):
            seen.update(given)
            return super().__call__(**given)

    Spy.__name__ = type(pipe).__name__
    Spy.__call__.__signature__ = inspect.signature(type(pipe).__call__)
    pipe.__class__ = Spy
    generator.synthesize([ask("cat")])
    return seen


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_draws_with_its_settings(folders, name):
    preset = PRESETS[name]
    settings = DiffusionSettings(size=32)
    generator = open_text_to_image(f"{name}={folders[STAND_INS[name]]}", settings, device="cpu")
    given = drawn_with(generator)
    assert given["num_inference_steps"] == preset.steps
    assert given["guidance_scale"] == preset.guidance
    assert (given["height"], given["width"]) == (32, 32)
    assert given["output_type"] == "pt"
    assert {key: given[key] for key in preset.call} == dict(preset.call)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_without_weights_says_what_to_get_and_how_large_it_is(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    generator = open_text_to_image(name, DiffusionSettings(), device="cpu")
    with pytest.raises(MissingPartError) as caught:
        generator.synthesize([ask("cat")])
    preset, said = PRESETS[name], str(caught.value)
    assert "\n" not in said
    for part in (name, preset.hub, preset.denoiser_hub, f"{preset.gigabytes} GB", f"{name}=FOLDER", "--download"):
        assert part in said
    assert ("licence" in said) == preset.gated


def test_settings_go_before_the_preset_and_the_models_own_defaults_after(sdxl):
    assert drawn_with(tiny(f"sdxl={sdxl}", steps=3, guidance=2.0))["guidance_scale"] == 2.0
    given = drawn_with(open_text_to_image(str(sdxl), DiffusionSettings(steps=1), device="cpu"))
    assert given["guidance_scale"] == 5.0
    assert "height" not in given


def test_opening_reads_nothing_and_the_fingerprint_loads_no_weights(folders, copied):
    generator = tiny(copied)
    assert "_recipe" not in vars(generator)
    moved = copied.rename(copied.with_name("moved"))
    with pytest.raises(UsageError, match=r"no model_index\.json"):
        _ = generator.fingerprint
    known = tiny(moved)
    assert known.fingerprint == tiny(folders["sdxl"]).fingerprint
    assert "_pipe" not in vars(known)


def test_other_weights_are_another_fingerprint(copied):
    before = tiny(copied).fingerprint
    tiny_pipelines.save_denoiser(copied / "unet" / "diffusion_pytorch_model.safetensors")
    assert tiny(copied).fingerprint != before


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sdlx", r"no image generator \(near: sdxl"),
        ("./no/such/folder", "there is no folder './no/such/folder'"),
        ("sdxl=nowhere", "there is no folder 'nowhere'"),
        ("sdxl=", "there is no folder ''"),
        ("", "no image generator"),
        ("a/b/c", "there is no folder"),
        ("__FILE__", "is a file"),
    ],
)
def test_a_name_that_means_nothing_is_refused_at_once(spec, said):
    with pytest.raises(UsageError, match=said):
        open_text_to_image(spec.replace("__FILE__", __file__), DiffusionSettings())


def test_a_preset_is_not_drawn_with_another_kind_of_model(folders):
    with pytest.raises(UsageError, match=r"holds a FluxPipeline, .* StableDiffusionXLPipeline"):
        _ = tiny(f"sdxl={folders['flux']}").fingerprint


def test_weights_that_can_hold_code_are_refused(copied):
    (copied / "unet" / "diffusion_pytorch_model.safetensors").rename(
        copied / "unet" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(UsageError, match=r"unet has weights only as diffusion_pytorch_model\.bin, .*code"):
        _ = tiny(copied).fingerprint


def test_a_folder_without_some_weights_is_refused(copied):
    (copied / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UsageError, match="no safetensors weights of vae"):
        _ = tiny(copied).fingerprint


def test_a_torn_weights_file_is_one_line(copied):
    file = copied / "unet" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(UsageError, match=rf"was cut off: {len(whole) - 1:,} of {len(whole):,} bytes .*again\)$"):
        _ = tiny(copied).fingerprint
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 46830571\n")
    with pytest.raises(UsageError, match=r"model\.safetensors is a Git LFS pointer.*git lfs pull"):
        _ = tiny(copied).fingerprint
    file.write_bytes(whole.replace(b"conv_in.weight", b"conv_on.weight"))
    with pytest.raises(BackendError, match=r"cannot be loaded: .*again\)$"):
        png(tiny(copied))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_class_name": ["own", "OwnPipeline"]}, "code of its own"),
        ({"_class_name": "os.system"}, "names no pipeline class"),
        ({"_class_name": "NoSuchPipeline"}, "does not generate images from text alone"),
        ({"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "does not generate images from text alone"),
        ({"_class_name": "StableDiffusionXLControlNetPipeline"}, "does not generate images from text alone"),
        ({"unet": ["own_unet", "OwnUNet"]}, "its unet comes from 'own_unet'"),
    ],
)
def test_code_of_a_model_is_never_run_and_other_tasks_are_refused(copied, changes, said):
    index = copied / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    with pytest.raises(UsageError, match=said):
        _ = tiny(copied).fingerprint


def test_a_python_file_beside_the_weights_is_refused(copied):
    (copied / "unet" / "diffusers.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UsageError, match=r"code of its own \(unet/diffusers\.py\)"):
        _ = tiny(copied).fingerprint


def test_half_precision_files_are_read_unless_full_precision_is_asked_for(tmp_path):
    pipe = tiny_pipelines.sdxl()
    save(pipe, tmp_path / "both")
    save(pipe.to("cpu", torch.float16), tmp_path / "both", variant="fp16")
    half = tiny(tmp_path / "both")
    full = tiny(tmp_path / "both", dtype="float32")
    assert half.synthesize([ask("cat")])[0].provenance["variant"] == "fp16"
    assert full.synthesize([ask("cat")])[0].provenance["variant"] is None
    assert half.fingerprint != full.fingerprint


def test_only_what_drawing_reads_is_chosen():
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "image_encoder": [None, None],
        "requires_safety_checker": True,
    }
    files = [
        "model_index.json",
        "README.md",
        "v1-5-pruned.safetensors",
        "v1-5-pruned.ckpt",
        "feature_extractor/preprocessor_config.json",
        "safety_checker/config.json",
        "safety_checker/model.fp16.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/model.onnx",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/flax_model.msgpack",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "tokenizer/tokenizer_config.json",
    ]
    shared = ["model_index.json", "text_encoder/config.json", "text_encoder/model.safetensors"]
    shared += [
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
    ]
    for variant, weights in (("fp16", "model.fp16"), (None, "model")):
        chosen = choose_files(files, index, variant)
        assert sorted(chosen) == sorted([*shared, f"unet/diffusion_pytorch_{weights}.safetensors"])


def test_of_several_weights_of_unusual_names_none_is_guessed():
    index = {"unet": ["diffusers", "UNet2DConditionModel"]}
    ema, other = (f"unet/diffusion_pytorch_model.{name}.safetensors" for name in ("ema", "non_ema"))
    assert choose_files([ema], index, None) == ("model_index.json", ema)
    with pytest.raises(UsageError, match="unet has several weights, none of a usual name: ema, non_ema"):
        choose_files([ema, other], index, "fp16")


def test_shards_come_with_the_index_of_their_variant(copied):
    files = [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "unet/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
    ]
    index = {"unet": ["diffusers", "UNet2DConditionModel"]}
    assert set(choose_files(files, index, None)) == {"model_index.json", *files[:4]}
    assert set(choose_files(files, index, "fp16")) == {"model_index.json", files[0], *files[4:]}
    weights = json.dumps({"weight_map": {"a": "diffusion_pytorch_model-00001-of-00001.safetensors", "b": "lost"}})
    (copied / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(weights)
    with pytest.raises(UsageError, match="no safetensors weights of unet"):
        _ = tiny(copied).fingerprint


def test_lightning_draws_with_the_denoiser_and_the_scheduler_of_its_steps(folders):
    folder = folders["lightning"]
    spec = f"sdxl-lightning={folder}"
    four = tiny(spec, steps=4)
    plain = tiny(folder, steps=4, guidance=0.0)
    assert four._pipe.scheduler.config.timestep_spacing == "trailing"
    assert four._pipe.scheduler.config.prediction_type == "epsilon"
    assert png(four) != png(plain)
    assert four.fingerprint != plain.fingerprint
    ratio = four._pipe.unet.conv_in.weight / plain._pipe.unet.conv_in.weight
    assert ratio.min() > 1.09
    assert tiny(spec, steps=1)._pipe.scheduler.config.prediction_type == "sample"
    assert not any(value.is_meta for value in four._pipe.unet.state_dict().values())


def test_lightning_refuses_steps_that_it_was_not_distilled_for(folders):
    with pytest.raises(UsageError, match=r"no checkpoint for 5 steps .*1, 2, 4, 8"):
        _ = tiny(f"sdxl-lightning={folders['lightning']}", steps=5).fingerprint
    with pytest.raises(MissingPartError, match=r"no sdxl_lightning_8step_unet\.safetensors .*ByteDance"):
        _ = tiny(f"sdxl-lightning={folders['lightning']}", steps=8).fingerprint


def test_lightning_does_not_read_the_denoiser_it_replaces(folders, tmp_path):
    folder = shutil.copytree(folders["lightning"], tmp_path / "copy")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert png(tiny(f"sdxl-lightning={folder}", steps=4)) == png(
        tiny(f"sdxl-lightning={folders['lightning']}", steps=4)
    )
    assert (folder / LIGHTNING[0]).is_file()


def test_a_lora_alters_images_by_its_weight(sdxl, tmp_path):
    file = save_lora(tmp_path)
    plain, whole, half, none = (
        tiny(sdxl, lora=lora) for lora in ((), (str(file),), (f"{file}=0.5",), (f"{file}=0",))
    )
    assert len({png(one) for one in (plain, whole, half)}) == 3
    assert png(none) == png(plain)
    assert len({one.fingerprint for one in (plain, whole, half, none)}) == 4
    (said,) = whole.synthesize([ask("cat")])[0].provenance["lora"]
    assert (said["file"], said["weight"]) == (file.name, 1.0)


def test_two_loras_add_up(sdxl, tmp_path):
    first, second = (save_lora(tmp_path / str(seed), seed) for seed in (1, 2))
    images = {png(tiny(sdxl, lora=lora)) for lora in ((str(first),), (str(second),), (str(first), str(second)))}
    assert len(images) == 3


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ("none.safetensors", "there is no LoRA file 'none.safetensors'"),
        ("FILE=strong", "the weight 'strong'"),
        ("FILE=nan", "the weight 'nan'"),
        ("BIN", "is not a .safetensors file"),
        ("WRONG", "holds nothing for|does not fit"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(sdxl, tmp_path, lora, said):
    from safetensors.torch import save_file

    (tmp_path / "lora.bin").write_bytes(b"x")
    save_file({"transformer.blocks.0.attn.to_q.lora_A.weight": torch.ones(4, 8)}, tmp_path / "wrong.safetensors")
    names = {"FILE": save_lora(tmp_path), "BIN": tmp_path / "lora.bin", "WRONG": tmp_path / "wrong.safetensors"}
    for name, path in names.items():
        lora = lora.replace(name, str(path))
    with pytest.raises(UsageError, match=said):
        png(tiny(sdxl, lora=(lora,)))


def test_a_lora_that_fits_the_text_encoder_alone_is_refused(folders, tmp_path):
    with pytest.raises(UsageError, match="holds nothing for"):
        png(tiny(folders["flux"], lora=(str(save_lora(tmp_path)),)))


def test_a_lora_of_other_sizes_is_one_line_that_names_them(folders, tmp_path, capsys):
    with pytest.raises(UsageError, match=r"does not fit .*: size mismatch for ") as caught:
        png(tiny(folders["sd15"], lora=(str(save_lora(tmp_path)),)))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_the_name_of_a_lora_file_may_hold_an_equals_sign(sdxl, tmp_path):
    file = save_lora(tmp_path).rename(tmp_path / "rank=4.safetensors")
    (said,) = tiny(sdxl, lora=(str(file),)).synthesize([ask("cat")])[0].provenance["lora"]
    assert (said["file"], said["weight"]) == (file.name, 1.0)


def test_a_folder_has_no_revisions(sdxl):
    with pytest.raises(UsageError, match=r"has no revisions .*diffusion\.revision"):
        _ = tiny(sdxl, revision="main").fingerprint


@pytest.mark.parametrize(
    ("package", "code", "said"),
    [
        ("diffusers", "raise ModuleNotFoundError('no', name='diffusers')", "diffusers is not installed, "),
        ("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", "torchvision fails: op"),
    ],
)
def test_packages_that_are_missing_or_do_not_fit_are_one_line(tmp_path, package, code, said):
    # Those before it take seconds to import.
    packages = ("torchvision", "accelerate", "transformers", "peft")
    for before in itertools.takewhile(lambda name: name != package, packages):
        (tmp_path / f"{before}.py").touch()
    (tmp_path / f"{package}.py").write_text(code)
    check = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from line_neurons.agent.errors import MissingPartError\n"
        "from line_neurons.tools.generators.pipeline import require_packages\n"
        "try: require_packages()\n"
        "except MissingPartError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", check, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(said)
    assert f"({pip_install('diffusion')}" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_pipeline_that_encodes_prompts_itself_is_handed_them(tmp_path):
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    parts = tiny_pipelines.sd15().components | {
        "unet": tiny_pipelines.unet(
            attention_head_dim=4, cross_attention_dim=tiny_pipelines.WIDTH, time_cond_proj_dim=32
        ),
        "scheduler": LCMScheduler(),
    }
    save(LatentConsistencyModelPipeline(**parts, requires_safety_checker=False), tmp_path)
    generator = tiny(tmp_path)
    seen = []
    requests = [ask("cat", 1), ask("dog", 1), ask("cat", 1)]
    cat, dog, again = generator.synthesize(requests, lambda *done: seen.append(done))
    assert cat == again
    assert cat.png != dog.png
    assert seen[-1] == (6, 6)
    assert cat.provenance["batch"] == 1
