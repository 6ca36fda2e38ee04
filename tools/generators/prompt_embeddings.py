"""Prompt embeddings: each prompt is encoded once and separately."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from line_neurons.agent.text import clean_text

if TYPE_CHECKING:
    from torch import Tensor

    from line_neurons.tools.generators.pipeline import Pipeline

    Embedding = dict[str, Tensor]

# Which of the values that encode_prompt returns are which argument of the pipeline.
_ARGUMENTS: Mapping[str, Mapping[int, str]] = {
    "StableDiffusionXLPipeline": {0: "prompt_embeds", 2: "pooled_prompt_embeds"},
    "StableDiffusionPipeline": {0: "prompt_embeds"},
    "FluxPipeline": {0: "prompt_embeds", 1: "pooled_prompt_embeds"},
}

_REMEMBERED = 64


def encodes_apart(pipeline: str) -> bool:
    """Tell whether the prompts of a class of pipelines can be encoded separately."""
    return pipeline in _ARGUMENTS


class PromptEmbeddings:
    """Encodes each distinct prompt once, alone, so that the rest of its batch has no effect.

    The last prompts are cached in the memory of the CPU. Pipelines other than Stable Diffusion, SDXL and FLUX get
    the prompts themselves.

    Args:
        pipe: the pipeline; LoRAs must be in it already.
        guidance: the guidance scale; above 1 there is an unconditional half, encoded once.
        call: arguments of the pipeline; those of the encoder are passed on.
    """

    def __init__(self, pipe: Pipeline, guidance: float | None, call: Mapping[str, Any]) -> None:
        self._pipe = pipe
        self._arguments = _ARGUMENTS.get(type(pipe).__name__)
        unet = getattr(pipe, "unet", None)
        distilled = unet is None or unet.config.time_cond_proj_dim is not None
        self._guided = not distilled and guidance is not None and guidance > 1
        self._call = call
        self._known: OrderedDict[str, Embedding] = OrderedDict()
        self._unconditional: Embedding = {}

    def encode(self, prompts: Sequence[str]) -> list[Embedding | str]:
        """Embed each prompt, tensors [1, ...] on the CPU; or return it unchanged."""
        return list(prompts) if self._arguments is None else [self._encoded(prompt) for prompt in prompts]

    def arguments(self, encoded: Sequence[Embedding | str]) -> dict[str, Any]:
        """Return the pipeline's arguments for a batch of results of ``encode``."""
        import torch

        if self._arguments is None:
            return {"prompt": list(encoded)}
        device = self._pipe._execution_device
        rows = [row for row in encoded if not isinstance(row, str)]
        batch = {name: torch.cat([row[name] for row in rows]).to(device) for name in rows[0]}
        if self._guided:
            for name, value in self._empty(rows[0]).items():
                batch[f"negative_{name}"] = value.expand(len(rows), *value.shape[1:]).to(device)
        return batch

    def _encoded(self, prompt: str) -> Embedding:
        if prompt in self._known:
            self._known.move_to_end(prompt)
            return self._known[prompt]
        self._known[prompt] = self._run(prompt)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return self._known[prompt]

    def _run(self, prompt: str) -> Embedding:
        import torch

        # FLUX knows no unconditional half, and reads a long prompt with its second encoder.
        flux = hasattr(self._pipe, "transformer")
        guidance = {} if flux else {"do_classifier_free_guidance": False}
        tokenizer = self._pipe.tokenizer
        tokens, limit = len(tokenizer(prompt).input_ids), tokenizer.model_max_length
        if tokens > limit and not flux:
            short = clean_text(prompt, 60)
            logging.getLogger(__name__).warning("a prompt of %d tokens is cut after %d: %s", tokens, limit, short)
        with torch.no_grad():
            values = self._pipe.encode_prompt(
                prompt=prompt,
                device=self._pipe._execution_device,
                num_images_per_prompt=1,
                **guidance,
                **self._call,
            )
        return {name: values[position].cpu() for position, name in (self._arguments or {}).items()}

    def _empty(self, like: Embedding) -> Embedding:
        import torch

        if not self._unconditional:
            # Stable Diffusion XL was trained with zeros in place of the empty prompt.
            if self._pipe.config.get("force_zeros_for_empty_prompt", False):
                self._unconditional = {name: torch.zeros_like(value) for name, value in like.items()}
            else:
                self._unconditional = self._run("")
        return self._unconditional
