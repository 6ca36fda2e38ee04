"""Recognise sparse autoencoders by the names of their tensors: saev, Prisma, dictionary_learning and others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.targets.latents.autoencoder import (
    ActivationName,
    Gate,
    LatentActivation,
    Normalisation,
    SparseAutoencoder,
    TokenChoice,
    check_autoencoder,
)
from line_neurons.tools.targets.latents.files import StoredAutoencoder, read_autoencoder, read_scaling

if TYPE_CHECKING:
    from torch import Tensor

ANCHORS = ("W_enc", "encoder.weight", "encoder.final_block.0.weight")
"""Names of the encoder's matrix."""

_NAMED = re.compile(
    r"(relu|tanh-relu|jumprelu|topk(?::(?P<k>[0-9]{1,7}))?|batchtopk(?::(?P<threshold>[0-9.eE+-]+))?)"
)
_CHOICES = "relu, tanh-relu, topk:K, batchtopk:THRESHOLD or jumprelu"
_GIVE = "say how its encoder ends: --sae-activation relu, topk:K, batchtopk:THRESHOLD or jumprelu"


@dataclass(frozen=True)
class AutoencoderRequest:
    """What the user says of a sparse autoencoder; None where its file decides.

    Args:
        place: file, folder or repository of the hub.
        activation: ``relu``, ``tanh-relu``, ``topk[:K]``, ``batchtopk[:THRESHOLD]`` or ``jumprelu``.
        minus_b_dec: subtract b_dec from the input of the encoder.
        scaling: file with ``mean``, ``scale`` and perhaps ``clamp`` of the input.
        download: download from the hub what is not here.
    """

    place: str
    activation: str | None = None
    minus_b_dec: bool | None = None
    scaling: Path | None = None
    download: bool = False


def open_autoencoder(request: AutoencoderRequest) -> SparseAutoencoder:
    """Open a sparse autoencoder; its library is known by the names of its tensors and its configuration.

    Raises:
        UsageError: it is none, something is missing in its file, or what the user says does not fit.
        MissingPartError: a repository is not here.
    """
    stored = read_autoencoder(request.place, ANCHORS, download=request.download)
    recognised, read = next((library, reader) for library, fits, reader in _LIBRARIES if fits(stored))
    sae = replace(read(stored, request), source=request.place, library=recognised)
    if request.minus_b_dec is not None:
        if request.minus_b_dec and sae.after is None:
            raise UsageError(f"{request.place} has no b_dec to subtract", "leave out --sae-minus-b-dec")
        sae = replace(sae, before=sae.after if request.minus_b_dec else None)
    if request.scaling is not None:
        sae = replace(sae, scaling=read_scaling(request.scaling, sae.width))
    return check_autoencoder(sae)


def _is_saev(stored: StoredAutoencoder) -> bool:
    return stored.header is not None


def _is_overcomplete(stored: StoredAutoencoder) -> bool:
    return "dictionary._weights" in stored.tensors


def _is_linear(stored: StoredAutoencoder) -> bool:
    return "encoder.weight" in stored.tensors


def _is_sae_lens(stored: StoredAutoencoder) -> bool:
    return "apply_b_dec_to_input" in stored.config


def _is_prisma(stored: StoredAutoencoder) -> bool:
    return bool(stored.config.keys() & {"cls_token_only", "use_patches_only", "hook_point"})


def _saev(stored: StoredAutoencoder, request: AutoencoderRequest) -> SparseAutoencoder:
    header = stored.header or {}
    config = header.get("cfg", header)
    told = config.get("activation") if isinstance(config, dict) else None
    if isinstance(told, dict):
        name, options = str(told.get("cls", "Relu")), told.get("params") or {}
    else:
        # Files of schema 1 name the activation as their class; those before the schemas know ReLU alone.
        name, options = str(header.get("cls", "Relu")), config
    if name == "SparseAutoencoderConfig":
        name = "Relu"
    threshold = stored.tensors.get("activation.threshold")
    made: LatentActivation
    if request.activation is not None:
        made = _by_user(stored, request.activation, threshold)
    elif name == "Relu":
        made = LatentActivation("relu")
    elif name == "TopK":
        made = LatentActivation("topk", _positive(options.get("top_k"), stored, "top_k"))
    elif name == "BatchTopK":
        if threshold is None:
            raise _no_threshold(stored)
        made = LatentActivation("threshold", threshold=threshold.clamp(min=0))
    else:
        raise UsageError(f"{stored.place} has the activation {name!r:.60}, which is not known", _GIVE)
    sae = _usual(stored, made, minus_b_dec="schema" not in header)
    note = (
        ""
        if "schema" in header
        else "a file of saev from before its schemas: the version that wrote it subtracts b_dec from the input"
    )
    return replace(sae, layer=_text(config, "layer"), model=_text(config, "model"), note=note)


