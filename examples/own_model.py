"""Explain a custom model without changing the source of line-neurons.

    line layers examples/own_model.py:colours
    line explain examples/own_model.py:colours features yellow red --llm embedded --generator bank -N 3

The network and its weights are defined here, so that the labels can be checked: its units respond to how much of
an image is green, red, blue or yellow, and to how finely it is patterned. A label is a concept with images, so
"yellow" is labelled with something yellow. The second command gives an orange slice for yellow and a rose for
red.

To use your own checkpoint, build the module, load your weights, and return it with the transform of the
training, without its random steps, and, if available, its class names.
"""

import torch
from torch import nn
from torchvision.transforms import v2

UNITS = ["green", "red", "blue", "yellow", "patterned"]

TRANSFORM = v2.Compose(
    [
        v2.PILToTensor(),
        v2.Resize(112, antialias=True),
        v2.CenterCrop(112),
        v2.ToDtype(torch.float32, scale=True),
    ]
)


class Colours(nn.Module):
    """Compute maps of five features of an image, and their mean over all positions.

    Takes float [N, 3, H, W] in [0, 1]; returns float [N, 5].
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, len(UNITS), 3, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        kernels = torch.zeros(len(UNITS), 3, 3, 3)
        # One row per unit: the weights of a pixel's red, green and blue. White, grey and black give 0.
        kernels[:4, :, 1, 1] = torch.tensor([[-1, 1, -0.5], [1, -1, -1], [-0.6, -0.6, 1], [0.5, 0.5, -1]])
        # The difference of a pixel from its neighbours, in grey.
        kernels[4] = -1 / 24
        kernels[4, :, 1, 1] = 1 / 3
        with torch.no_grad():
            self.features[0].weight.copy_(kernels)
            # Skin, sand and wood are slightly yellow; the bias excludes them.
            self.features[0].bias.copy_(torch.tensor([0, 0, 0, -0.3, 0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the five features of each image."""
        return self.pool(self.features(images))


def colours() -> tuple[nn.Module, object, list[str]]:
    """Return the module, its transform, and the names of its output units."""
    return Colours(), TRANSFORM, UNITS
