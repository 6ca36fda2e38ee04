import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.errors import BackendError, BlankImageError, UsageError
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.generators.pipeline import place
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.generators.text_to_image import TextToImage
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget
from support import tiny_pipelines
from support.tiny_pipelines import ask, tiny

ARCHITECTURES = ("sdxl", "sd15", "flux")


@pytest.fixture(scope="module")
def drawer(sdxl):
    """A generator with batches of two; tests leave it as they found it."""
    return tiny(sdxl, batch=2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_images_are_pngs_with_the_same_pixels_beside_them(folders, architecture):
    drawn = tiny(folders[architecture], batch=2).synthesize([ask("cat"), ask("dog", 1)])
    for image in drawn:
        with Image.open(BytesIO(image.png)) as opened:
            assert opened.format == "PNG"
            assert opened.info == {}
            assert (np.asarray(opened) == image.pixels).all()
        assert image.pixels.shape == (32, 32, 3)
        assert image.pixels.dtype == np.uint8
        assert image.pixels.std() > 10
        assert "warning" not in image.provenance


def test_files_are_left_to_whoever_keeps_the_images(sdxl, tmp_path):
    settings = DiffusionSettings(steps=2, size=32)
    generator = TextToImage(parse_source(str(sdxl)), settings, device="cpu", download=False, expected_batch=2)
    (image,) = generator.synthesize([ask("cat")])
    assert image.png == b""
    with closing(Cache(tmp_path)) as cache:
        (kept,) = cache.images([ask("cat")], generator)
        content = cache.image_bytes(kept)
    assert kept == hashlib.sha256(content).hexdigest()
    with Image.open(BytesIO(content)) as opened:
        assert (np.asarray(opened) == image.pixels).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_image_follows_from_prompt_and_seed(folders, architecture):
    generator = tiny(folders[architecture], batch=4)
    one, again, other_seed, other_prompt = generator.synthesize(
        [ask("cat", 3), ask("cat", 3), ask("cat", 4), ask("dog", 3)]
    )
    assert one == again
    assert abs(one.pixels.astype(int) - other_seed.pixels).mean() > 5
    assert abs(one.pixels.astype(int) - other_prompt.pixels).mean() > 0.2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_image_does_not_depend_on_what_it_is_drawn_with(folders, architecture):
    generator = tiny(folders[architecture], batch=3)
    rows = []
    pipe = generator._pipe
    (getattr(pipe, "unet", None) or pipe.transformer).register_forward_pre_hook(
        fails_above(99, rows), with_kwargs=True
    )
    requests = [ask("cat", 1), ask("dog", 2), ask("a very long green train", 3), ask("x", 4)]
    together = generator.synthesize(requests)
    assert [generator.synthesize([request])[0].png for request in requests] == [one.png for one in together]
    assert [one.png for one in generator.synthesize(requests[::-1])] == [one.png for one in together[::-1]]
    assert len(set(rows)) == 1  # always the same shape: bits depend on it


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Evaluates expressions in another process, which has the tiny pipelines at hand; gives value and stderr."""
    errors = tmp_path_factory.mktemp("elsewhere") / "stderr"
    (path,) = {path for path in sys.path if path.endswith("tests")}
    code = (
        "import hashlib, json, sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1])\n"
        "from support.tiny_pipelines import ask, tiny\n"
        "for line in sys.stdin: print(json.dumps(eval(line)), flush=True)\n"
    )
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", code, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):

        def evaluate(expression):
            before = errors.stat().st_size
            print(expression, file=process.stdin, flush=True)
            value, said = process.stdout.readline(), errors.read_text()[before:]
            assert value, said
            return json.loads(value), said

        yield evaluate
        process.stdin.close()


def test_another_process_draws_the_same_bytes(sdxl, drawer, elsewhere):
    requests = "[ask('cat'), ask('dog', 7)]"
    (fingerprint, hashes), said = elsewhere(
        f"[(one.fingerprint, [hashlib.sha256(image.png).hexdigest() for image in one.synthesize({requests})])"
        f" for one in [tiny({str(sdxl)!r}, batch=2)]][0]"
    )
    drawn = drawer.synthesize([ask("cat"), ask("dog", 7)])
    assert hashes == [hashlib.sha256(image.png).hexdigest() for image in drawn]
    assert fingerprint == drawer.fingerprint
    assert said == ""


def test_progress_counts_the_steps_of_every_image(drawer):
    seen = []
    drawer.synthesize([ask("cat"), ask("dog"), ask("bird")], lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 6)
    assert sorted(set(seen)) == [(0, 6), (2, 6), (4, 6), (5, 6), (6, 6)]
    assert seen == sorted(seen)


class Cancelled(RuntimeError):
    """What an interface raises to stop the work."""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_raising_from_progress_cancels_within_a_step_and_the_next_call_works(folders, architecture):
    generator = tiny(folders[architecture], steps=6, batch=2)
    whole = generator.synthesize([ask("cat"), ask("dog")])
    passes = []
    pipe = generator._pipe
    network = getattr(pipe, "unet", None) or pipe.transformer
    hook = network.register_forward_hook(lambda *_: passes.append(1))

    def stop_at_half(done, total):
        if done >= total / 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        generator.synthesize([ask("cat"), ask("dog")], stop_at_half)
    hook.remove()
    assert 0 < len(passes) <= 4
    assert generator.synthesize([ask("cat"), ask("dog")]) == whole


def fails_above(limit, seen, error=None):
    def check(_module, args, kwargs):
        rows = (args[0] if args else kwargs["hidden_states"]).shape[0]
        seen.append(rows)
        if rows > limit:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return check


def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered(sdxl, caplog):
    generator = tiny(sdxl, batch=4)
    rows = []
    unet = generator._pipe.unet
    unet.register_forward_pre_hook(fails_above(4, rows), with_kwargs=True)  # two images, with guidance
    requests = [ask("cat", seed) for seed in range(5)]
    drawn = generator.synthesize(requests)
    assert rows == [8, *[4] * 6]
    assert "batches of 2" in caplog.text
    generator.synthesize(requests[:2])
    assert rows[7:] == [4] * 2
    assert [image.png for image in drawn] == [i.png for i in tiny(sdxl, batch=2).synthesize(requests)]


def test_progress_does_not_go_back_when_a_batch_is_drawn_again(sdxl):
    generator = tiny(sdxl, steps=4, batch=2)
    passes, seen = [], []

    def fail_late(*_):
        passes.append(1)
        if len(passes) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    generator._pipe.unet.register_forward_pre_hook(fail_late)
    generator.synthesize([ask("cat"), ask("dog")], lambda done, total: seen.append((done, total)))
    assert len(passes) == 4 + 8
    assert seen == sorted(seen)
    assert (6, 8) in seen[:5]
    assert seen[-1] == (8, 8)


def test_memory_of_the_cpu_runs_out_in_words_only(sdxl):
    generator = tiny(sdxl, batch=2)
    said = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"
    )
    generator._pipe.unet.register_forward_pre_hook(fails_above(2, [], said), with_kwargs=True)
    assert len(generator.synthesize([ask("cat"), ask("dog")])) == 2


def test_one_image_that_does_not_fit_is_an_error_with_remedies(sdxl):
    generator = tiny(sdxl, batch=2)
    generator._pipe.unet.register_forward_pre_hook(fails_above(0, []), with_kwargs=True)
    with pytest.raises(BackendError, match=r"not even one image.*offload.*vae_tiling.*size.*preset"):
        generator.synthesize([ask("cat"), ask("dog")])


def test_memory_that_runs_out_while_a_half_precision_vae_decodes_leaves_no_trace(sdxl):
    generator = tiny(sdxl, batch=1, dtype="float16")
    first = generator.synthesize([ask("cat")])
    vae = generator._pipe.vae
    decode = vae.decode

    def fail_once(*args, **kwargs):
        vae.decode = decode
        assert vae.dtype == torch.float32
        raise Cancelled("no more")

    vae.decode = fail_once
    with pytest.raises(BackendError, match="no more"):
        generator.synthesize([ask("cat")])
    assert vae.dtype == torch.float16
    assert generator.synthesize([ask("cat")]) == first


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_is_encoded_once(folders, architecture):
    generator = tiny(folders[architecture], batch=2)
    encoded = []
    generator._pipe.text_encoder.register_forward_hook(lambda *_: encoded.append(1))
    generator.synthesize([ask("cat", seed) for seed in range(3)] + [ask("dog")])
    uncond = architecture == "sd15"  # SDXL has zeros for the empty prompt, FLUX needs none
    assert len(encoded) == 2 + uncond
    generator.synthesize([ask("dog", 9)])
    assert len(encoded) == 2 + uncond


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prompts_encoded_apart_draw_what_the_pipeline_itself_draws(folders, architecture):
    generator = tiny(folders[architecture], batch=1)
    (drawn,) = generator.synthesize([ask("cat", 3)])
    pipe = generator._pipe
    image = pipe(
        ask("cat").prompt,
        num_inference_steps=2,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images[0]
    assert (drawn.pixels == (image * 255).round().astype(np.uint8)).all()


def test_a_prompt_that_is_cut_is_told(drawer, caplog):
    drawer.synthesize([ask("a very long thing " * 10)])
    assert "is cut after 77" in caplog.text


def test_values_that_are_not_finite_give_a_black_image_that_says_so(sdxl):
    generator = tiny(sdxl)
    with torch.no_grad():
        generator._pipe.vae.decoder.conv_out.bias.fill_(float("nan"))
    (drawn,) = generator.synthesize([ask("cat")])
    assert not drawn.pixels.any()
    assert drawn.provenance["warning"] == "values that are not finite in float32"


def spoil_from(generator, first, last):
    """Let the VAE, which decodes one image after another, give NaN for some of them."""
    decoded = itertools.count(1)

    def spoil(_module, _args, output):
        if first <= next(decoded) <= last:
            output[0, 0, 3, 3] = float("nan")
        return output

    return generator._pipe.vae.decoder.register_forward_hook(spoil)


def test_a_image_that_is_not_finite_leaves_the_others_of_its_batch_as_they_are(sdxl):
    generator = tiny(sdxl, batch=2)
    whole = generator.synthesize([ask("cat"), ask("dog")])
    spoil_from(generator, 1, 1)
    drawn = generator.synthesize([ask("cat"), ask("dog")])
    assert not drawn[0].pixels.any()
    assert drawn[1] == whole[1]


def test_a_concept_whose_images_are_not_finite_is_refused_with_either_seed(sdxl, tmp_path):
    generator, bank = tiny(sdxl, batch=2), Cache(tmp_path)
    hook = spoil_from(generator, 2, 4)
    with pytest.raises(BlankImageError, match=r"'cat' came out as one plain colour, rgb\(0, 0, 0\)"):
        bank.images([ask("cat", 0), ask("cat", 1)], generator)
    # The first of the batch was an image, and is kept.
    assert len(bank.images([ask("cat", 0)], generator)) == bank.stats.generated == 1
    hook.remove()
    again = Cache(tmp_path)
    assert len(again.images([ask("cat", 0), ask("cat", 1)], generator)) == 2
    assert (again.stats.generated, again.stats.reused) == (1, 1)


def test_what_was_drawn_before_memory_ran_out_is_in_the_bank(sdxl, tmp_path):
    generator, bank = tiny(sdxl, batch=1), Cache(tmp_path)
    passes = []

    def fail_late(*_):
        passes.append(1)
        if len(passes) > 3:  # two steps an image
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = generator._pipe.unet.register_forward_pre_hook(fail_late)
    requests = [ask("cat", seed) for seed in range(3)]
    with pytest.raises(BackendError, match="not even one image"):
        bank.images(requests, generator)
    hook.remove()
    assert len(set(bank.images(requests, generator))) == 3
    assert (bank.stats.generated, bank.stats.reused) == (3, 1)


def test_a_failure_inside_is_one_line(sdxl):
    generator = tiny(sdxl)
    generator._pipe.unet.register_forward_pre_hook(
        fails_above(0, [], ValueError("odd\nmany lines")), with_kwargs=True
    )
    with pytest.raises(BackendError) as caught:
        generator.synthesize([ask("cat")])
    assert caught.value.message.endswith("failed to generate an image: odd")


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": 1.0},
        {"steps": 3},
        {"dtype": "bfloat16"},
        {"scheduler": "DPMSolverMultistepScheduler"},
        {"scheduler": "EulerAncestralDiscreteScheduler"},
        {"size": 48},
    ],
)
def test_what_alters_a_image_alters_the_fingerprint(sdxl, drawer, settings):
    other = tiny(sdxl, batch=2, **settings)
    assert other.fingerprint != drawer.fingerprint
    drawn = other.synthesize([ask("cat"), ask("cat")])
    assert drawn[0] == drawn[1]
    assert drawn[0].png != drawer.synthesize([ask("cat")])[0].png


@pytest.mark.parametrize("settings", [{"vae_slicing": True}, {"channels_last": True}, {"batch": 3}])
def test_what_only_alters_the_computation_keeps_image_and_fingerprint(sdxl, drawer, settings):
    other = tiny(sdxl, **{"batch": 2, **settings})
    assert other.fingerprint == drawer.fingerprint
    first, second = (one.synthesize([ask("cat")])[0].pixels.astype(int) for one in (drawer, other))
    assert abs(first - second).max() <= 1


def test_slicing_decodes_one_image_at_a_time_and_tiling_in_tiles(sdxl):
    plain = tiny(sdxl, batch=2, size=64)
    cut = tiny(sdxl, batch=2, size=64, vae_slicing=True, vae_tiling=True)  # at the size that the model is made for
    rows = []
    cut._pipe.vae.decoder.register_forward_pre_hook(lambda _, args: rows.append(tuple(args[0].shape)))
    cut.synthesize([ask("cat"), ask("dog")])
    assert len(rows) > 2
    assert {shape[0] for shape in rows} == {1}
    assert cut.fingerprint != plain.fingerprint


def test_slicing_is_left_to_what_the_vae_can_unless_it_is_set():
    unset = DiffusionSettings().model_copy(update={"vae_slicing": None})
    assert placed(tiny_pipelines.sdxl(), unset).vae.use_slicing
    assert not placed(tiny_pipelines.sdxl(), DiffusionSettings(vae_slicing=False)).vae.use_slicing


def test_a_vae_of_volumes_keeps_its_layout():
    pipe = tiny_pipelines.sdxl()
    pipe.vae.volumes = torch.nn.Conv3d(2, 2, 3)
    placed(pipe, DiffusionSettings(channels_last=True))
    assert pipe.vae.decoder.conv_in.weight.is_contiguous()
    assert pipe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def placed(pipe, settings):
    place(pipe, torch.device("cpu"), settings)
    return pipe


@pytest.mark.parametrize(
    ("images", "callers", "batch"),
    [
        (1, 1, 1), (5, 1, 5), (8, 1, 8), (9, 1, 5), (10, 1, 5), (17, 1, 6),
        # Of several concepts at the same time, as many whole ones as eight images hold.
        (1, 16, 8), (2, 16, 8), (3, 16, 6), (4, 16, 8), (4, 1, 4), (2, 3, 6), (5, 16, 5), (8, 16, 8), (10, 16, 5),
    ],
)  # fmt: skip
def test_a_gpu_draws_whole_concepts_or_one_in_even_batches(sdxl, images, callers, batch):
    generator = TextToImage(
        parse_source(str(sdxl)),
        DiffusionSettings(),
        device="cpu",
        download=False,
        expected_batch=images,
        callers=callers,
    )
    assert generator._batch == 1
    del generator._batch
    generator._recipe = replace(generator._recipe, device="cuda")
    assert generator._batch == batch


def test_channels_last_lays_out_the_convolutions(sdxl):
    weight = tiny(sdxl, channels_last=True)._pipe.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert tiny(sdxl)._pipe.unet.conv_in.weight.is_contiguous()


def test_provenance_says_how_a_image_was_made(sdxl):
    generator = tiny(sdxl, batch=2, scheduler="DDIMScheduler", vae_slicing=True)
    said = generator.synthesize([ask("cat", 5)])[0].provenance
    assert json.loads(json.dumps(said)) == said
    expected = {
        "model": str(sdxl.resolve()),
        "pipeline": "StableDiffusionXLPipeline",
        "steps": 2,
        "size": 32,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "named": str(sdxl),
        "offload": "none",
        "compile": False,
        "channels_last": None,
        "vae_slicing": True,
        "scheduler": {"class": "DDIMScheduler"},
        "seed": 5,
        "prompt": ask("cat").prompt,
        "batch": 2,
    }
    assert {name: said[name] for name in expected} == expected
    assert set(said["versions"]) == {"torch", "diffusers", "transformers"}


def test_a_scheduler_that_does_not_fit_is_refused_with_those_that_do(sdxl):
    with pytest.raises(UsageError, match=r"'NoSuchScheduler' does not fit.*DDIMScheduler"):
        _ = tiny(sdxl, scheduler="NoSuchScheduler").fingerprint
    with pytest.raises(UsageError, match="does not fit"):
        _ = tiny(sdxl, scheduler="StableDiffusionPipeline").fingerprint


@pytest.mark.parametrize(
    ("settings", "said"), [({"offload": "model"}, "needs a GPU"), ({"size": 60}, "multiple of 8")]
)
def test_settings_that_are_not_possible_are_refused_before_weights_are_loaded(sdxl, settings, said):
    generator = tiny(sdxl, **settings)
    with pytest.raises(UsageError, match=said):
        _ = generator.fingerprint
    assert "_pipe" not in vars(generator)


def test_no_device_no_images(sdxl):
    with pytest.raises(UsageError, match="device 'nowhere'"):
        _ = tiny(sdxl, device="nowhere").fingerprint


def test_a_large_model_on_a_cpu_is_told_once(sdxl, monkeypatch, caplog):
    monkeypatch.setattr("line_neurons.tools.generators.pipeline._BIG", 1000)
    generator = tiny(sdxl)
    generator.synthesize([ask("cat")])
    generator.synthesize([ask("dog")])
    assert [record.message for record in caplog.records] == [
        f"generating images with {sdxl} on a CPU takes minutes each"
    ]


def test_it_can_draw_anything(drawer):
    assert drawer.suggest(["cat"], 5) == []
    assert drawer.synthesize([]) == []


# In another process: the compiler's build tools want to be the first to bring their version of distutils.
def test_compile_wraps_the_denoiser(sdxl, folders, elsewhere):
    unet = "tiny({!r}, compile={})._pipe.unet._compiled_call_impl is not None"
    assert elsewhere(unet.format(str(sdxl), True))[0]
    assert not elsewhere(unet.format(str(sdxl), False))[0]
    blocks = f"tiny({str(folders['flux'])!r}, compile=True)._pipe.transformer.transformer_blocks"
    wrapped, _ = elsewhere(f"[block._compiled_call_impl is not None for block in {blocks}]")
    assert wrapped and all(wrapped)


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("c++") is None, reason="no compiler")
def test_a_compiled_denoiser_draws_the_same_image(tmp_path, elsewhere):
    # The compiler takes 15 s for a kind of block: there is one.
    folder = tiny_pipelines.save(tiny_pipelines.flux(layers=0), tmp_path / "flux")
    plain, compiled = (
        elsewhere(f"tiny({str(folder)!r}, compile={wanted}).synthesize([ask('cat')])[0].pixels.tolist()")[0]
        for wanted in (False, True)
    )
    assert np.abs(np.array(plain) - compiled).max() <= 1


def switches():
    cudnn = torch.backends.cudnn
    matmul = torch.get_float32_matmul_precision()
    return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul


class Watched(torch.nn.Module):
    """A model that reports the switches under which it computes."""

    def __init__(self, report):
        super().__init__()
        self.pool = torch.nn.AdaptiveAvgPool2d(1)
        self.report = report

    def forward(self, images):
        self.report(switches())
        return self.pool(images)


def as_tensor(image):
    return torch.from_numpy(np.array(image.resize((8, 8)), np.float32)).permute(2, 0, 1)


EXACT = (True, False, True, False, "highest")


def test_drawing_and_measuring_at_the_same_time_compute_exactly_and_leave_the_users_switches(drawer):
    drawn, measured = [], []
    target = HookedTarget(bundle_from_module(Watched(measured.append), as_tensor), device="cpu")
    target.layers()
    measured.clear()
    pipe, before = drawer._pipe, switches()
    hooks = [
        pipe.unet.register_forward_pre_hook(lambda *_: drawn.append(switches())),
        pipe.vae.decoder.register_forward_hook(lambda *_: drawn.append(switches())),
    ]
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = True, True, False
    torch.set_float32_matmul_precision("high")
    users = switches()
    assert users == (True, True, False, True, "high")
    try:
        with ThreadPoolExecutor(2) as threads:
            drawing = threads.submit(lambda: [drawer.synthesize([ask("cat", seed)]) for seed in range(4)])
            pixels = [np.zeros((8, 8, 3), np.uint8)] * 5
            while not drawing.done():
                target.activate(pixels, ["pool"])
            drawing.result()
        assert set(drawn) == set(measured) == {EXACT}
        assert len(drawn) >= 4 * 2 and measured
        assert switches() == users
    finally:
        for hook in hooks:
            hook.remove()
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before[:4]
        torch.set_float32_matmul_precision(before[4])


def test_weights_can_be_loaded_before_the_first_image(sdxl):
    generator = tiny(sdxl)
    assert "_pipe" not in vars(generator)
    generator.load()
    assert "_pipe" in vars(generator)
