"""The usual preprocessings, held to torchvision's own and to CoSy's code."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models, transforms

from line_neurons.tools.targets.transforms import MEAN, STD, cosy_transform, imagenet_transform


@pytest.fixture(params=[(500, 375), (200, 313), (224, 224)], ids=str)
def image(request):
    width, height = request.param
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_the_usual_one_is_that_of_torchvisions_first_release_to_the_bit(image):
    for weights in (models.ResNet18_Weights.IMAGENET1K_V1, models.ResNet50_Weights.IMAGENET1K_V1):
        assert torch.equal(imagenet_transform(image), weights.transforms()(image))


def test_cosys_is_that_of_its_code_to_the_bit(image):
    reference = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(mean=MEAN, std=STD),
        ]
    )
    assert torch.equal(cosy_transform(image), reference(image))
