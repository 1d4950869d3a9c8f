"""MobileNetV2, the encoder of MODNet (Sandler et al. 2018), without its classifier."""

from torch import Tensor, nn

# expansion, channels, blocks, stride of the first block (table 2 of the paper)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280


def scale_channels(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded to an even number (IBNorm cuts channels in half)."""
    return max(2, 2 * round(channels * width / 2))


def conv_bn_relu6(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
    """Return the layers conv, batch norm, ReLU6."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out), nn.ReLU6(inplace=True)]


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; skip where the shapes agree."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        expand = [] if expansion == 1 else conv_bn_relu6(c_in, hidden, 1)
        self.conv = nn.Sequential(
            *expand,
            *conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.has_skip = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_skip else self.conv(x)


class MobileNetV2(nn.Module):
    """The layers as one Sequential `features` of 19 entries, as in published checkpoints."""

    def __init__(self, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        c_in = scale_channels(STEM_CHANNELS, width)
        layers: list[nn.Module] = [nn.Sequential(*conv_bn_relu6(in_channels, c_in, 3, stride=2))]
        for expansion, channels, blocks, first_stride in STAGES:
            c_out = scale_channels(channels, width)
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                layers.append(InvertedResidual(c_in, c_out, stride, expansion))
                c_in = c_out
        layers.append(nn.Sequential(*conv_bn_relu6(c_in, scale_channels(LAST_CHANNELS, width), 1)))
        self.features = nn.Sequential(*layers)


class Backbone(nn.Module):
    """MobileNetV2 that returns its features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input size.

    The network sits under `model` because the released checkpoints name it so.
    """

    taps = (1, 3, 6, 13, 18)

    def __init__(self, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.model = MobileNetV2(in_channels, width)
        self.channels = [scale_channels(c, width) for c in (16, 24, 32, 96, LAST_CHANNELS)]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return [enc2x, enc4x, enc8x, enc16x, enc32x] of an image (N, in_channels, H, W)."""
        features, x = [], image
        for index, layer in enumerate(self.model.features):
            x = layer(x)
            if index in self.taps:
                features.append(x)
        return features
