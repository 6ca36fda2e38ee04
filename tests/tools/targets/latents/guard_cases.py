"""Measure what the check of a reconstruction says of right, poor and wrong autoencoders.

    python tests/tools/targets/latents/guard_cases.py topk.safetensors

The file is what ``examples/train_sae.py`` writes. Others are trained here for fewer steps, on the same layer: of
normalised input, of few steps, of half the classes, with an L1 penalty.
"""

from __future__ import annotations

import argparse
import runpy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from line_neurons.agent.settings import load_settings
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.reconstruction import judge
from line_neurons.tools.targets.latents.autoencoder import InputScaling, LatentActivation, SparseAutoencoder
from line_neurons.tools.targets.latents.formats import AutoencoderRequest, open_autoencoder
from line_neurons.tools.targets.latents.reconstruction import input_variants, reconstruction
from line_neurons.tools.targets.layers.outputs import tokens_of

if TYPE_CHECKING:
    from torch import Tensor

_EXAMPLE = Path(__file__).parents[4] / "examples" / "train_sae.py"
MODEL, LAYERS = "torchvision:mobilenet_v2", ("features.18", "features.18.0", "features.18.1")
_IMAGES, _BATCH = 64, 256


def positions(images: int, seed: int) -> dict[str, Tensor]:
    """Return the values of some layers at every position of control images, float32 [n, d]."""
    settings = load_settings(generator="bank", control="bank", control_images=images, seed=seed)
    components = Components(MODEL, settings)
    target, parts = components.target, {layer: [] for layer in LAYERS}  # type: dict[str, list[Tensor]]
    outputs = {layer: target.output(layer) for layer in LAYERS}
    for chunk in components.control_set.chunks():
        for layer, raw in target.raw_outputs(chunk.images, list(LAYERS)).items():
            parts[layer].append(tokens_of(raw, outputs[layer]).flatten(0, 1))
    return {layer: torch.cat(found) for layer, found in parts.items()}


def autoencoder(state: dict[str, Tensor], **options: Any) -> SparseAutoencoder:
    """Return an autoencoder of trained tensors, as the example's files are read."""
    activation = options.pop("activation", LatentActivation("topk-relu", 16))
    return SparseAutoencoder(
        "x",
        "",
        state["W_enc"],
        state["b_enc"],
        activation,
        state["b_dec"],
        state["W_dec"],
        state["b_dec"],
        **options,
    )


def with_penalty(values: Tensor, latents: int, steps: int, weight: float) -> dict[str, Tensor]:
    """Train a ReLU autoencoder with an L1 penalty, of which the latents are smaller than would fit best."""
    generator = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(latents, values.shape[1], generator=generator), dim=1)
    state = {"W_enc": decoder.T.clone(), "b_enc": torch.zeros(latents), "W_dec": decoder, "b_dec": values.mean(0)}
    for tensor in state.values():
        tensor.requires_grad_(True)
    optimiser = torch.optim.Adam(state.values(), lr=1e-3)
    for _ in range(steps):
        x = values[torch.randint(len(values), (_BATCH,), generator=generator)]
        codes = ((x - state["b_dec"]) @ state["W_enc"] + state["b_enc"]).relu()
        residual = x - (codes @ state["W_dec"] + state["b_dec"])
        loss = residual.pow(2).sum(1).mean() + weight * codes.sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            state["W_dec"] /= state["W_dec"].norm(dim=1, keepdim=True)
    return {name: tensor.detach() for name, tensor in state.items()}


def cases(
    layers: dict[str, Tensor], file: str, latents: int, steps: int
) -> Iterator[tuple[str, SparseAutoencoder, Tensor]]:
    """Yield what is right or wrong, autoencoders, and the tokens that they are checked on."""
    tokens, half = layers[LAYERS[0]], len(layers[LAYERS[0]]) // 2
    right = open_autoencoder(AutoencoderRequest(file))
    assert right.decoder is not None and right.after is not None
    order = torch.randperm(right.units, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros_like(right.after)
    yield "right", right, tokens
    yield "shuffled decoder", replace(right, decoder=right.decoder[order]), tokens
    yield "b_dec of zeros", replace(right, before=zeros, after=zeros), tokens
    yield "b_dec not subtracted", replace(right, before=None), tokens
    yield "b_dec not added", replace(right, after=None), tokens
    yield "another layer: the convolution", right, layers[LAYERS[1]]
    yield "another layer: before ReLU6", right, layers[LAYERS[2]]
    train = runpy.run_path(str(_EXAMPLE))["train"]

    def trained(values: Tensor, count: int = steps) -> SparseAutoencoder:
        return autoencoder(train(values, latents, 16, count, _BATCH, 0))

    yield f"right, {latents} latents", trained(tokens), tokens
    yield f"right, {steps // 10} steps", trained(tokens, steps // 10), tokens
    yield "right, of other classes", trained(tokens[:half]), tokens[half:]
    norm = float(tokens.norm(dim=1).mean()) / tokens.shape[1] ** 0.5
    state = with_penalty(tokens, latents, steps, 0.1 * norm)
    yield "right, ReLU with an L1 penalty", autoencoder(state, activation=LatentActivation("relu")), tokens
    mean = tokens.mean(0)
    scaling = InputScaling(mean, torch.tensor(float((tokens - mean).pow(2).mean().sqrt())))
    inputs = {
        "mean and scale": ((tokens - mean) / scaling.scale, {"scaling": scaling}),
        "layer_norm": (
            (tokens - tokens.mean(1, keepdim=True)) / (tokens.std(1, keepdim=True) + 1e-5),
            {"normalisation": "layer_norm"},
        ),
        "constant_norm_rescale": (
            tokens / tokens.norm(dim=1, keepdim=True) * tokens.shape[1] ** 0.5,
            {"normalisation": "constant_norm_rescale"},
        ),
    }
    for name, (values, options) in inputs.items():
        sae = trained(values)
        yield f"right, {name}", replace(sae, **options), tokens
        yield f"{name} missing", sae, tokens


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--latents", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--positions", type=Path, help="file that keeps the positions")
    given = parser.parse_args(arguments)
    if given.positions and given.positions.exists():
        layers = torch.load(given.positions)
    else:
        layers = positions(given.images, 0)
        if given.positions:
            torch.save(layers, given.positions)
    print(f"{'':36} explained shifted calibrated systematic")
    for name, sae, tokens in cases(layers, given.file, given.latents, given.steps):
        step = max(1, len(tokens) // (_IMAGES * 49))
        some = tokens[::step]
        found = reconstruction(some, sae)
        others = {flag: reconstruction(some, variant) for flag, variant in input_variants(some, sae).items()}
        numbers = (found.explained, found.shifted, found.calibrated, found.systematic)
        print(f"{name:36}" + " ".join(f"{number or 0:9.2f}" for number in numbers))
        for flag, other in others.items():
            print(f"    {flag[:56]:60} {other.explained:6.2f}", flush=True)
        verdict = judge(sae, some, LAYERS[0], _IMAGES)
        print("    REFUSED" if verdict.refused else "    marked" if verdict.doubtful else "    ok", verdict.remedy)


if __name__ == "__main__":
    main()