def _prisma(stored: StoredAutoencoder, request: AutoencoderRequest) -> SparseAutoencoder:
    config = stored.config
    name, options = str(config.get("activation_fn_str", "relu")), config.get("activation_fn_kwargs") or {}
    tokens: TokenChoice | None = (
        "cls" if config.get("cls_token_only") else "patches" if config.get("use_patches_only") else "all"
    )
    sae = _usual(
        stored,
        _by_config(stored, request, name, options, None),
        minus_b_dec=True,
        normalisation=_normalisation(config.get("normalize_activations")),
    )
    layer = _text(config, "hook_point") or _text(config, "hook_point_layer")
    return replace(sae, tokens=tokens, layer=layer, model=_text(config, "model_name"))


def _sae_lens(stored: StoredAutoencoder, request: AutoencoderRequest) -> SparseAutoencoder:
    config = stored.config
    architecture = str(config.get("architecture", "standard"))
    options = config.get("activation_fn_kwargs") or {}
    name = str(config.get("activation_fn") or config.get("activation_fn_str") or "relu")
    if architecture == "topk":
        name, options = "topk", {"k": config.get("k", options.get("k"))}
    if architecture == "jumprelu":
        name = "jumprelu"
    if architecture not in {"standard", "topk", "jumprelu", "gated", "batchtopk"}:
        raise UsageError(
            f"{stored.place} is of the architecture {architecture!r:.40} of sae-lens", "not supported"
        )
    if architecture == "batchtopk":
        name = "jumprelu"
    threshold = stored.tensors.get("threshold")
    sae = _usual(
        stored,
        _by_config(stored, request, name, options, threshold),
        minus_b_dec=bool(config.get("apply_b_dec_to_input")),
        normalisation=_normalisation(config.get("normalize_activations")),
    )
    if config.get("rescale_acts_by_decoder_norm") and sae.decoder is not None:
        norms = sae.decoder.norm(dim=1)
        sae = replace(
            sae, encoder=sae.encoder * norms, bias=sae.bias * norms, decoder=sae.decoder / norms[:, None]
        )
    if config.get("finetuning_scaling_factor"):
        raise UsageError(
            f"{stored.place} scales its latents by a factor of a fine-tuning, which is not supported",
            "fold it into W_dec with sae-lens and save it again",
        )
    metadata = config.get("metadata") if isinstance(config.get("metadata"), dict) else {}
    said = {**config, **cast(dict[str, Any], metadata)}
    return replace(sae, layer=_text(said, "hook_name"), model=_text(said, "model_name"))


def _dictionary_learning(stored: StoredAutoencoder, request: AutoencoderRequest) -> SparseAutoencoder:
    trainer = stored.config.get("trainer")
    sae = _linear(stored, request, _text(trainer, "dict_class"))
    return replace(sae, layer=_text(trainer, "layer"), model=_text(trainer, "lm_name"))


def _linear(stored: StoredAutoencoder, request: AutoencoderRequest, kind: str) -> SparseAutoencoder:
    tensors = stored.tensors
    encoder = tensors["encoder.weight"].T.contiguous()
    decoder = tensors["decoder.weight"].T.contiguous() if "decoder.weight" in tensors else None
    units = encoder.shape[1]
    zeros = encoder.new_zeros(units)
    if "gate_bias" in tensors:
        after = tensors["decoder_bias"]
        return SparseAutoencoder(
            "", "", encoder, zeros, LatentActivation("relu"), after, decoder, after,
            gate=Gate(tensors["gate_bias"], tensors["r_mag"], tensors["mag_bias"]),
        )  # fmt: skip
    bias = tensors.get("encoder.bias", zeros)
    if "b_dec" in tensors:
        after = tensors["b_dec"]
        made = _kind_of_topk(stored, request, kind)
        return SparseAutoencoder("", "", encoder, bias, made, after, decoder, after)
    activation = (
        LatentActivation("relu")
        if request.activation is None
        else _by_user(stored, request.activation, tensors.get("threshold"))
    )
    if "bias" in tensors:
        # The library scales the decoder's columns to length 1 when it loads the file.
        if decoder is not None:
            norms = decoder.norm(dim=1)
            encoder, bias, decoder = encoder * norms, bias * norms, decoder / norms[:, None]
        after = tensors["bias"]
        return SparseAutoencoder("", "", encoder, bias, activation, after, decoder, after)
    return SparseAutoencoder("", "", encoder, bias, activation, None, decoder, tensors.get("decoder.bias"))


