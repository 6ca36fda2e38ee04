"""Compute ``library_encoders.npz``: latents of the libraries' own encoders, with random weights.

Run once, with the published code of the libraries in one folder (``pip download --no-deps`` and unpacked):

    python tests/tools/targets/latents/library_encoders.py FOLDER

FOLDER has the packages ``saev`` (commit 3d73f1f), ``vit_prisma`` (commit aa5ff6a), ``dictionary_learning`` 0.1.0,
``overcomplete`` 0.3.0 and ``sae_lens`` 6.54.12. Their encoders run unchanged; what they import for training alone
(wandb, transformer_lens and others) is replaced by empty packages.

Each case of the file has ``x`` [6, d], ``expected`` [6, K], the state dict, and what else the library writes.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import nn

D, K = 8, 24


class _Hook(nn.Identity):
    """transformer_lens's HookPoint without hooks."""


class _Root(nn.Module):
    def setup(self):
        pass


class _Empty:
    """Finds packages that encoders do not need, as empty ones."""

    names = (
        "nnsight", "transformer_lens", "datasets", "wandb", "plotly", "cv2", "skimage", "transformers", "tqdm",
        "line_profiler", "simple_parsing", "automated_interpretability", "babe", "nltk", "sklearn", "zstandard",
    )  # fmt: skip

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self.names else None

    def create_module(self, spec):
        made = MagicMock(spec=None)
        made.__spec__, made.__path__, made.__name__ = spec, [], spec.name
        made.HookPoint, made.HookedRootModule = _Hook, _Root
        made.profile = lambda function: function
        return made

    def exec_module(self, module):
        pass


def bare(folder: Path, *names: str) -> None:
    """Register packages without running their ``__init__``."""
    for name in names:
        module = ModuleType(name)
        module.__path__ = [str(folder / name.replace(".", "/"))]
        sys.modules[name] = module


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point() and tensor.ndim:
                drawn = torch.randn(tensor.shape, generator=generator) * 0.5
                tensor.copy_(drawn.abs() + 0.1 if "running_var" in name or name == "threshold" else drawn)
    return module.eval()


