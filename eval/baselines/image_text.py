"""Image-text encoders: CLIP and SigLIP of transformers, models of open_clip, and captions as a stand-in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from line_neurons.agent.errors import BackendError, MissingPartError, UsageError, reason_of
from line_neurons.agent.near_names import choices
from line_neurons.agent.ports import Control, LayerInfo
from line_neurons.tools.control_sets import control_activations
from line_neurons.tools.devices import deterministic_arithmetic, find_device
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.packages import required_package
from line_neurons.tools.weights_formats import weights_format

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, ControlSet, ImageData, Progress
    from line_neurons.tools.cache.activation_cache import Cache

    Embeddings = NDArray[np.float32]

CAPTIONS = "captions"
"""The stand-in without an encoder: the embedding of an image's caption in place of the image's."""
ENCODER_SPECS = ("hf:ID_OR_FOLDER", "open_clip:NAME/WEIGHTS", CAPTIONS)
DEFAULT = "hf:openai/clip-vit-base-patch16"

_AT_ONCE = 64
_SIDE = "embedding"


class ImageTextEncoder(Protocol):
    """Embeds images and texts into one space, in which the inner product is their similarity."""

    @property
    def fingerprint(self) -> str:
        """Identity of the weights and of the preprocessing."""

    def images(self, images: Sequence[ImageData]) -> Embeddings:
        """Embed images, float32 [n, d], each row of length 1."""

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts, float32 [n, d], each row of length 1."""


def open_encoder(spec: str, *, device: str = "auto", download: bool = False) -> ImageTextEncoder:
    """Open the encoder that ``spec`` names.

    Args:
        spec: ``hf:`` with a folder that transformers reads or an id of the hub, or ``open_clip:`` with an
            architecture and, after a ``/``, the tag or the file of the weights; or ``open_clip:hf-hub:ID`` or
            ``open_clip:local-dir:FOLDER``.
        device: see ``find_device``.

    Raises:
        UsageError: there is no such encoder.
        MissingPartError: a package or the weights are missing.
    """
    kind, _, name = spec.partition(":")
    if kind == "hf" and name:
        from line_neurons.tools.hub import model_folder

        return TransformersEncoder(model_folder(name, download), device)
    if kind == "open_clip" and name:
        return _open_clip(name, device, download)
    raise UsageError(f"there is no image-text encoder {spec!r:.80}", choices(spec, ENCODER_SPECS))


