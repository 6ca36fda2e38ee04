"""A model of one's own, explained without a line in line-neurons' source.

    line layers examples/own_model.py:colours
    line explain examples/own_model.py:colours features yellow red --llm embedded --generator bank -N 3

The network is made here, weights and all, so that anybody can judge the labels: its units respond to how much of a
image is green, red, blue or yellow, and to how finely it is patterned. A label is something that can be
generated, so that of "yellow" is not yellow but a thing that is. The second line gives an orange slice for yellow
and a rose for red.

Put your own checkpoint in its place: build the module, load your weights, and return it with the transform that it
was trained with, without its random parts, and, if you have them, its class names.
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
    """Maps of five features of an image, and their mean over all positions.

    Takes float [N, 3, H, W] in [0, 1]; gives float [N, 5].
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, len(UNITS), 3, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        kernels = torch.zeros(len(UNITS), 3, 3, 3)
        # One row a unit: what a point's red, green and blue count. White, grey and black give nothing.
        kernels[:4, :, 1, 1] = torch.tensor([[-1, 1, -0.5], [1, -1, -1], [-0.6, -0.6, 1], [0.5, 0.5, -1]])
        # How much a point differs from its neighbours, in grey.
        kernels[4] = -1 / 24
        kernels[4, :, 1, 1] = 1 / 3
        with torch.no_grad():
            self.features[0].weight.copy_(kernels)
            # Skin, sand and wood are a little yellow; they don't count.
            self.features[0].bias.copy_(torch.tensor([0, 0, 0, -0.3, 0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The five features of each image."""
        return self.pool(self.features(images))


def colours() -> tuple[nn.Module, object, list[str]]:
    """The module, its transform, and the names of its output units."""
    return Colours(), TRANSFORM, UNITS
