"""DLRM (Naumov et al., 2019): recommendations from dense features and bags of categories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*(module for pair in layers for module in pair))


class Dlrm(nn.Module):
    """A bottom MLP for dense features, one embedding bag a category, dot products of all pairs, a top MLP."""

    def __init__(
        self,
        dense: int = 13,
        tables: int = 26,
        rows: int = 30_000,
        width: int = 64,
        bottom: Sequence[int] = (512, 256),
        top: Sequence[int] = (512, 256),
    ) -> None:
        super().__init__()
        self.bottom = _mlp((dense, *bottom, width))
        self.bags = nn.ModuleList(nn.EmbeddingBag(rows, width, mode="sum") for _ in range(tables))
        pairs = tables * (tables + 1) // 2
        self.top = _mlp((width + pairs, *top))
        self.head = nn.Linear(top[-1], 1)

    def forward(self, dense: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Dense features [batch, dense], rows of each table [tables, batch, bag] -> probabilities [batch]."""
        x = self.bottom(dense)
        bags = [bag(rows) for bag, rows in zip(self.bags, categories.unbind(0), strict=True)]
        features = torch.stack((x, *bags), dim=1)
        products = features @ features.transpose(1, 2)
        row, col = torch.tril_indices(features.shape[1], features.shape[1], offset=-1, device=x.device)
        interactions = products[:, row, col]
        return self.head(self.top(torch.cat((x, interactions), dim=1))).squeeze(1).sigmoid()
