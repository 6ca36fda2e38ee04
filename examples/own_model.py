"""A model of one's own, explained without a line in line-neurons' source.

    line layers examples/own_model.py:colours
    line explain examples/own_model.py:colours features green red --llm embedded --generator bank

The network is made here, weights and all, so that anybody can say which labels are right: its units respond to
how much green, red, blue, light, and fine detail a picture holds. Put your own checkpoint in its place: build the
module, load your weights, and return it with the transform that it was trained with and, if you have them, its
class names.
"""

import torch
from torch import nn
from torchvision.transforms import v2

UNITS = ["green", "red", "blue", "bright", "detailed"]

TRANSFORM = v2.Compose(
    [
        v2.PILToTensor(),
        v2.Resize(112, antialias=True),
        v2.CenterCrop(112),
        v2.ToDtype(torch.float32, scale=True),
    ]
)


class Colours(nn.Module):
    """Maps of five features of a picture, and their mean over all positions.

    Takes float [N, 3, H, W] in [0, 1]; gives float [N, 5].
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, len(UNITS), 3, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        kernels = torch.zeros(len(UNITS), 3, 3, 3)
        middle = (slice(None), 1, 1)
        kernels[0][middle] = torch.tensor([-0.5, 1.0, -0.5])
        kernels[1][middle] = torch.tensor([1.0, -0.5, -0.5])
        kernels[2][middle] = torch.tensor([-0.5, -0.5, 1.0])
        kernels[3][middle] = 1 / 3
        # How much a point differs from its neighbours, in grey.
        kernels[4] = -1 / 24
        kernels[4][middle] = 1 / 3
        with torch.no_grad():
            self.features[0].weight.copy_(kernels)
            self.features[0].bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The five features of each picture."""
        return self.pool(self.features(images))


def colours() -> tuple[nn.Module, object, list[str]]:
    """The module, its transform, and the names of its output units."""
    return Colours(), TRANSFORM, UNITS
