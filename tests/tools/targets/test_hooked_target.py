import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision import models
from torchvision.transforms import v2

from line_neurons.agent.errors import BackendError, UnmeasurableError, UsageError
from line_neurons.tools.parallel import workers
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.layers.outputs import hooked
from line_neurons.tools.targets.registry import open_target

SPEC = "torchvision:mobilenet_v3_small"


def one(target, images, layer):
    return target.activate(images, [layer])[layer]


def test_several_layers_come_from_one_forward_pass_and_are_those_of_each_alone(target, images):
    layers = ["features.0", "features.12", "avgpool", "classifier.3"]
    target.layers()
    passes = []
    with hooked({"features": target._modules["features"]}, lambda *seen: passes.append(seen[0])):
        together = target.activate(images[:5], layers)
        assert len(passes) == 1
    assert list(together) == layers
    for layer in layers:
        assert together[layer].dtype == np.float32
        np.testing.assert_array_equal(together[layer], one(target, images[:5], layer))


def test_what_a_later_module_does_in_place_does_not_change_what_a_layer_gave(pixels):
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(3).eval()
    head = torch.nn.Linear(3, 3)
    model = torch.nn.Sequential(norm, torch.nn.ReLU(inplace=True), torch.nn.Flatten(), head, torch.nn.ReLU(True))
    images = [torch.randn(3, 1, 1) - 0.5 for _ in pixels]
    known = {image.tobytes(): tensor for image, tensor in zip(pixels, images, strict=True)}

    def prepare(image):
        return known.get(image.tobytes(), images[0])

    target = HookedTarget(ModelBundle("own:model", "0", "0", prepare, lambda: model), device="cpu")
    actual = target.activate(pixels, ["0", "3"])
    with torch.inference_mode():
        maps = norm(torch.stack(images))
        logits = head(maps.flatten(1).clamp(min=0))
    assert (maps < 0).any() and (logits < 0).any()
    np.testing.assert_allclose(actual["0"], maps.flatten(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actual["3"], logits, rtol=1e-4, atol=1e-5)


def test_pixels_and_encoded_images_give_the_same(target, images, pixels):
    np.testing.assert_array_equal(one(target, pixels, "avgpool"), one(target, images, "avgpool"))


def test_a_images_activations_are_the_same_bits_whatever_it_is_batched_with(target, images):
    together = one(target, images, "features.12")
    alone = np.concatenate([one(target, [image], "features.12") for image in images])
    backwards = one(target, images[::-1], "features.12")[::-1]
    assert together.tobytes() == alone.tobytes() == backwards.tobytes()


def test_progress_counts_images_and_can_cancel(target, images):
    seen = []
    target.activate(images, ["avgpool"], lambda done, total: seen.append((done, total)))
    assert seen == [(5, 7), (7, 7)]

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        target.activate(images, ["avgpool"], cancel)
    assert target.activate([], ["avgpool"])["avgpool"].shape == (0, 576)
    assert target.activate(images, []) == {}


def test_hooks_are_gone_after_use_and_after_errors(target, images):
    target.activate(images[:1], ["avgpool"])
    with pytest.raises(ZeroDivisionError), hooked({"avgpool": target._modules["avgpool"]}, print):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in target._model.modules())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_near_single_and_comes_back_as_float32(checkpoint, target, images, precision):
    half = open_target(SPEC, weights=checkpoint, device="cpu", precision=precision)
    actual = one(half, images, "classifier.3")
    expected = one(target, images, "classifier.3")
    assert actual.dtype == np.float32
    assert next(half._model.parameters()).dtype == getattr(torch, precision)
    assert 0 < np.abs(actual - expected).max() < 0.05 * np.abs(expected).max()
    assert half.fingerprint != target.fingerprint


def test_channels_last_changes_the_layout_and_not_the_result(checkpoint, target, images):
    other = open_target(SPEC, weights=checkpoint, device="cpu", channels_last=True)
    actual, expected = (one(each, images, "features.12") for each in (other, target))
    assert other._modules["features.1.block.0.0"].weight.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert other.fingerprint == target.fingerprint


