"""MODNet (Ke et al., AAAI 2022), the variant whose weights were released: SE block, no e-ASPP.

Three branches share one backbone: the low-resolution one says where the person is (`semantic`),
the high-resolution one draws the edges (`detail`), the fusion branch joins both into the `matte`.
Module names and their order follow the released checkpoints, so their state dicts load unchanged.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.network.backbone import Backbone


def resize(x: Tensor, scale: float) -> Tensor:
    """Resize bilinearly without antialias: 1/4 therefore looks at 2 x 2 of each 4 x 4 pixels."""
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


class IBNorm(nn.Module):
    """Batch norm on the first half of the channels, instance norm without affine on the rest.

    The instance half uses the statistics of the present image in evaluation too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bnorm_channels = channels // 2
        self.inorm_channels = channels - self.bnorm_channels
        self.bnorm = nn.BatchNorm2d(self.bnorm_channels)
        self.inorm = nn.InstanceNorm2d(self.inorm_channels)

    def forward(self, x: Tensor) -> Tensor:
        batch_half = self.bnorm(x[:, : self.bnorm_channels])
        instance_half = self.inorm(x[:, self.bnorm_channels :])
        return torch.cat([batch_half, instance_half], dim=1)


class Conv2dIBNormRelu(nn.Module):
    """Convolution with bias, then IBNorm and ReLU; `is_plain` leaves the last two out."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, is_plain: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2)]
        if not is_plain:
            layers += [IBNorm(c_out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SEBlock(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): weigh channels by their global average."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        weight = self.fc(x.mean(dim=(2, 3)))  # (N, C)
        return x * weight[:, :, None, None]


class LRBranch(nn.Module):
    """Semantic estimation at low resolution."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        _, _, enc8x, enc16x, enc32x = backbone.channels
        self.backbone = backbone
        self.se_block = SEBlock(enc32x)
        self.conv_lr16x = Conv2dIBNormRelu(enc32x, enc16x, 5)
        self.conv_lr8x = Conv2dIBNormRelu(enc16x, enc8x, 5)
        self.conv_lr = Conv2dIBNormRelu(enc8x, 1, 3, stride=2, is_plain=True)

    def forward(self, image: Tensor, inference: bool) -> tuple[Tensor | None, Tensor, list[Tensor]]:
        """Return (semantic, lr8x, [enc2x, enc4x])."""
        enc2x, enc4x, _, _, enc32x = self.backbone(image)
        lr16x = self.conv_lr16x(resize(self.se_block(enc32x), 2))  # (N, 96, H/16, W/16)
        lr8x = self.conv_lr8x(resize(lr16x, 2))  # (N, 32, H/8, W/8)
        semantic = None if inference else torch.sigmoid(self.conv_lr(lr8x))  # (N, 1, H/16, W/16)
        return semantic, lr8x, [enc2x, enc4x]


class HRBranch(nn.Module):
    """Detail prediction at high resolution."""

    def __init__(self, channels: int, encoder_channels: list[int]) -> None:
        super().__init__()
        enc2x, enc4x, lr8x = encoder_channels[:3]
        block, wide = Conv2dIBNormRelu, 2 * channels
        self.tohr_enc2x = block(enc2x, channels, 1)
        self.conv_enc2x = block(channels + 3, channels, 3, stride=2)
        self.tohr_enc4x = block(enc4x, channels, 1)
        self.conv_enc4x = block(wide, wide, 3)
        self.conv_hr4x = nn.Sequential(
            block(wide + lr8x + 3, wide, 3), block(wide, wide, 3), block(wide, channels, 3)
        )
        self.conv_hr2x = nn.Sequential(
            block(wide, wide, 3),
            block(wide, channels, 3),
            block(channels, channels, 3),
            block(channels, channels, 3),
        )
        self.conv_hr = nn.Sequential(
            block(channels + 3, channels, 3), block(channels, 1, 1, is_plain=True)
        )

    def forward(
        self, rgb: Tensor, enc2x: Tensor, enc4x: Tensor, lr8x: Tensor, inference: bool
    ) -> tuple[Tensor | None, Tensor]:
        """Return (detail, hr2x)."""
        rgb2x, rgb4x = resize(rgb, 1 / 2), resize(rgb, 1 / 4)
        enc2x = self.tohr_enc2x(enc2x)  # (N, 32, H/2, W/2)
        hr4x = self.conv_enc2x(torch.cat([rgb2x, enc2x], dim=1))  # (N, 32, H/4, W/4)
        hr4x = self.conv_enc4x(torch.cat([hr4x, self.tohr_enc4x(enc4x)], dim=1))  # (N, 64, ...)
        hr4x = self.conv_hr4x(torch.cat([hr4x, resize(lr8x, 2), rgb4x], dim=1))  # (N, 32, ...)
        hr2x = self.conv_hr2x(torch.cat([resize(hr4x, 2), enc2x], dim=1))  # (N, 32, H/2, W/2)
        if inference:
            return None, hr2x
        logits = self.conv_hr(torch.cat([resize(hr2x, 2), rgb], dim=1))
        return torch.sigmoid(logits), hr2x  # (N, 1, H, W)


