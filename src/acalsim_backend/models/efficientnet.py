"""EfficientNet (Tan and Le, 2019); B0 has as many parameters as torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from acalsim_backend.models.layers import ConvNorm, InvertedResidual, SqueezeExcite, initialise, multiple_of_8

B0_STAGES = (  # expansion, kernel, stride, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class EfficientNet(nn.Module):
    """Inverted residuals with SiLU, each with squeeze and excite. ``width`` scales the channels."""

    def __init__(
        self,
        width: float = 1.0,
        stages: Sequence[tuple[int, int, int, int, int]] = B0_STAGES,
        features: int = 1280,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        channels = multiple_of_8(32 * width)
        blocks: list[nn.Module] = [ConvNorm(3, channels, 3, 2, activation=nn.SiLU)]
        for expansion, size, stride, base, depth in stages:
            outputs = multiple_of_8(base * width)
            for i in range(depth):
                expanded = expansion * channels
                excite = SqueezeExcite(expanded, channels // 4, activation=nn.SiLU)
                step = stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, expanded, outputs, size, step, nn.SiLU, excite))
                channels = outputs
        self.features = nn.Sequential(*blocks, ConvNorm(channels, features, activation=nn.SiLU))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(features, classes))
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> [N, classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))
