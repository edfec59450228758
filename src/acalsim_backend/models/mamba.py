"""Mamba (Gu and Dao, 2023): a language model of selective state spaces, scanned token by token."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class Mixer(nn.Module):
    """Gated causal convolution and selective scan: [batch, tokens, width] -> the same."""

    def __init__(self, width: int, states: int, kernel: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner, self.rank, self.states = expand * width, math.ceil(width / 16), states
        self.enter = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.select = nn.Linear(inner, self.rank + 2 * states, bias=False)
        self.step = nn.Linear(self.rank, inner)
        self.log_decay = nn.Parameter(torch.arange(1, states + 1, dtype=torch.float32).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.leave = nn.Linear(inner, width, bias=False)

    def scan(self, x: torch.Tensor) -> torch.Tensor:
        """h_t = exp(step_t A) h_(t-1) + step_t B_t x_t; y_t = C_t h_t: [batch, tokens, inner] -> the same."""
        step, b, c = self.select(x).split((self.rank, self.states, self.states), dim=-1)
        step = functional.softplus(self.step(step))
        decay = torch.exp(step[..., None] * -torch.exp(self.log_decay))
        drive = (step * x)[..., None] * b[:, :, None, :]
        state = torch.zeros_like(drive[:, 0])
        outputs = []
        for token in range(x.shape[1]):
            state = decay[:, token] * state + drive[:, token]
            outputs.append(state @ c[:, token, :, None])
        return torch.cat(outputs, dim=2).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, width] -> the same."""
        tokens = x.shape[1]
        x, gate = self.enter(x).chunk(2, dim=-1)
        x = functional.silu(self.conv(x.transpose(1, 2))[..., :tokens].transpose(1, 2))
        return self.leave((self.scan(x) + self.skip * x) * functional.silu(gate))


class Mamba(nn.Module):
    """Embedding, mixers behind RMS norms and beside shortcuts, and the embedding again as the head."""

    def __init__(self, vocabulary: int = 1024, width: int = 128, depth: int = 4, states: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-5) for _ in range(depth))
        self.mixers = nn.ModuleList(Mixer(width, states) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=1e-5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, tokens] -> logits [batch, tokens, vocabulary]."""
        x = self.embedding(tokens)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = x + mixer(norm(x))
        return functional.linear(self.norm(x), self.embedding.weight)