@dataclass(frozen=True)
class TransformersEncoder:
    """A CLIP-like model of transformers, read from a folder; code in the folder is not run.

    Args:
        folder: holds ``config.json``, the weights, the tokenizer and the preprocessing.
        device: see ``find_device``.

    Raises:
        MissingPartError: transformers is not installed.
        UsageError: the folder holds no such model.
    """

    folder: Path
    device: str = "auto"

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        with required_package("transformers", "targets", needed="an image-text encoder needs"):
            import transformers
        for file in self.folder.glob("*.safetensors"):
            weights_format(file)
        readers: tuple[Any, ...] = (
            transformers.AutoModel,
            transformers.AutoTokenizer,
            transformers.AutoImageProcessor,
        )
        try:
            model, tokenizer, processor = (
                reader.from_pretrained(str(self.folder), local_files_only=True, trust_remote_code=False)
                for reader in readers
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise UsageError(
                f"{self.folder} holds no image-text encoder that transformers can read: {reason_of(error)}",
                "give the folder of a CLIP or SigLIP with its tokenizer and preprocessing",
            ) from error
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise UsageError(
                f"{self.folder} holds a {model.config.model_type!r} model, which has no text and image side",
                "give a CLIP or SigLIP",
            )
        return model.to(find_device(self.device)).eval(), tokenizer, processor

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, vocabulary and preprocessing."""
        model, tokenizer, processor = self._parts
        return _fingerprint("hf", model, tokenizer.get_vocab(), processor.to_json_string())

    def images(self, images: Sequence[ImageData]) -> Embeddings:
        """See ``ImageTextEncoder.images``."""
        model, _, processor = self._parts

        def embed(part: Sequence[Any]) -> Any:
            pixels = processor(images=list(part), return_tensors="pt")["pixel_values"]
            return _vector(model.get_image_features(pixel_values=pixels.to(model.device)))

        return _batched([_decoded(image) for image in images], embed)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """See ``ImageTextEncoder.texts``; longer texts are truncated."""
        model, tokenizer, _ = self._parts
        length = model.config.text_config.max_position_embeddings

        def embed(part: Sequence[str]) -> Any:
            # SigLIP was trained on texts that fill its length; CLIP masks what does.
            tokens = tokenizer(
                list(part), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
            )
            return _vector(model.get_text_features(**tokens.to(model.device)))

        return _batched(texts, embed)


@dataclass(frozen=True)
class _OpenClip:
    fingerprint: str
    model: Any
    prepare: Any
    tokenize: Any
    device: Any

    def images(self, images: Sequence[ImageData]) -> Embeddings:
        import torch

        def embed(part: Sequence[Any]) -> Any:
            return self.model.encode_image(torch.stack([self.prepare(image) for image in part]).to(self.device))

        return _batched([_decoded(image) for image in images], embed)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        return _batched(texts, lambda part: self.model.encode_text(self.tokenize(list(part)).to(self.device)))


def _open_clip(name: str, device: str, download: bool) -> ImageTextEncoder:
    with required_package(
        "open_clip", remedy="pip install open_clip_torch", needed="the image-text encoder needs"
    ):
        import open_clip
    # Hubs and folders say all in one name; other names are of architectures, which have several weights.
    whole = name.startswith(("hf-hub:", "local-dir:"))
    architecture, _, weights = (name, "", "") if whole else name.partition("/")
    if not whole and not weights:
        raise UsageError(
            f"open_clip:{name:.80} names no weights", f"open_clip:{name:.80}/TAG, see open_clip.list_pretrained()"
        )
    if not download and not name.startswith("local-dir:") and not Path(weights or ".").expanduser().is_file():
        raise MissingPartError(
            f"open_clip may have to fetch the weights of {name!r:.80}",
            "allow that with --download, or give a file",
        )
    found = find_device(device)
    try:
        model, _, prepare = open_clip.create_model_and_transforms(
            architecture, pretrained=weights or None, device=found
        )
        tokenize = open_clip.get_tokenizer(architecture)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UsageError(
            f"open_clip cannot open {name!r:.80}: {reason_of(error)}", "see open_clip.list_pretrained()"
        ) from error
    print_ = _fingerprint(f"open_clip:{architecture}", model, {}, str(prepare))
    return _OpenClip(print_, model.eval(), prepare, tokenize, found)


def _fingerprint(kind: str, model: Any, words: dict[str, int], preprocessing: str) -> str:
    import torch

    digest = hashlib.sha256(f"{preprocessing}\n{sorted(words.items())}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"image-text:{kind}:{digest.hexdigest()[:32]}"


def _vector(found: Any) -> Any:
    """Return the embeddings, which some releases of transformers put into a larger output."""
    return getattr(found, "pooler_output", found)


def _batched(items: Sequence[Any], embed: Callable[[Sequence[Any]], Any]) -> Embeddings:
    import torch

    parts = []
    with torch.inference_mode(), deterministic_arithmetic():
        for start in range(0, len(items), _AT_ONCE):
            rows = embed(items[start : start + _AT_ONCE]).float()
            parts.append(torch.nn.functional.normalize(rows, dim=-1).cpu().numpy())
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _decoded(image: ImageData) -> Any:
    try:
        return read_image(image)
    except ImageError as error:
        raise BackendError(f"an image cannot be decoded: {error}", error.remedy) from error


@dataclass(frozen=True)
class EncoderTarget:
    """The image side of an encoder as a target of one layer, so that the cache keeps its vectors."""

    encoder: ImageTextEncoder
    batch_size: int = _AT_ONCE

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.encoder.fingerprint

    def layers(self) -> list[LayerInfo]:
        """The one layer, of embeddings."""
        return [LayerInfo(_SIDE, "encoder", (0,), 0)]

    def unit_names(self, layer: str) -> None:
        """Dimensions of an embedding have no names."""
        return None

    def activate(
        self, images: Sequence[ImageData], layers: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Activations]:
        """Embed images, float32 [n, d]."""
        return dict.fromkeys(layers, self.encoder.images(images))


def embed_images(
    encoder: ImageTextEncoder, images: ControlSet, bank: Cache, progress: Progress | None = None
) -> Embeddings:
    """Embed the images of a control set, in its order; the cache keeps the embeddings, chunk by chunk.

    Raises:
        LineError: see ``control_activations``.
    """
    return control_activations(bank, EncoderTarget(encoder), [_SIDE], images, progress)[_SIDE].dense()


def embed_texts(
    fingerprint: str, texts: Sequence[str], bank: Cache, embed: Callable[[list[str]], Embeddings]
) -> Embeddings:
    """Return embeddings of texts from the cache or, the first time, from ``embed``."""
    key = "\n".join((fingerprint, "texts", hashlib.sha256("\0".join(texts).encode()).hexdigest()))
    kept = bank.control(key)
    if kept is None:
        kept = Control((), np.full(len(texts), -1, np.int64), embed(list(texts)))
        bank.put_control(key, kept)
    return kept.dense()