def _kind_of_topk(stored: StoredAutoencoder, request: AutoencoderRequest, kind: str) -> LatentActivation:
    """Tell TopK and BatchTopK apart, of which the files have the same tensors."""
    threshold = stored.tensors.get("threshold")
    if request.activation is not None:
        return _by_user(stored, request.activation, threshold)
    never_set = threshold is None or float(threshold) < 0
    if "BatchTopK" in kind:
        if threshold is None or never_set:
            raise _no_threshold(stored)
        return LatentActivation("threshold", threshold=threshold)
    if "TopK" in kind or never_set:
        return LatentActivation("topk-relu", _positive(stored.tensors.get("k"), stored, "k"))
    raise UsageError(
        f"{stored.place} may be a TopK or a BatchTopK autoencoder: dictionary_learning names their tensors alike",
        "put its config.json beside it, or say --sae-activation topk or batchtopk",
    )


def _overcomplete(stored: StoredAutoencoder, request: AutoencoderRequest) -> SparseAutoencoder:
    import torch

    tensors = stored.tensors
    if others := [
        name for name in tensors if name.startswith("encoder.") and not name.startswith("encoder.final_block")
    ]:
        raise UsageError(
            f"the encoder of {stored.place} has hidden blocks ({others[0]:.60}); only a linear one can be read",
            "hand it over in Python: explain(model, layer, units, sae=...)",
        )
    block = "encoder.final_block"
    encoder, bias = tensors[f"{block}.0.weight"].T, tensors[f"{block}.0.bias"]
    norm = None
    if f"{block}.1.running_var" in tensors:
        factor = tensors[f"{block}.1.weight"] / (tensors[f"{block}.1.running_var"] + 1e-5).sqrt()
        encoder = encoder * factor
        bias = (bias - tensors[f"{block}.1.running_mean"]) * factor + tensors[f"{block}.1.bias"]
    elif f"{block}.1.weight" in tensors:
        norm = tensors[f"{block}.1.weight"], tensors[f"{block}.1.bias"]
    weights = tensors["dictionary._weights"]
    multiplier = tensors.get("dictionary.multiplier", torch.tensor(0.0))
    decoder = weights / (weights.norm(dim=1, keepdim=True) + 1e-8) * multiplier.exp()
    if "thresholds" in tensors:
        activation = LatentActivation("threshold-from", threshold=tensors["thresholds"].exp())
    elif request.activation is None:
        raise UsageError(
            f"{stored.place} is a state dict of overcomplete, which does not say how its encoder ends", _GIVE
        )
    else:
        activation = _by_user(stored, request.activation, None)
        if activation.name == "threshold":
            activation = replace(activation, name="threshold-from")
    return SparseAutoencoder("", "", encoder.contiguous(), bias, activation, None, decoder, None, layer_norm=norm)


def _plain(stored: StoredAutoencoder, request: AutoencoderRequest) -> SparseAutoencoder:
    tensors = stored.tensors
    threshold = tensors.get("threshold")
    if "group_sizes" in tensors:
        if request.activation is None and (threshold is None or float(threshold) < 0):
            raise _no_threshold(stored)
        activation = (
            LatentActivation("threshold", threshold=threshold)
            if request.activation is None
            else _by_user(stored, request.activation, threshold)
        )
        return _usual(stored, activation, minus_b_dec=True)
    if request.activation is not None:
        activation = _by_user(stored, request.activation, threshold)
    elif threshold is not None and threshold.ndim == 1 and len(threshold) > 1:
        activation = LatentActivation("threshold", threshold=threshold)
    elif "r_mag" in tensors:
        activation = LatentActivation("relu")
    else:
        raise UsageError(f"{stored.place} does not say how its encoder ends, and has no configuration", _GIVE)
    return _usual(stored, activation, minus_b_dec=False)


