"""Text-to-image models of diffusers as a generator."""

from __future__ import annotations

import gc
import inspect
import json
import logging
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import DrawnImage, Generator, ImageRequest, Progress
from line_neurons.tools.devices import deterministic_arithmetic, is_out_of_memory
from line_neurons.tools.generators.pipeline import (
    Pipeline,
    Recipe,
    load,
    plan,
    short_reason,
)
from line_neurons.tools.generators.presets import ModelSource, parse_source
from line_neurons.tools.generators.prompt_embeddings import PromptEmbeddings, encodes_apart
from line_neurons.tools.quiet_libraries import quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.diffusion_settings import DiffusionSettings

_Pixels = tuple["NDArray[np.uint8]", list[bool]]
"""Pixels [n, H, W, 3] of a batch, and which of its images had finite values."""

FORMAT = 1
"""Raised whenever the same request would give other pixels or provenance."""

# A CPU gains nothing from more than one image at a time, a GPU little from more than eight.
_GPU_BATCH = 8
_CPU_BATCH = 1


def open_text_to_image(
    spec: str,
    settings: DiffusionSettings,
    *,
    device: str = "auto",
    download: bool = False,
    expected_batch: int = 5,
    callers: int = 1,
) -> Generator:
    """Open a text-to-image model as a generator; nothing is loaded before it is used.

    Args:
        spec: ``PRESET``, ``PRESET=FOLDER``, ``PRESET=owner/name``, ``FOLDER`` or ``owner/name``.
        settings: None stands for the preset's, or else the model's, setting.
        device: ``auto`` (CUDA if there is one), or a torch device.
        download: let missing weights be downloaded from the hub.
        expected_batch: how many images are requested at a time, those of a concept.
        callers: how many may request at the same time; batches on a GPU hold those of several, up to 8 images.

    Raises:
        UsageError: no such preset or folder.
    """
    return TextToImage(
        parse_source(spec),
        settings,
        device=device,
        download=download,
        expected_batch=expected_batch,
        callers=callers,
    )