def test_batch_size_and_device_are_not_part_of_the_fingerprint_and_pool_is(checkpoint, target):
    assert open_target(SPEC, weights=checkpoint, batch_size=2).fingerprint == target.fingerprint
    assert open_target(SPEC, weights=checkpoint, pool="max").fingerprint != target.fingerprint


def test_a_map_is_pooled_by_its_mean_or_its_maximum(checkpoint, target, images):
    largest = open_target(SPEC, weights=checkpoint, pool="max", device="cpu")
    by_mean = one(target, images[:2], "features.12")
    np.testing.assert_allclose(by_mean, one(target, images[:2], "avgpool"), rtol=1e-4, atol=1e-5)
    assert (one(largest, images[:2], "features.12") >= by_mean).all()


def test_a_pool_for_tokens_is_refused_for_maps_before_any_image_is_looked_at(checkpoint):
    target = open_target(SPEC, weights=checkpoint, pool="cls", device="cpu")
    with pytest.raises(UsageError, match=r"'cls' does not fit features\.12 .* maps \(576 x 7 x 7\).*mean, max"):
        target.activate([b"no picture"], ["features.12"])


def test_an_unknown_layer_is_refused_with_near_ones(target, images):
    with pytest.raises(UsageError, match=r"near: features\.12.*line layers torchvision:mobilenet_v3_small"):
        target.activate(images, ["feature.12"])
    with pytest.raises(UsageError, match=r"no layer 'feature\.12'"):
        target.unit_names("feature.12")


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_refused(device, checkpoint):
    with pytest.raises(UsageError, match=device):
        open_target(SPEC, weights=checkpoint, device=device)


def test_a_batch_of_no_images_is_refused(checkpoint):
    with pytest.raises(UsageError, match="batch of 0"):
        open_target(SPEC, weights=checkpoint, batch_size=0)


def test_a_image_that_cannot_be_decoded_is_told_apart(target, images):
    for broken in (b"", b"text", images[0][:200], np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))):
        with pytest.raises(UnmeasurableError, match="cannot be decoded") as caught:
            target.activate([images[0], broken], ["avgpool"])
        assert caught.value.index == 1


def test_activations_that_are_not_finite_are_refused(checkpoint, images, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    for part in ("weight", "bias"):
        state[f"classifier.3.{part}"][2] = 3e38
    torch.save(state, tmp_path / "large.pth")
    target = open_target(SPEC, weights=tmp_path / "large.pth", device="cpu")
    with pytest.raises(UnmeasurableError, match=r"not finite at classifier\.3") as caught:
        target.activate(images, ["classifier.3"])
    assert caught.value.index == 0


class Failing(torch.nn.Module):
    """Fails as told on every batch but the one that finds the layers."""

    def __init__(self, error):
        super().__init__()
        self.pool = torch.nn.AdaptiveAvgPool2d(1)
        self.error = error

    def forward(self, images):
        if len(images) != 3:
            raise self.error
        return self.pool(images)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), r"CUDA out of memory.*--batch-size below 5"),
        (IndexError("odd\nmore"), r"of own:model failed: odd$"),
    ],
)
def test_a_forward_pass_that_fails_is_one_line_with_what_to_do(error, said, pixels):
    network = ModelBundle("own:model", "0", "0", lambda image: torch.zeros(3, 8, 8), lambda: Failing(error))
    with pytest.raises(BackendError, match=said):
        HookedTarget(network, device="cpu").activate(pixels, ["pool"])


def test_images_of_unlike_sizes_are_refused(pixels):
    last = pixels[1].tobytes()
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1))

    def prepare(image):
        return torch.zeros(3, 9 if image.tobytes() == last else 8, 8)

    network = ModelBundle("own:model", "0", "0", prepare, lambda: pool)
    with pytest.raises(BackendError, match="stack expects each tensor to be equal size"):
        HookedTarget(network, device="cpu").activate(pixels[:2], ["0"])


