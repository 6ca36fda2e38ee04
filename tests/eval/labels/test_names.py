"""CoSy's names of models and layers stand for the targets that its code loads."""

import pytest

from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.names import MODELS, file_stem, matches_target, target_of

# Its files of explanations, and the names that its code lists beside them.
PUBLISHED = [
    ("resnet18", "avgpool", "torchvision:resnet18@IMAGENET1K_V1", "avgpool"),
    ("resnet18", "fc", "torchvision:resnet18@IMAGENET1K_V1", "fc"),
    ("resnet18", "layer1", "torchvision:resnet18@IMAGENET1K_V1", "layer1"),
    ("resnet50", "avgpool", "torchvision:resnet50@IMAGENET1K_V1", "avgpool"),
    ("resnet50_places", "avgpool", "places365:resnet50", "avgpool"),
    ("vit_b_16", "features", "torchvision:vit_b_16@IMAGENET1K_V1", "encoder"),
    ("vit_b_16", "head", "torchvision:vit_b_16@IMAGENET1K_V1", "heads.head"),
    ("googlenet", "fc", "torchvision:googlenet@IMAGENET1K_V1", "fc"),
    ("densenet161", "fc", "torchvision:densenet161@IMAGENET1K_V1", "classifier"),
]


@pytest.mark.parametrize(("model", "layer", "spec", "path"), PUBLISHED)
def test_a_published_name_is_read_as_its_target_and_written_as_the_same_name(model, layer, spec, path):
    assert target_of(model, layer) == (spec, path)
    assert file_stem(spec, path) == f"{model}-{layer}"
    assert matches_target(model, layer, spec, path)


def test_a_published_file_is_not_of_another_release_or_other_weights():
    for spec in ("torchvision:resnet50@IMAGENET1K_V2", "torchvision:resnet50@own-01234567", "robust:resnet50",
                 "places365:resnet50", "keras:resnet50@imagenet", "timm:resnet50.a1_in1k"):  # fmt: skip
        assert not matches_target("resnet50", "avgpool", spec, "avgpool"), spec
        assert file_stem(spec, "avgpool") not in {
            f"{name}-avgpool" for name in MODELS if name != "resnet50_places"
        }
    assert file_stem("torchvision:resnet50@IMAGENET1K_V2", "avgpool") == "resnet50@IMAGENET1K_V2-avgpool"


def test_labels_that_do_not_say_the_version_are_of_any():
    for version in ("@IMAGENET1K_V1", "@IMAGENET1K_V2", "@own-01234567"):
        assert matches_target("torchvision:resnet50", "layer4", f"torchvision:resnet50{version}", "layer4")
    assert not matches_target("torchvision:resnet50", "layer3", "torchvision:resnet50@IMAGENET1K_V1", "layer4")


def test_some_files_call_the_vits_features_subset():
    assert target_of("vit_b_16", "subset") == target_of("vit_b_16", "features")
    assert matches_target("vit_b_16", "subset", "torchvision:vit_b_16@IMAGENET1K_V1", "encoder")


def test_other_names_are_torchvisions_with_the_references_weights():
    assert target_of("mobilenet_v2", "features.18") == ("torchvision:mobilenet_v2@IMAGENET1K_V1", "features.18")
    assert target_of("timm:x.y", "a.b") == ("timm:x.y", "a.b")
    assert target_of("", "") == ("", "")


@pytest.mark.parametrize(
    ("model", "layer"), [("densenet161_places", "features"), ("densenet161", "features"), ("dino_vits8", "x")]
)
def test_what_has_no_target_is_refused_with_the_remedy(model, layer):
    with pytest.raises(UsageError, match=rf"{model}-{layer} is .*--model FILE\.py:FUNCTION"):
        target_of(model, layer)