class TextToImage:
    """Generates images with a diffusers pipeline; implements the port ``Generator``.

    Every batch has the same shape, short ones being filled up: an image is then bitwise the same in any batch, on
    one machine with one set of packages. Settings that change only the course of the computation (batch, offload,
    slicing, compile, memory layout) can change last bits and are not in the fingerprint.

    Args:
        device: ``auto``, or a torch device.
        expected_batch: how many images are requested at a time.
        callers: how many may request at the same time.
    """

    def __init__(
        self,
        source: ModelSource,
        settings: DiffusionSettings,
        *,
        device: str,
        download: bool,
        expected_batch: int,
        callers: int = 1,
    ) -> None:
        self._source = source
        self._settings = settings
        self._together = expected_batch
        self._callers = callers
        self._device = device
        self._download = download
        # A pipeline keeps the state of the image it draws, so requests of several threads take turns.
        self._lock = threading.RLock()

    @cached_property
    def fingerprint(self) -> str:
        """Class, hash of the weights and every setting that alters an image; loads no weights.

        Raises:
            MissingPartError: packages or weights are missing.
            UsageError: a setting does not fit the model.
        """
        with self._lock:
            identity = self._recipe.identity()
        pipeline = identity.pop("pipeline")
        said = {name: value for name, value in identity.items() if value not in (None, False, [], {})}
        values = " ".join(f"{name}={_brief(value)}" for name, value in said.items())
        return f"diffusers:{pipeline} {values} format={FORMAT}"

    @property
    def batch_size(self) -> int:
        """Images in one batch; fewer than at first where memory ran out."""
        with self._lock:
            return self._batch

    def load(self) -> None:
        """Load the weights now, and not with the first image.

        Raises:
            MissingPartError: packages or weights are missing.
            UsageError: a setting does not fit the model.
        """
        with self._lock:
            self._pipe  # noqa: B018 - a cached property

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """Suggest nothing: it can generate anything."""
        return []

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """Generate images for the requests, in order; deterministic in (fingerprint, request).

        A batch that does not fit into memory is halved and generated again, and later batches keep that size. An
        image with NaN among its values comes out black, with a ``warning`` in its provenance; the others of its
        batch are unchanged.

        Args:
            progress: called with denoising steps, counted for each image: the total is images x steps, and a step
                of a batch of five counts five. Raising from it cancels within one step.

        Raises:
            MissingPartError: packages or weights are missing.
            UsageError: a setting does not fit the model.
            BackendError: not even one image fits into memory, or the model failed.
        """
        if not requests:
            return []
        drawn: list[DrawnImage] = []
        with self._lock:
            meter = _Meter(progress, self._recipe.steps, len(requests))
            meter.report(0, 0, 0.0)
            while len(drawn) < len(requests):
                batch = requests[len(drawn) : len(drawn) + self._batch]
                pixels = self._draw(batch, len(drawn), meter)
                if pixels is None:
                    self._halve()
                else:
                    drawn += [self._finish(*row) for row in zip(batch, *pixels, strict=True)]
        return drawn

    @cached_property
    def _recipe(self) -> Recipe:
        return plan(self._source, self._settings, device=self._device, download=self._download)

    @cached_property
    def _pipe(self) -> Pipeline:
        return load(self._recipe, self._settings)

    @cached_property
    def _prompts(self) -> PromptEmbeddings:
        return PromptEmbeddings(self._pipe, self._recipe.guidance, self._recipe.call)

    @cached_property
    def _vae_dtype(self) -> Any:
        return getattr(getattr(self._pipe, "vae", None), "dtype", None)

    @cached_property
    def _batch(self) -> int:
        # Prompts that a pipeline encodes itself may be padded to the longest of the batch.
        one_by_one = self._recipe.device == "cpu" or not encodes_apart(self._recipe.files.pipeline)
        most = _CPU_BATCH if one_by_one else _GPU_BATCH
        # Whole concepts, or equal parts of one: what fills a batch up costs as much as an image that is wanted.
        concepts = min(most // self._together, self._callers)
        parts = -(-self._together // most)
        return self._settings.batch or max(concepts * self._together, -(-self._together // parts))

    def _draw(self, batch: Sequence[ImageRequest], before: int, meter: _Meter) -> _Pixels | None:
        # None if the batch did not fit into memory. A caught exception holds on to the
        # tensors of the batch, so trying again is left to the caller, where it is gone.
        vae_dtype = self._vae_dtype
        try:
            with deterministic_arithmetic(), quiet("diffusers", "transformers"):
                return self._run(batch, before, meter)
        except BaseException as error:
            self._tidy(vae_dtype)
            if error is meter.raised or isinstance(error, BackendError) or not isinstance(error, Exception):
                raise
            if is_out_of_memory(error):
                return None
            remedy = "leave diffusion.compile out" if self._settings.compile else ""
            raise BackendError(
                f"{self._source.name} failed to generate an image: {short_reason(error)}", remedy
            ) from error

    def _run(self, batch: Sequence[ImageRequest], before: int, meter: _Meter) -> _Pixels:
        import torch

        pipe, recipe = self._pipe, self._recipe
        encoded = self._prompts.encode([request.prompt for request in batch])
        filling = self._batch - len(batch)
        seeds = [request.seed for request in batch] + [batch[-1].seed] * filling

        def after_step(_pipe: Any, step: int, _timestep: Any, _tensors: Any) -> dict[str, Any]:
            meter.report(before, len(batch), (step + 1) / len(pipe.scheduler.timesteps))
            return {}

        wanted = {
            "num_inference_steps": recipe.steps,
            "guidance_scale": recipe.guidance,
            "height": recipe.size,
            "width": recipe.size,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "output_type": "pt",
            "callback_on_step_end": after_step,
            **recipe.call,
        }
        taken = inspect.signature(pipe.__call__).parameters
        given = {name: value for name, value in wanted.items() if name in taken and value is not None}
        images = pipe(**self._prompts.arguments([*encoded, *encoded[-1:] * filling]), **given).images
        values = images[: len(batch)].float()
        # The pipeline has brought infinity into bounds, not NaN.
        finite = torch.isfinite(values).flatten(1).all(1)
        values[~finite] = 0
        pixels: NDArray[np.uint8] = (values * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        meter.report(before, len(batch), 1.0)
        return pixels, finite.tolist()

    def _tidy(self, vae_dtype: Any) -> None:
        # What a pipeline does at the end of a call and does not if it ends in between: a half-precision VAE is
        # brought back from the float32 it decodes in, and offloaded parts go back to the CPU.
        vae = getattr(self._pipe, "vae", None)
        if vae is not None and vae.dtype != vae_dtype:
            vae.to(dtype=vae_dtype)
        self._pipe.maybe_free_model_hooks()

    def _halve(self) -> None:
        import torch

        gc.collect()
        device = torch.device(self._recipe.device)
        if device.type != "cpu":
            torch.get_device_module(device).empty_cache()
        if self._batch == 1:
            raise BackendError(
                f"not even one image of {self._source.name} fits into the memory of {device}",
                "set diffusion.offload to model or sequential, diffusion.vae_tiling, a smaller diffusion.size, or"
                " another preset",
            )
        self._batch //= 2
        logging.getLogger(__name__).warning("memory ran out: batches of %d images from now on", self._batch)

    def _finish(self, request: ImageRequest, pixels: NDArray[np.uint8], finite: bool) -> DrawnImage:
        import numpy as np

        provenance = self._account | {"prompt": request.prompt, "seed": request.seed, "batch": self._batch}
        if not finite:
            provenance["warning"] = f"values that are not finite in {self._recipe.dtype}"
        # Encoding would keep the device waiting, and takes half as long as some models need for the image.
        return DrawnImage(b"", provenance, np.ascontiguousarray(pixels))

    @cached_property
    def _account(self) -> dict[str, Any]:
        import diffusers
        import torch
        import transformers

        recipe, settings = self._recipe, self._settings
        on_cuda = recipe.device.startswith("cuda")
        return recipe.identity() | {
            "named": self._source.name,
            "model": self._source.hub or str(self._source.folder),
            "commit": recipe.files.commit,
            "variant": recipe.files.variant,
            "lora": [
                {**lora, "file": path.name}
                for lora, (path, _) in zip(recipe.identity()["lora"], recipe.loras, strict=True)
            ],
            "device": recipe.device + (f" ({torch.cuda.get_device_name(recipe.device)})" if on_cuda else ""),
            "threads": torch.get_num_threads(),
            **settings.model_dump(include={"offload", "compile", "vae_slicing", "channels_last"}),
            "versions": {module.__name__: module.__version__ for module in (torch, diffusers, transformers)},
        }


class _Meter:
    """Reports denoising steps of single images, and records a cancellation."""

    def __init__(self, progress: Progress | None, steps: int, images: int) -> None:
        self._progress = progress
        self._steps = steps
        self._total = steps * images
        self._done = 0
        self.raised: BaseException | None = None

    def report(self, before: int, batch: int, share: float) -> None:
        """Report ``before`` complete images, and the ``share`` of the next ``batch``."""
        self._done = max(self._done, before * self._steps + int(share * batch * self._steps + 1e-6))
        if self._progress is None:
            return
        try:
            self._progress(self._done, self._total)
        except BaseException as error:
            self.raised = error
            raise


def _brief(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
