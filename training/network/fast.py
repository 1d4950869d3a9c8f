"""The fast network: MobileNetV2 without its last layer, and a light decoder of separable blocks.

A U-Net (Ronneberger et al. 2015): the encoder's features at 1/16 to 1/2 come back into a decoder
of depthwise 3x3 and 1x1 convolutions (Howard et al. 2017). The deepest features pass a channel gate
driven by their global average, as in the LR-ASPP head of MobileNetV3 (Howard et al. 2019).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.network.backbone import STAGES, MobileNetV2, scale_channels

SKIP_LAYERS = (1, 3, 6, 13)  # of the encoder: the last features at 1/2, 1/4, 1/8 and 1/16
SKIP_CHANNELS = (16, 24, 32, 96)
DECODER_CHANNELS = (48, 32, 24, 16)  # at 1/16, 1/8, 1/4 and 1/2
HEAD_CHANNELS = 96
LAST_LAYER = 18  # of MobileNetV2: 1280 channels, left out


def conv_bn(c_in: int, c_out: int, kernel: int, groups: int = 1, relu: bool = True) -> list:
    """Return the layers conv, batch norm and, unless told otherwise, ReLU."""
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out), *([nn.ReLU(inplace=True)] if relu else [])]


def double(x: Tensor) -> Tensor:
    """Return the features at twice the size."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Up(nn.Module):
    """Features at twice the size, joined with the encoder's: two separable convolutions."""

    def __init__(self, c_in: int, skip: int, c_out: int) -> None:
        super().__init__()
        joined = c_in + skip
        self.conv = nn.Sequential(
            *conv_bn(joined, joined, 3, groups=joined, relu=False),
            *conv_bn(joined, c_out, 1),
            *conv_bn(c_out, c_out, 3, groups=c_out, relu=False),
            *conv_bn(c_out, c_out, 1),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([double(x), skip], dim=1))


class FastNet(nn.Module):
    """Portrait matting in real time on a CPU.

    `in_channels` is 3, or 4 with a trimap; `width` scales the channels of encoder and decoder. At
    1.0 it has 1.9 million parameters.
    """

    name = "fast"
    training_only = ("aux.",)  # a checkpoint may lack them

    def __init__(self, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if in_channels < 3 or width < 0.05:
            raise ValueError("needs in_channels >= 3, width >= 0.05")
        self.architecture = {"in_channels": in_channels, "width": width}

        def scale(channels: int) -> int:
            return scale_channels(channels, width)

        self.features = MobileNetV2(in_channels, width).features[:LAST_LAYER]
        deepest, head = scale(STAGES[-1][1]), scale(HEAD_CHANNELS)
        self.head = nn.Sequential(*conv_bn(deepest, head, 1))
        self.gate = nn.Linear(deepest, head)
        inputs = [head, *map(scale, DECODER_CHANNELS[:-1])]
        skips = [scale(channels) for channels in reversed(SKIP_CHANNELS)]
        outputs = [scale(channels) for channels in DECODER_CHANNELS]
        self.up = nn.ModuleList(map(Up, inputs, skips, outputs))
        self.last = nn.Conv2d(outputs[-1], 1, 3, padding=1)
        # The person at 1/16, for training alone.
        self.aux = nn.Conv2d(outputs[0], 1, 1)

    @property
    def encoder(self) -> nn.Sequential:
        """The layers of MobileNetV2."""
        return self.features

    @property
    def heads(self) -> list[nn.Module]:
        """The convolutions that end in a prediction."""
        return [self.last, self.aux]

    def forward(self, image: Tensor, inference: bool = False) -> tuple[Tensor | None, None, Tensor]:
        """Return (semantic (N, 1, H/16, W/16), None, matte (N, 1, H, W)) in [0, 1], like MODNet.

        `image` is (N, in_channels, H, W) in [-1, 1], H and W multiples of 32. With `inference` the
        first is None and costs nothing.
        """
        semantic, matte = self.predict_logits(image, inference)
        return None if semantic is None else torch.sigmoid(semantic), None, torch.sigmoid(matte)

    def predict_logits(
        self, image: Tensor, inference: bool = False
    ) -> tuple[Tensor | None, Tensor]:
        """Return what forward returns before the sigmoid: semantic and matte."""
        skips, x = [], image
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in SKIP_LAYERS:
                skips.append(x)
        gate = torch.sigmoid(self.gate(x.mean(dim=(2, 3))))  # (N, 96)
        x = self.head(x) * gate[:, :, None, None]  # (N, 96, H/32, W/32)
        semantic = None
        for index, (up, skip) in enumerate(zip(self.up, reversed(skips), strict=True)):
            x = up(x, skip)
            if index == 0 and not inference:
                semantic = self.aux(x)  # (N, 1, H/16, W/16)
        return semantic, double(self.last(x))