_Reader = Callable[[StoredAutoencoder, AutoencoderRequest], SparseAutoencoder]
_LIBRARIES: tuple[tuple[str, Callable[[StoredAutoencoder], bool], _Reader], ...] = (
    ("saev", _is_saev, _saev),
    ("overcomplete", _is_overcomplete, _overcomplete),
    ("dictionary_learning", _is_linear, _dictionary_learning),
    ("sae-lens", _is_sae_lens, _sae_lens),
    ("Prisma", _is_prisma, _prisma),
    ("plain tensors", lambda _: True, _plain),
)
"""Library, how its files are recognised, and how they are read; the first that fits."""


def _usual(
    stored: StoredAutoencoder,
    activation: LatentActivation,
    *,
    minus_b_dec: bool,
    normalisation: Normalisation = "none",
) -> SparseAutoencoder:
    """Return an autoencoder with tensors W_enc, b_enc, W_dec and b_dec, or those of a gated one."""
    tensors = stored.tensors
    encoder = tensors["W_enc"]
    if encoder.ndim != 2:
        raise UsageError(f"W_enc of {stored.place} is no matrix", "give the whole file as its library wrote it")
    after = tensors.get("b_dec")
    if minus_b_dec and after is None:
        raise UsageError(
            f"{stored.place} has no b_dec, which its encoder subtracts from the input",
            "give the whole file, or insist with --no-sae-minus-b-dec",
        )
    gated = "r_mag" in tensors
    return SparseAutoencoder(
        "", "", encoder, tensors.get("b_enc", encoder.new_zeros(encoder.shape[1])), activation,
        after if minus_b_dec else None, tensors.get("W_dec"), after, normalisation,
        gate=Gate(tensors["b_gate"], tensors["r_mag"], tensors["b_mag"]) if gated else None,
    )  # fmt: skip


def _by_config(
    stored: StoredAutoencoder,
    request: AutoencoderRequest,
    name: str,
    options: Mapping[str, Any],
    threshold: Tensor | None,
) -> LatentActivation:
    if request.activation is not None:
        return _by_user(stored, request.activation, threshold)
    if name == "topk":
        return LatentActivation("topk-relu", _positive(options.get("k"), stored, "k"))
    if name in {"relu", "tanh-relu"}:
        return LatentActivation(cast(Any, name))
    if name == "jumprelu":
        if threshold is None:
            raise _no_threshold(stored)
        return LatentActivation("threshold", threshold=threshold)
    raise UsageError(f"{stored.place} has the activation {clean_text(name, 60)!r}, which is not known", _GIVE)


def _by_user(stored: StoredAutoencoder, text: str, threshold: Tensor | None) -> LatentActivation:
    import torch

    found = _NAMED.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r:.60} is no activation of a sparse autoencoder", f"choose {_CHOICES}")
    name = text.partition(":")[0]
    if name == "topk":
        kept = stored.tensors.get("k") if found["k"] is None else int(found["k"])
        # saev alone keeps negative values among the largest.
        kind: ActivationName = "topk-relu" if stored.header is None else "topk"
        return LatentActivation(kind, _positive(kept, stored, "k"))
    if name == "batchtopk" and found["threshold"] is not None:
        return LatentActivation("threshold", threshold=torch.tensor(_number(found["threshold"])))
    if name in {"batchtopk", "jumprelu"}:
        if threshold is None:
            raise _no_threshold(stored)
        return LatentActivation("threshold", threshold=threshold)
    return LatentActivation(cast(Any, name))


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UsageError(f"{text!r:.40} is no threshold", "give a number, as in batchtopk:0.5")
    return found


def _positive(value: object, stored: StoredAutoencoder, name: str) -> int:
    try:
        found = int(cast(Any, value))
    except (TypeError, ValueError):
        found = 0
    if found < 1:
        raise UsageError(
            f"{stored.place} does not say how many latents of a token stay ({name})", "say --sae-activation topk:K"
        )
    return found


def _no_threshold(stored: StoredAutoencoder) -> UsageError:
    return UsageError(
        f"{stored.place} has no threshold, without which its latents depend on the other images of a batch",
        "give the one of its training: --sae-activation batchtopk:THRESHOLD",
    )


def _normalisation(name: object) -> Normalisation:
    if name in {None, "none", False}:
        return "none"
    if name in {"layer_norm", "constant_norm_rescale"}:
        return cast(Normalisation, str(name))
    raise UsageError(
        f"the autoencoder normalises its input by {clean_text(str(name), 60)!r}, and its file has no factor",
        "fold the factor into its weights, or give it with --sae-input",
    )


def _text(config: object, name: str) -> str:
    value = config.get(name) if isinstance(config, Mapping) else None
    return clean_text(str(value), 200) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
