"""Text encoders by name: MiniLM, the generator's own, one of Ollama, or a folder of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.settings import Settings

if TYPE_CHECKING:
    from line_neurons.tools.image_bank.text_encoder import Pooling, TextEncoder

FORMS = ("minilm", "generator", "ollama:NAME", "FOLDER")
"""Forms of the name of a text encoder."""

_NAME_ONE = "name another one with --text-encoder: ollama:NAME or a folder of sentence-transformers"


def open_text_encoder(settings: Settings, assets: Path) -> TextEncoder:
    """Open the text encoder of the settings; its weights are read at first use.

    Raises:
        UsageError: there is no such text encoder, or its folder has a pooling that is not supported.
        MissingPartError: its weights are not installed.
    """
    from line_neurons.tools.image_bank.text_encoder import SentenceEncoder

    name = settings.text_encoder
    if name == "minilm":
        try:
            return SentenceEncoder(assets / name)
        except MissingPartError as error:
            raise MissingPartError(
                "the text encoder minilm is not installed", f"line assets install minilm, or {_NAME_ONE}"
            ) from error
    if name == "generator":
        from line_neurons.tools.guidance.generator_encoder import GeneratorTextEncoder

        return GeneratorTextEncoder(settings)
    kind, colon, model = name.partition(":")
    if colon and kind == "ollama" and model:
        from line_neurons.tools.language_models.ollama.address import server_urls
        from line_neurons.tools.language_models.ollama.embeddings import OllamaEncoder

        return OllamaEncoder(model, server_urls(settings.ollama), timeout=settings.timeout)
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(
            f"there is no text encoder {name!r:.80}", f"name one with --text-encoder: {', '.join(FORMS)}"
        )
    try:
        return SentenceEncoder(folder, _pooling(folder))
    except MissingPartError as error:
        raise UsageError(error.message, "name a folder of sentence-transformers with --text-encoder") from error


def _pooling(folder: Path) -> Pooling:
    """Return the pooling of a folder of sentence-transformers; mean where it names none."""
    for module in _json(folder / "modules.json") or ():
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in {"Transformer", "Pooling", "Normalize"}:
            raise UsageError(f"the text encoder in {folder} has a layer {kind!r:.40}", _NAME_ONE)
    pooling = _json(folder / "1_Pooling" / "config.json") or {}
    chosen = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on]
    known: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if not chosen:
        return "mean"
    if len(chosen) > 1 or chosen[0] not in known:
        raise UsageError(f"the text encoder in {folder} pools by {', '.join(chosen):.80}", _NAME_ONE)
    return known[chosen[0]]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: it is not JSON", _NAME_ONE) from error
