"""Train a TopK sparse autoencoder on the 7 x 7 positions of MobileNetV2, on images of the bundled bank.

Minutes on two CPU cores, without downloads:

    python examples/train_sae.py sae.safetensors
    line units torchvision:mobilenet_v2 features.18 --sae sae.safetensors
    line batch torchvision:mobilenet_v2 features.18 --sae sae.safetensors --units alive:random:10 --generator bank

The file has W_enc [d, K], b_enc, W_dec [K, d] and b_dec, and beside it a configuration as sae-lens writes it.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from line_neurons.agent.settings import load_settings
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.targets.layers.outputs import tokens_of

MODEL, LAYER = "torchvision:mobilenet_v2", "features.18"


def read_positions(images: int, seed: int) -> torch.Tensor:
    """Return the layer's values at every position of the bank's control images, float32 [N * 49, d]."""
    settings = load_settings(generator="bank", control="bank", control_images=images, seed=seed)
    components = Components(MODEL, settings)
    target, parts = components.target, []
    output = target.output(LAYER)
    for chunk in components.control_set.chunks():
        raw = target.raw_outputs(chunk.images, [LAYER])[LAYER]
        parts.append(tokens_of(raw, output).flatten(0, 1))
    return torch.cat(parts)


def train(
    values: torch.Tensor, latents: int, k: int, steps: int, batch: int, seed: int
) -> dict[str, torch.Tensor]:
    """Train a TopK autoencoder with Adam; latents that have not fired for long learn the residual (AuxK)."""
    generator = torch.Generator().manual_seed(seed)
    width = values.shape[1]
    decoder = torch.nn.functional.normalize(torch.randn(latents, width, generator=generator), dim=1)
    parameters = {
        "W_enc": decoder.T.clone() * 0.5,
        "b_enc": torch.zeros(latents),
        "W_dec": decoder,
        "b_dec": values.mean(0),
    }
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    optimiser = torch.optim.Adam(parameters.values(), lr=1e-3)
    spread = values.var(0).sum()
    idle = torch.zeros(latents)
    for step in range(steps):
        x = values[torch.randint(len(values), (batch,), generator=generator)]
        before = (x - parameters["b_dec"]) @ parameters["W_enc"] + parameters["b_enc"]
        top = before.topk(k)
        codes = torch.zeros_like(before).scatter(1, top.indices, top.values.relu())
        residual = x - (codes @ parameters["W_dec"] + parameters["b_dec"])
        loss = residual.pow(2).sum(1).mean() / spread
        idle += 1
        idle[(codes > 0).any(0)] = 0
        dead = (idle > 40).nonzero().flatten()
        if len(dead) > k:
            more = before[:, dead].topk(min(2 * k, len(dead)))
            helped = torch.zeros_like(before[:, dead]).scatter(1, more.indices, more.values.relu())
            loss = (
                loss + (residual.detach() - helped @ parameters["W_dec"][dead]).pow(2).sum(1).mean() / spread / 32
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            parameters["W_dec"] /= parameters["W_dec"].norm(dim=1, keepdim=True)
        if step % 100 == 0 or step == steps - 1:
            explained = 1 - residual.pow(2).sum(1).mean() / spread
            print(f"step {step}: explains {explained:.2f}, {len(dead)} of {latents} latents idle", flush=True)
    return {name: tensor.detach().contiguous() for name, tensor in parameters.items()}


def main() -> None:
    """Train, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--images", type=int, default=4, help="images of each class of the bank")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    values = read_positions(given.images, given.seed)
    print(f"{len(values):,} positions of {values.shape[1]} values", flush=True)
    state = train(values, given.latents, given.k, given.steps, given.batch, given.seed)
    save_file(state, given.file)
    config = {
        "architecture": "topk",
        "d_in": values.shape[1],
        "d_sae": given.latents,
        "k": given.k,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"model_name": MODEL, "hook_name": LAYER},
    }
    given.file.with_name("cfg.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
