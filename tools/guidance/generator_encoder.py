"""The CLIP text encoders of the text-to-image model in use, as a text encoder of concepts."""

from __future__ import annotations

import hashlib
import json
import threading
from functools import cached_property
from typing import Any

import numpy as np

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.tools.generators.pipeline import plan
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.generators.weights import cached_hash
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.image_bank.text_encoder import Embeddings
from line_neurons.tools.quiet_libraries import quiet

_OUTPUTS = {"CLIPTextModel": "pooler_output", "CLIPTextModelWithProjection": "text_embeds"}
"""Output with the embedding of a whole text, by class of text encoder; the T5 of FLUX has none."""


class GeneratorTextEncoder:
    """Embeds concepts with the CLIP text encoders of a text-to-image model, without its other parts.

    Each encoder's embedding has length 1, and so have all of them side by side. They run on the CPU in float32, so
    that embeddings depend on no device; LoRAs are left out.

    Raises:
        UsageError: the generator has no CLIP text encoder.
        MissingPartError: packages or weights are missing.
    """

    def __init__(self, settings: Settings) -> None:
        if uses_image_bank(settings.generator):
            raise UsageError(
                f"the generator {settings.generator} has no text encoder of its own", "use --text-encoder minilm"
            )
        source = parse_source(settings.generator)
        self._files = plan(source, settings.diffusion, device="cpu", download=settings.download).files
        index = self._files.read_json("model_index.json")
        self._parts = {
            part: str(named[1])
            for part, named in sorted(index.items())
            if part.startswith("text_encoder") and isinstance(named, list) and named[-1] in _OUTPUTS
        }
        if not self._parts:
            raise UsageError(
                f"the generator {settings.generator} has no CLIP text encoder", "use --text-encoder minilm"
            )
        self._lock = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the text encoders and their tokenizers."""
        used = {folder for part in self._parts for folder in (part, _tokenizer_of(part))}
        names = sorted(name for name in self._files.files if name.partition("/")[0] in used)
        rows = [(name, cached_hash(self._files.folder / name)) for name in names]
        return f"generator-text-encoders:{hashlib.sha256(json.dumps(rows).encode()).hexdigest()}"

    @cached_property
    def _models(self) -> list[tuple[Any, Any, str]]:
        import torch
        import transformers

        folder, found = self._files.folder, []
        try:
            with quiet("transformers"):
                for part, kind in self._parts.items():
                    model = getattr(transformers, kind).from_pretrained(
                        folder / part,
                        variant=self._files.variant,
                        dtype=torch.float32,
                        use_safetensors=True,
                        local_files_only=True,
                    )
                    tokenizer = transformers.CLIPTokenizer.from_pretrained(
                        folder / _tokenizer_of(part), local_files_only=True
                    )
                    found.append((tokenizer, model.eval(), _OUTPUTS[kind]))
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendError(f"the text encoders in {folder} cannot be loaded: {error}") from error
        return found

    def encode(self, texts: list[str]) -> Embeddings:
        """Embed phrases; float32 [len(texts), d], rows of length 1."""
        import torch

        with self._lock, torch.inference_mode():
            parts = []
            for tokenizer, model, output in self._models:
                rows = [
                    model(**tokenizer([text], padding="max_length", truncation=True, return_tensors="pt"))[output][
                        0
                    ]
                    for text in texts
                ]
                width = int(getattr(model.config, "projection_dim" if output == "text_embeds" else "hidden_size"))
                stacked = torch.stack(rows).float() if rows else torch.zeros(0, width)
                parts.append(torch.nn.functional.normalize(stacked, dim=1).numpy())
        found: Embeddings = (np.concatenate(parts, axis=1) / np.sqrt(len(parts))).astype(np.float32)
        return found


def _tokenizer_of(part: str) -> str:
    return f"tokenizer{part.removeprefix('text_encoder')}"
