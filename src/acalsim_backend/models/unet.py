"""Two U-Nets: for segmentation (Ronneberger et al., 2015) and for diffusion (Ho et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from acalsim_backend.models.layers import ConvNorm, initialise


class UNet(nn.Module):
    """Two 3x3 convolutions a level, max pooling on the way down, transposed convolutions and skips on the way up."""

    def __init__(self, inputs: int = 3, widths: Sequence[int] = (16, 32, 64, 128), classes: int = 2) -> None:
        super().__init__()
        channels = [inputs, *widths]
        self.down = nn.ModuleList(
            nn.Sequential(ConvNorm(a, b, 3), ConvNorm(b, b, 3)) for a, b in zip(channels, widths, strict=False)
        )
        pairs = list(zip(widths[::-1], widths[-2::-1], strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.merge = nn.ModuleList(nn.Sequential(ConvNorm(2 * b, b, 3), ConvNorm(b, b, 3)) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], classes, 1)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, classes, H, W]; H and W are multiples of 2^(levels - 1)."""
        skips: list[torch.Tensor] = []
        for level in self.down:
            x = level(functional.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat((skips.pop(), up(x)), dim=1))
        return self.head(x)


class Residual(nn.Module):
    """Group norm, SiLU and 3x3 convolution, twice, with the embedded time step between; 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(embedding, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W], [N, embedding] -> [N, outputs, H, W]."""
        y = self.conv1(functional.silu(self.norm1(x)))
        y = y + self.time(functional.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.conv2(functional.silu(self.norm2(y)))


class PixelAttention(nn.Module):
    """Self-attention of all pixels behind a group norm, with a shortcut: [N, C, H, W] -> the same."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> the same."""
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(3, 4)
        mixed = functional.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + self.proj(mixed.transpose(2, 3).reshape(x.shape))


class DiffusionUNet(nn.Module):
    """Predicts the noise of an image at a time step: residual blocks, attention at the lowest level, skips.

    The way down has one strided convolution, the way up one nearest-neighbour upsampling a level.
    """

    def __init__(
        self, inputs: int = 3, widths: Sequence[int] = (48, 96, 144), heads: int = 4, groups: int = 8, repeat: int = 2
    ) -> None:
        super().__init__()
        self.frequencies = widths[0]
        embedding = 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(widths[0], embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        channels = widths[0]
        skips: list[int] = []
        for level, width in enumerate(widths):
            for _ in range(repeat):
                self.down.append(Residual(channels, width, embedding, groups))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle1 = Residual(channels, channels, embedding, groups)
        self.attention = PixelAttention(channels, heads, groups)
        self.middle2 = Residual(channels, channels, embedding, groups)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(repeat):
                self.up.append(Residual(channels + skips.pop(), width, embedding, groups))
                channels = width
            if level:
                self.grow.append(nn.Conv2d(width, width, 3, padding=1))
        self.norm = nn.GroupNorm(groups, channels)
        self.head = nn.Conv2d(channels, inputs, 3, padding=1)
        self.repeat = repeat

    def embed(self, step: torch.Tensor) -> torch.Tensor:
        """Sine and cosine of a geometric series of frequencies: [N] -> [N, frequencies]."""
        half = self.frequencies // 2
        rates = torch.exp(-math.log(10_000) / half * torch.arange(half, device=step.device))
        angles = step[:, None].float() * rates
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W], time steps [N] -> [N, inputs, H, W]; H and W are multiples of 2^(levels - 1)."""
        time = self.time(self.embed(step))
        x = self.stem(x)
        skips = []
        for i, block in enumerate(self.down):
            if i and i % self.repeat == 0:
                x = self.shrink[i // self.repeat - 1](x)
            x = block(x, time)
            skips.append(x)
        x = self.middle2(self.attention(self.middle1(x, time)), time)
        for i, block in enumerate(self.up):
            if i and i % self.repeat == 0:
                x = self.grow[i // self.repeat - 1](functional.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = block(torch.cat((x, skips.pop()), dim=1), time)
        return self.head(functional.silu(self.norm(x)))
