"""Small models that exercise one idea each."""

from __future__ import annotations

import math

import torch
from torch import nn


class MatMulModel(nn.Module):
    """The tutorial's first model: x [M, K] @ weight [K, N] + bias [N]."""

    def __init__(self, K: int = 16, N: int = 8) -> None:  # noqa: N803  # the tutorial's names
        super().__init__()
        self.weight = nn.Parameter(torch.randn(K, N))
        self.bias = nn.Parameter(torch.randn(N))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[M, K] -> [M, N]."""
        y = torch.matmul(x, self.weight)
        return y + self.bias


class Mlp(nn.Sequential):
    """Two linear layers with a ReLU between them: [batch, 16] -> [batch, 10]."""

    def __init__(self, inputs: int = 16, hidden: int = 32, outputs: int = 10) -> None:
        super().__init__(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and a GELU feed-forward layer, each with a residual: [batch, tokens, width] -> the same.

    Attention is written out (matmul, softmax, matmul), so that each of its operators has a row in the report.
    """

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """softmax(q k^T / sqrt(d)) v over all heads: [batch, tokens, width] -> the same."""
        batch, tokens, width = x.shape
        depth = width // self.heads
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, depth).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(depth), dim=-1)
        mixed = torch.matmul(weights, v).transpose(1, 2).reshape(batch, tokens, width)
        return self.proj(mixed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, width] -> the same."""
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))
