"""MobileNet V2 (Sandler et al., 2018) and V3-Large (Howard et al., 2019), with as many parameters as torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from acalsim_backend.models.layers import ConvNorm, InvertedResidual, SqueezeExcite, initialise, multiple_of_8

V2_STAGES = (  # expansion, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
V3_LARGE_BLOCKS = (  # kernel, expanded, channels, squeeze and excite, Hardswish, stride
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


class MobileNetV2(nn.Module):
    """Inverted residuals with ReLU6. ``width`` scales the channels of all stages."""

    def __init__(
        self,
        width: float = 1.0,
        stages: Sequence[tuple[int, int, int, int]] = V2_STAGES,
        features: int = 1280,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        channels = multiple_of_8(32 * width)
        blocks: list[nn.Module] = [ConvNorm(3, channels, 3, 2, activation=nn.ReLU6)]
        for expansion, base, depth, stride in stages:
            outputs = multiple_of_8(base * width)
            for i in range(depth):
                step = stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, expansion * channels, outputs, 3, step, nn.ReLU6))
                channels = outputs
        self.features = nn.Sequential(*blocks, ConvNorm(channels, features, activation=nn.ReLU6))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(features, classes))
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> [N, classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class MobileNetV3(nn.Module):
    """Inverted residuals with ReLU or Hardswish, some with squeeze and excite. ``width`` scales all channels."""

    EPS = 1e-3

    def __init__(
        self,
        width: float = 1.0,
        blocks: Sequence[tuple[int, int, int, bool, bool, int]] = V3_LARGE_BLOCKS,
        features: int = 1280,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        channels = multiple_of_8(16 * width)
        layers: list[nn.Module] = [ConvNorm(3, channels, 3, 2, activation=nn.Hardswish, eps=self.EPS)]
        for size, base_expanded, base, excite, hardswish, stride in blocks:
            expanded, outputs = multiple_of_8(base_expanded * width), multiple_of_8(base * width)
            gate = SqueezeExcite(expanded, multiple_of_8(expanded / 4), gate=nn.Hardsigmoid) if excite else None
            activation = nn.Hardswish if hardswish else nn.ReLU
            layers.append(InvertedResidual(channels, expanded, outputs, size, stride, activation, gate, self.EPS))
            channels = outputs
        last = 6 * channels
        self.features = nn.Sequential(*layers, ConvNorm(channels, last, activation=nn.Hardswish, eps=self.EPS))
        self.classifier = nn.Sequential(
            nn.Linear(last, features), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(features, classes)
        )
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> [N, classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))