class FusionBranch(nn.Module):
    """Join the features (not the predictions) of both branches into the matte."""

    def __init__(self, channels: int, lr8x_channels: int) -> None:
        super().__init__()
        block = Conv2dIBNormRelu
        self.conv_lr4x = block(lr8x_channels, channels, 5)
        self.conv_f2x = block(2 * channels, channels, 3)
        self.conv_f = nn.Sequential(
            block(channels + 3, channels // 2, 3), block(channels // 2, 1, 1, is_plain=True)
        )

    def forward(self, rgb: Tensor, lr8x: Tensor, hr2x: Tensor) -> Tensor:
        lr4x = self.conv_lr4x(resize(lr8x, 2))  # (N, 32, H/4, W/4)
        f2x = self.conv_f2x(torch.cat([resize(lr4x, 2), hr2x], dim=1))  # (N, 32, H/2, W/2)
        return torch.sigmoid(self.conv_f(torch.cat([resize(f2x, 2), rgb], dim=1)))  # (N, 1, H, W)


class MODNet(nn.Module):
    """Portrait matting in one pass.

    `in_channels` concerns the backbone's first convolution only: channels after the third (a
    trimap, say) are seen by the backbone, the other branches see the first three. `width` scales
    the backbone's channels and `hr_channels` the rest: the same topology, small enough for a test.
    """

    name = "modnet"
    training_only: tuple[str, ...] = ()  # prefixes of keys that a checkpoint may lack

    def __init__(self, in_channels: int = 3, width: float = 1.0, hr_channels: int = 32) -> None:
        super().__init__()
        if in_channels < 3 or width < 0.05 or hr_channels < 4 or hr_channels % 4:
            raise ValueError("needs in_channels >= 3, width >= 0.05, hr_channels a multiple of 4")
        self.architecture = {"in_channels": in_channels, "width": width, "hr_channels": hr_channels}
        # Registered twice (here and in lr_branch), as in the released state dicts.
        self.backbone = Backbone(in_channels, width)
        self.lr_branch = LRBranch(self.backbone)
        self.hr_branch = HRBranch(hr_channels, self.backbone.channels)
        self.f_branch = FusionBranch(hr_channels, self.backbone.channels[2])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def encoder(self) -> nn.Sequential:
        """The layers of MobileNetV2."""
        return self.backbone.model.features

    @property
    def heads(self) -> list[nn.Module]:
        """The convolutions that end in a prediction."""
        return [self.lr_branch.conv_lr, self.hr_branch.conv_hr[1], self.f_branch.conv_f[1]]

    def forward(
        self, image: Tensor, inference: bool = False
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Return (semantic (N, 1, H/16, W/16), detail (N, 1, H, W), matte (N, 1, H, W)) in [0, 1].

        `image` is (N, in_channels, H, W) in [-1, 1], H and W multiples of 32. With `inference`
        the first two are None and cost nothing; the matte is the same.
        """
        rgb = image if image.shape[1] == 3 else image[:, :3]
        semantic, lr8x, (enc2x, enc4x) = self.lr_branch(image, inference)
        detail, hr2x = self.hr_branch(rgb, enc2x, enc4x, lr8x, inference)
        return semantic, detail, self.f_branch(rgb, lr8x, hr2x)

    def freeze_norm(self) -> None:
        """Stop all normalisation statistics; scale and shift go on learning (SOC, section 3.3)."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
                module.eval()
