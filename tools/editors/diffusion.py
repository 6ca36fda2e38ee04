"""Edits by diffusion models: by an instruction in words, or of a region."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import DrawnImage, EditKind, EditRequest
from line_neurons.tools.devices import deterministic_arithmetic, is_out_of_memory
from line_neurons.tools.editors.instructions import instruction, instructions_of
from line_neurons.tools.editors.presets import EDIT_PRESETS
from line_neurons.tools.editors.salient import RegionModel, edited_region
from line_neurons.tools.generators.pipeline import Pipeline, Recipe, load, plan, short_reason
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.reader import read_image
from line_neurons.tools.quiet_libraries import quiet

_VERSION = 1


class DiffusionEditor:
    """Edits images with a pipeline of diffusers; implements the port ``Editor``.

    One image at a time, from a generator of random numbers of its own: the same request gives the same image on
    one machine with one set of packages.

    Args:
        spec: a key of ``EDIT_PRESETS``, with the model's folder or hub id after ``=`` if it is not the preset's.
        settings: of the pipeline; only where and how it computes counts.
        region: opens what finds the region, for models that fill one.
        device: ``auto``, or a torch device.
        download: let missing weights be downloaded.
        words: instructions in place of the usual ones, by kind of edit.

    Raises:
        UsageError: there is no such folder, or a setting does not fit the model.
        MissingPartError: packages or weights are missing.
    """

    exact = False

    def __init__(
        self,
        spec: str,
        settings: DiffusionSettings,
        region: Callable[[], RegionModel],
        *,
        device: str,
        download: bool,
        words: Mapping[str, str] | None = None,
    ) -> None:
        name = spec.partition("=")[0]
        self._preset = EDIT_PRESETS[name]
        self._name = name
        self._changed = dict(sorted((words or {}).items()))
        self._words = instructions_of(self._changed, fills=self._preset.fills)
        models = {preset: edit.model for preset, edit in EDIT_PRESETS.items()}
        computed = {"offload", "vae_slicing", "vae_tiling", "compile", "channels_last"}
        self._settings = DiffusionSettings(**settings.model_dump(include=computed))
        self._recipe: Recipe = plan(parse_source(spec, models), self._settings, device=device, download=download)
        self._regions = region() if self._preset.fills else None
        self._lock = threading.RLock()

    @cached_property
    def fingerprint(self) -> str:
        """Class, hash of the weights, every setting that alters an image, and words other than the usual ones."""
        identity = {name: value for name, value in self._recipe.identity().items() if value not in (None, [], {})}
        said = " ".join(f"{name}={value}" for name, value in identity.items())
        region = f" region={self._regions.fingerprint}" if self._regions else ""
        words = f" words={json.dumps(self._changed)}" if self._changed else ""
        return f"{self._name}:{_VERSION} {said}{region}{words}"

    @property
    def side(self) -> int:
        """Side of the canvas in pixels."""
        return self._preset.side

    @property
    def kinds(self) -> frozenset[EditKind]:
        """What it can do: models that take an instruction make no edit of a given shape."""
        if self._preset.fills:
            return frozenset({"remove", "replace", "unchanged", "elsewhere"})
        return frozenset({"remove", "replace", "insert", "unchanged"})

    def offers(self, concept: str) -> bool:
        """It takes any words."""
        return True

    def edit(self, request: EditRequest) -> DrawnImage:
        """See ``Editor.edit``."""
        prompt = instruction(self._words, request)
        given: dict[str, Any] = {}
        if self._regions:
            given["mask_image"] = self._mask(request)
            if request.kind == "remove":
                given["negative_prompt"] = request.concept
        with self._lock:
            return DrawnImage(self._run(request, prompt, given), {"prompt": prompt, **self._recipe.identity()})

    @cached_property
    def _pipe(self) -> Pipeline:
        return load(self._recipe, self._settings)

    def _mask(self, request: EditRequest) -> Any:
        import numpy as np
        from PIL import Image

        assert self._regions
        if request.kind == "unchanged":
            return Image.new("L", (self.side, self.side), 0)
        return Image.fromarray(edited_region(self._regions, request).astype(np.uint8) * 255)

    def _run(self, request: EditRequest, prompt: str, given: dict[str, Any]) -> bytes:
        import numpy as np
        import torch

        recipe = self._recipe
        arguments = {
            "prompt": prompt,
            "image": read_image(request.image),
            "num_inference_steps": recipe.steps,
            "guidance_scale": recipe.guidance,
            "height": recipe.size,
            "width": recipe.size,
            "generator": torch.Generator().manual_seed(request.seed),
            **recipe.call,
            **given,
        }
        # A size or a guidance of None is not the same as none: pipelines warn of it, or compute with it.
        arguments = {name: value for name, value in arguments.items() if value is not None}
        taken = inspect.signature(self._pipe.__call__).parameters
        if unknown := arguments.keys() - taken.keys():
            raise BackendError(f"a {recipe.files.pipeline} takes no {', '.join(sorted(unknown))}")
        try:
            with deterministic_arithmetic(), quiet("diffusers", "transformers"):
                edited = self._pipe(**arguments).images[0]
        except Exception as error:
            if is_out_of_memory(error):
                raise BackendError(
                    f"an image does not fit into the memory of {recipe.device}",
                    "set diffusion.offload to model or sequential, or choose another editor",
                ) from error
            raise BackendError(f"{self._name} failed to edit an image: {short_reason(error)}") from error
        return encode_png(np.asarray(edited.convert("RGB")))