def main(folder: Path) -> None:
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, _Empty())
    x = torch.randn(6, D, generator=torch.Generator().manual_seed(1)) * 2
    cases: dict[str, dict[str, object]] = {}

    def keep(name: str, module: nn.Module, expected: torch.Tensor, **extra: object) -> None:
        cases[name] = {"state": module.state_dict(), "expected": expected.detach(), **extra}

    # saev
    bare(folder, "saev", "saev.nn")
    sys.modules["saev"].__version__ = "3d73f1f"
    sys.modules["saev"].helpers = SimpleNamespace(current_git_commit=lambda: "x")
    sys.modules["saev.nn"].objectives = MagicMock()
    saev = importlib.import_module("saev.nn.modeling")
    for activation in (saev.Relu(), saev.TopK(top_k=4), saev.BatchTopK(top_k=4)):
        config = saev.SparseAutoencoderConfig(d_model=D, d_sae=K, activation=activation)
        sae = randomised(saev.SparseAutoencoder(config))
        if hasattr(sae.activation, "threshold"):
            sae.activation.threshold.fill_(0.7)
        name = type(activation).__name__
        params = {key: value for key, value in vars(activation).items() if isinstance(value, (str, int, float))}
        header = {"schema": 5, "cfg": {"d_model": D, "d_sae": K, "activation": {"cls": name, "params": params}}}
        encoded = sae.encode(x)
        keep(f"saev {name}", sae, getattr(encoded, "f_x", encoded), header=header)

    # Prisma
    bare(folder, "vit_prisma", "vit_prisma.prisma_tools", "vit_prisma.sae", "vit_prisma.sae.training")
    for name, attribute in (("hook_point", "HookPoint"), ("hooked_root_module", "HookedRootModule")):
        stub = ModuleType(f"vit_prisma.prisma_tools.{name}")
        setattr(stub, attribute, _Hook if attribute == "HookPoint" else _Root)
        sys.modules[stub.__name__] = stub
    for name in ("vit_prisma.sae.config", "vit_prisma.sae.training.geometric_median"):
        sys.modules[name] = MagicMock()
    prisma = importlib.import_module("vit_prisma.sae.sae")
    for name, architecture, activation, options, norm in (
        ("relu", "standard", "relu", {}, "layer_norm"),
        ("topk", "standard", "topk", {"k": 4}, "constant_norm_rescale"),
        ("tanh-relu", "standard", "tanh-relu", {}, "none"),
        ("gated", "gated", "relu", {}, "layer_norm"),
    ):
        config = {
            "d_in": D, "d_sae": K, "activation_fn_str": activation, "activation_fn_kwargs": options,
            "normalize_activations": norm, "architecture": architecture, "cls_token_only": False,
            "use_patches_only": True, "hook_point_layer": 9, "model_name": "open-clip:laion/CLIP-ViT-B-32",
        }  # fmt: skip
        more = {
            "dtype": torch.float32, "device": "cpu", "l1_coefficient": 0.1, "lp_norm": 1, "use_ghost_grads": False,
            "initialization_method": "independent",
        }  # fmt: skip
        kind = prisma.GatedSparseAutoencoder if architecture == "gated" else prisma.StandardSparseAutoencoder
        sae = randomised(kind(SimpleNamespace(**config, **more)))
        keep(f"prisma {name}", sae, sae.encode(x)[1], config=config)

    # dictionary_learning
    bare(folder, "dictionary_learning", "dictionary_learning.trainers")
    dictionary = importlib.import_module("dictionary_learning.dictionary")
    trainers = {
        name: importlib.import_module(f"dictionary_learning.trainers.{name}")
        for name in ("top_k", "batch_top_k", "matryoshka_batch_top_k")
    }
    sae = randomised(dictionary.AutoEncoder(D, K))
    state = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    # As from_pretrained does; its last check compares float32 results to 1e-4, after scaling.
    with suppress(AssertionError):
        sae.normalize_decoder()
    cases["dictionary standard"] = {"state": state, "expected": sae.encode(x).detach()}
    for name, sae in (
        ("AutoEncoderTopK", trainers["top_k"].AutoEncoderTopK(D, K, 4)),
        ("BatchTopKSAE", trainers["batch_top_k"].BatchTopKSAE(D, K, 4)),
        ("MatryoshkaBatchTopKSAE", trainers["matryoshka_batch_top_k"].MatryoshkaBatchTopKSAE(D, K, 4, [8, 16])),
        ("JumpReluAutoEncoder", dictionary.JumpReluAutoEncoder(D, K)),
        ("GatedAutoEncoder", dictionary.GatedAutoEncoder(D, K)),
    ):
        randomised(sae)
        if "BatchTopK" in name:
            sae.threshold.fill_(0.7)
        config = {"trainer": {"dict_class": name, "lm_name": "some/model", "layer": 3}}
        keep(f"dictionary {name}", sae, sae.encode(x), config=config)

    # overcomplete
    bare(folder, "overcomplete", "overcomplete.sae")
    base = importlib.import_module("overcomplete.sae.base")
    sys.modules["overcomplete.sae"].SAE = base.SAE
    modules = {
        name: importlib.import_module(f"overcomplete.sae.{name}")
        for name in ("topk_sae", "batchtopk_sae", "jump_sae")
    }
    for name, sae, given in (
        ("TopK", modules["topk_sae"].TopKSAE(D, K, top_k=4), "topk:4"),
        ("TopK mlp_bn_1", modules["topk_sae"].TopKSAE(D, K, top_k=4, encoder_module="mlp_bn_1"), "topk:4"),
        ("TopK mlp_ln_1", modules["topk_sae"].TopKSAE(D, K, top_k=4, encoder_module="mlp_ln_1"), "topk:4"),
        ("BatchTopK", modules["batchtopk_sae"].BatchTopKSAE(D, K, top_k=4), "batchtopk:0.7"),
        ("Jump", modules["jump_sae"].JumpSAE(D, K), ""),
    ):
        randomised(sae)
        sae.running_threshold = torch.tensor(0.7)
        keep(f"overcomplete {name}", sae, sae.encode(x)[1], given=given)

    # sae-lens
    bare(folder, "sae_lens", "sae_lens.saes", "sae_lens.loading")
    sys.modules["sae_lens"].__version__, sys.modules["sae_lens"].logger = "6.54.12", MagicMock()
    for name in ("pretrained_sae_loaders", "pretrained_saes_directory"):
        sys.modules[f"sae_lens.loading.{name}"] = MagicMock()
    lens = {
        name: importlib.import_module(f"sae_lens.saes.{name}")
        for name in ("standard_sae", "topk_sae", "jumprelu_sae", "gated_sae")
    }
    for name, module, options in (
        ("StandardSAE", "standard_sae", {"apply_b_dec_to_input": True, "normalize_activations": "layer_norm"}),
        ("TopKSAE", "topk_sae", {"k": 4, "rescale_acts_by_decoder_norm": True}),
        ("JumpReLUSAE", "jumprelu_sae", {"apply_b_dec_to_input": False}),
        ("GatedSAE", "gated_sae", {"normalize_activations": "constant_norm_rescale"}),
    ):
        config = getattr(lens[module], f"{name}Config")(d_in=D, d_sae=K, **options)
        sae = randomised(getattr(lens[module], name)(config))
        written = {
            "d_in": D, "d_sae": K, "architecture": config.architecture(),
            "apply_b_dec_to_input": config.apply_b_dec_to_input,
            "normalize_activations": config.normalize_activations,
            "metadata": {"model_name": "some/model", "hook_name": "blocks.3.hook_resid_post"},
            **{key: options[key] for key in ("k", "rescale_acts_by_decoder_norm") if key in options},
        }  # fmt: skip
        keep(f"sae-lens {name}", sae, sae.encode(x), config=written)

    arrays: dict[str, np.ndarray] = {"x": x.numpy()}
    for name, case in cases.items():
        arrays[f"{name}/expected"] = case["expected"].numpy()
        about = {key: case[key] for key in ("header", "config", "given") if key in case}
        arrays[f"{name}/about"] = np.array(json.dumps(about))
        for key, tensor in case["state"].items():
            arrays[f"{name}/state/{key}"] = tensor.detach().numpy()
    target = Path(__file__).with_suffix(".npz")
    np.savez_compressed(target, **arrays)
    sys.stdout.write(f"{target}: {len(cases)} cases, {target.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
