"""Sentence embeddings from a local folder, to compare phrases and captions."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.errors import BackendError, MissingPartError
from line_neurons.tools.packages import required_package
from line_neurons.tools.quiet_libraries import quiet

Embeddings = NDArray[np.float32]
Pooling = Literal["mean", "cls"]

_WEIGHTS = "model.safetensors"
_NEEDED = ("config.json", "tokenizer.json", _WEIGHTS)
_BATCH = 64
_MAX_TOKENS = 64


class TextEncoder(Protocol):
    """Embeds phrases as vectors whose inner product is their similarity."""

    @property
    def fingerprint(self) -> str:
        """Identity of the weights and of how they are used."""

    def encode(self, texts: list[str]) -> Embeddings:
        """Embed phrases.

        Returns:
            float32 [len(texts), d], each row of length 1.
        """


class SentenceEncoder:
    """A transformers encoder with pooling over the tokens, normalised.

    Args:
        folder: holds ``config.json``, ``tokenizer.json`` and ``model.safetensors``; nothing is downloaded.
        pooling: the mean over the tokens, or the first one.

    Raises:
        MissingPartError: a file of the encoder is not in the folder.
    """

    def __init__(self, folder: Path, pooling: Pooling = "mean") -> None:
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing:
            raise MissingPartError(
                f"the text encoder in {folder} lacks {', '.join(missing)}", "run: line assets install demo"
            )
        self._folder = folder
        self._pooling = pooling
        self._lock = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights and tokenizer, and the pooling."""
        digest = hashlib.sha256()
        for name in _NEEDED:
            with (self._folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"sentence-encoder:{digest.hexdigest()}:{self._pooling}:{_MAX_TOKENS}"

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        with required_package("transformers", "torch,embedded", needed="the image bank's text encoder needs"):
            from transformers import AutoModel, AutoTokenizer
        try:
            with quiet("transformers"):
                tokenizer = AutoTokenizer.from_pretrained(str(self._folder), local_files_only=True)
                model = AutoModel.from_pretrained(
                    str(self._folder), local_files_only=True, use_safetensors=True
                ).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendError(f"the text encoder in {self._folder} cannot be loaded: {error}") from error
        return tokenizer, model

    def encode(self, texts: list[str]) -> Embeddings:
        """Embed phrases; float32 [len(texts), d], rows of length 1."""
        import torch

        with self._lock, torch.inference_mode():
            tokenizer, model = self._model
            parts = [
                self._forward(tokenizer, model, texts[start : start + _BATCH])
                for start in range(0, len(texts), _BATCH)
            ]
        width = int(model.config.hidden_size)
        return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)

    def _forward(self, tokenizer: Any, model: Any, texts: Sequence[str]) -> Embeddings:
        import torch

        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state.float()
        weights = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = self._pooling == "mean"
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1) if mean else hidden[:, 0]
        result: Embeddings = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return result
