"""Parts that several of the image models share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Activation = Callable[[], nn.Module]


def multiple_of_8(channels: float) -> int:
    """The multiple of 8 nearest to ``channels``, but never a tenth below it: the rule of MobileNet's widths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, activation: [N, inputs, H, W] -> [N, outputs, H/stride, W/stride]."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = nn.ReLU,
        eps: float = 1e-5,
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs, eps), *([] if activation is None else [activation()]))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all (Hu et al., 2017): [N, C, H, W] -> the same."""

    def __init__(
        self, channels: int, squeezed: int, activation: Activation = nn.ReLU, gate: Activation = nn.Sigmoid
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> the same."""
        means = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.expand(self.activation(self.reduce(means))))


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter by a depthwise and project by a 1x1 convolution (Sandler et al., 2018).

    ``excite`` stands behind the depthwise convolution. The shortcut exists where the shape stays.
    """

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        size: int,
        stride: int,
        activation: Activation,
        excite: nn.Module | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        if expanded != inputs:
            parts.append(ConvNorm(inputs, expanded, activation=activation, eps=eps))
        parts.append(ConvNorm(expanded, expanded, size, stride, expanded, activation, eps))
        if excite is not None:
            parts.append(excite)
        parts.append(ConvNorm(expanded, outputs, activation=None, eps=eps))
        self.block = nn.Sequential(*parts)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, outputs, H/stride, W/stride]."""
        return x + self.block(x) if self.shortcut else self.block(x)


def initialise(model: nn.Module) -> None:
    """Random weights that keep activations near 1 and batch norms that do something, as in a trained model."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.4, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