def test_preprocessing_that_fails_or_makes_no_image_tensor_is_one_line(pixels):
    def fail(image):
        raise KeyError("mean")

    for prepare, said in ((fail, "failed: 'mean'"), (lambda _: torch.zeros(8, 8), r"gave \[8, 8\], not a tensor")):
        network = ModelBundle("own:model", "0", "0", prepare, models.squeezenet1_1)
        with pytest.raises(BackendError, match=f"preprocessing of own:model {said}"):
            HookedTarget(network, device="cpu").activate(pixels, ["features.0"])


def by_torch(image):
    return flipped(image, torch.rand(()).item())


def by_python(image):
    return flipped(image, random.random())


def by_numpy(image):
    return flipped(image, np.random.random())


def by_its_own(image, generator=np.random.default_rng(0)):  # noqa: B008
    return flipped(image, 100 * generator.random())


def flipped(image, draw):
    """One image in a hundred, but for a larger draw."""
    tensor = plain(image)
    return tensor.flip(2) if 0.5 < draw < 0.51 or draw > 50 else tensor


def plain(image):
    return torch.tensor(np.asarray(image.resize((8, 8)))).permute(2, 0, 1) / 255


@pytest.mark.parametrize("prepare", [by_torch, by_python, by_numpy, by_its_own])
def test_a_random_transform_is_refused_though_it_seldom_does_anything(prepare, pixels):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten())
    one = HookedTarget(ModelBundle("own:model", "0", "0", prepare, lambda: model), device="cpu")
    for _ in range(20):
        with pytest.raises(UsageError, match=r"^the preprocessing of own:model (draws|gives other).*evaluation"):
            one.layers()


def test_a_flip_of_every_second_image_is_refused_each_time(pixels):
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))
    for _ in range(20):
        one = HookedTarget(ModelBundle("own:model", "0", "0", transform, lambda: model), device="cpu")
        with pytest.raises(UsageError, match="preprocessing of own:model"):
            one.layers()


def test_a_transform_that_another_thread_draws_beside_is_not_random():
    calls = []

    def prepare(image):
        calls.append(image)
        # Another thread draws now and then.
        if len(calls) % 3 == 0:
            random.random()
        return plain(image)

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3))
    assert HookedTarget(ModelBundle("own:model", "0", "0", prepare, lambda: model), device="cpu").layers()


def test_images_prepared_beside_each_other_give_the_bits_of_each_alone(target, pixels):
    many = [np.roll(image, shift, axis=(0, 1)) for shift in range(8) for image in pixels]
    rows = one(target, many, "avgpool")
    for place in (0, 7, len(many) - 1):
        assert rows[place].tobytes() == one(target, [many[place]], "avgpool")[0].tobytes()


class Crowd:
    """A transform that counts the threads in it, the present and the most so far."""

    def __init__(self):
        self.inside = self.most = 0
        self.lock = threading.Lock()
        self.threads = set()

    def __call__(self, image):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(torch.get_num_threads())
        time.sleep(0.005)
        with self.lock:
            self.inside -= 1
        return plain(image)


@pytest.mark.parametrize("own", [True, False])
def test_a_transform_of_the_user_is_called_by_one_thread_at_a_time(own, pixels):
    crowd = Crowd()
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten())
    bundle = ModelBundle("own:model", "0", "0", crowd, lambda: model, own_preprocessing=own)
    target = HookedTarget(bundle, device="cpu")
    target.layers()
    crowd.threads.clear()
    target.activate([pixels[0]] * 12, ["0"])
    assert (crowd.most == 1) == (own or workers() == 1)
    # Several threads that each take all cores would be in each other's way.
    assert crowd.threads == {1}


def test_preparing_on_one_core_leaves_other_threads_their_number(target, pixels):
    def of_a_new_thread():
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(torch.get_num_threads).result()

    before = torch.get_num_threads(), of_a_new_thread()
    one(target, pixels, "avgpool")
    assert (torch.get_num_threads(), of_a_new_thread()) == before


def test_an_image_that_cannot_be_decoded_leaves_no_work_behind(target, images):
    with pytest.raises(UnmeasurableError) as raised:
        target.activate([*images[:3], b"no image", *images * 3], ["avgpool"])
    assert raised.value.index == 3
