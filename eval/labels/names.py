"""CoSy's names of models and layers, ``vit_b_16-features``, and the targets that they stand for.

As in its code (lkopf/cosy, ``src/utils.py``: ``get_target_model``, ``get_activations``); files of INVERT,
CLIP-Dissect, MILAN and FALCON have these names.
"""

from __future__ import annotations

from collections.abc import Mapping

from line_neurons.agent.errors import UsageError
from line_neurons.tools.target_specs import display_spec, short_spec, unversioned_spec
from line_neurons.tools.targets.registry import pinned_spec

MODELS: Mapping[str, str] = {
    **{
        name: f"torchvision:{name}@IMAGENET1K_V1"
        for name in ("resnet18", "resnet50", "vit_b_16", "densenet161", "googlenet")
    },
    "resnet50_places": "places365:resnet50",
}
"""The target of each model; torchvision's have the first release of their weights."""

LAYERS: Mapping[tuple[str, str], str] = {
    # The class token after the encoder; some of the files call the layer after the module that takes it out.
    ("vit_b_16", "features"): "encoder",
    ("vit_b_16", "subset"): "encoder",
    ("vit_b_16", "head"): "heads.head",
    ("vit_b_16", "ln"): "encoder.ln",
    ("vit_b_16", "layer11"): "encoder.layers.encoder_layer_11",
    ("densenet161", "fc"): "classifier",
    ("densenet161", "denseblock4"): "features.denseblock4",
}
"""The layer's path by CoSy's names of model and layer, where its own name is not the path."""

_ABSENT: Mapping[str, str] = {
    "densenet161_places": "Places365's DenseNet161, with a ReLU and a pooling that CoSy adds",
    "dino_vits8": "a model of torch.hub's facebookresearch/dino",
    "densenet161-features": "torchvision's DenseNet161 with a ReLU and a pooling that CoSy adds as modules",
}
"""Names without a target here, by model or by model and layer."""


def target_of(model: str, layer: str) -> tuple[str, str]:
    """Return the spec and the layer's path for the names in a file of labels.

    Args:
        model: a spec, CoSy's name of a model, or another name of torchvision's.
        layer: a path, or CoSy's name of a layer.

    Raises:
        UsageError: it is a name of CoSy's without a target here.
    """
    if ":" in model:
        return model, layer
    absent = _ABSENT.get(model) or _ABSENT.get(f"{model}-{layer}")
    if absent:
        raise UsageError(
            f"{model}-{layer} is {absent}, which no spec names",
            "give --model FILE.py:FUNCTION, a function that returns it, and --layer",
        )
    spec = MODELS.get(model) or (f"torchvision:{model}" if model else "")
    return spec and pinned_spec(spec), LAYERS.get((model, layer), layer)


def file_stem(model: str, layer: str) -> str:
    """Return the stem of CoSy's files for a model and layer, ``resnet18-avgpool``.

    Weights without a name of CoSy's keep their version: ``resnet50@IMAGENET1K_V2-avgpool``.
    """
    called = model_stem(model)
    for (of, name), path in LAYERS.items():
        if path == layer and of == called:
            return f"{of}-{name}"
    return f"{called}-{layer.rpartition('.')[2] or 'layer'}"


def model_stem(model: str) -> str:
    """Return the name of a model in file names: CoSy's, where it has one for exactly this model."""
    spec = display_spec(short_spec(model), "")
    named = next((name for name, target in MODELS.items() if target == spec), "")
    if not named and spec.startswith("robust:"):
        named = f"robust_{spec.partition(':')[2]}"
    called = named or spec.rpartition(":")[2].rpartition("/")[2] or "model"
    return called.removesuffix("@IMAGENET1K_V1") if spec.startswith("torchvision:") else called


def matches_target(model: str, layer: str, spec: str, path: str) -> bool:
    """Return whether labels of a model and layer are of a target; a spec without a version matches all versions.

    Args:
        layer: the layer of the labels; its last part is enough.
    """
    named = LAYERS.get((model, layer), layer)
    if file_stem(model, named) == file_stem(spec, path):
        return True
    known = display_spec(short_spec(model), "")
    unversioned = ":" in known and known == unversioned_spec(known) == unversioned_spec(
        display_spec(short_spec(spec), "")
    )
    return unversioned and layer.rpartition(".")[2] == path.rpartition(".")[2]
