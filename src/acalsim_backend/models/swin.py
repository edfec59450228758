"""Swin Transformer (Liu et al., 2021); Tiny has as many parameters as torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class WindowAttention(nn.Module):
    """Self-attention within windows of ``window`` x ``window`` pixels that may be shifted by half a window.

    [N, H, W, C] -> the same; H and W are padded to whole windows.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        rows, cols = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        at = torch.stack((rows, cols)).flatten(1)
        apart = at[:, :, None] - at[:, None, :] + window - 1
        self.bias_index: torch.Tensor
        self.register_buffer("bias_index", apart[0] * (2 * window - 1) + apart[1], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, H, W, C] -> the same."""
        n, height, width, channels = x.shape
        window = self.window
        x = functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        rows, cols = x.shape[1] // window, x.shape[2] // window
        shift = (0 if rows == 1 else self.shift, 0 if cols == 1 else self.shift)  # one window sees all already
        x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        x = x.view(n, rows, window, cols, window, channels).transpose(2, 3).reshape(-1, window * window, channels)
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias[self.bias_index.view(-1)].view(window * window, window * window, -1).permute(2, 0, 1)
        mask = bias.unsqueeze(0)
        if any(shift):
            apart = self._apart(rows, cols, shift, x)
            mask = (mask + apart[:, None]).repeat(n, 1, 1, 1)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.proj(x.transpose(1, 2).flatten(2))
        x = x.view(n, rows, cols, window, window, channels).transpose(2, 3)
        x = torch.roll(x.reshape(n, rows * window, cols * window, channels), shift, (1, 2))
        return x[:, :height, :width]

    def _apart(self, rows: int, cols: int, shift: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
        """[windows, window^2, window^2]: -100 between pixels that only the shift has made neighbours, else 0."""
        window = self.window
        region = like.new_zeros((rows * window, cols * window))
        number = 0
        for down in (slice(0, -window), slice(-window, -shift[0] or None), slice(-shift[0], None)):
            for right in (slice(0, -window), slice(-window, -shift[1] or None), slice(-shift[1], None)):
                region[down, right] = number
                number += 1
        region = region.view(rows, window, cols, window).transpose(1, 2).reshape(rows * cols, window * window)
        difference = region[:, None, :] - region[:, :, None]
        return difference.masked_fill(difference != 0, -100.0).masked_fill(difference == 0, 0.0)


class Block(nn.Module):
    """Window attention and a GELU feed-forward layer, each with a layer norm before and a shortcut."""

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, H, W, C] -> the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """2 x 2 pixels become one: [N, H, W, C] -> [N, H/2, W/2, 2 C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduce = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, H, W, C] -> [N, H/2, W/2, 2 C]; odd sizes are padded."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        return self.reduce(self.norm(torch.cat(corners, dim=-1)))


class SwinTransformer(nn.Module):
    """Patches of 4 x 4 pixels, stages of blocks (every second one shifted) with merging between, linear classifier."""

    def __init__(
        self,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.norm = nn.LayerNorm(width)
        stages: list[nn.Module] = []
        for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            if stage:
                stages.append(PatchMerging(width))
                width *= 2
            stages += [Block(width, count, window, window // 2 if i % 2 else 0) for i in range(depth)]
        self.stages = nn.Sequential(*stages)
        self.last_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> [N, classes]."""
        x = self.norm(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.last_norm(self.stages(x)).mean((1, 2)))
