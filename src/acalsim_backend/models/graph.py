"""Graph attention network (Velickovic et al., 2017), written with scatter operations."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class GraphAttention(nn.Module):
    """Every node takes the average of its neighbours, weighted by attention: [nodes, inputs] -> [nodes, outputs]."""

    def __init__(self, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(inputs, outputs, bias=False)
        self.from_source = nn.Parameter(torch.randn(heads, outputs // heads) / (outputs // heads) ** 0.5)
        self.from_target = nn.Parameter(torch.randn(heads, outputs // heads) / (outputs // heads) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Nodes [nodes, inputs], edges [2, edges] from source to target -> [nodes, outputs]."""
        source, target = edges
        x = self.project(x).unflatten(1, (self.heads, -1))
        score = (x * self.from_source).sum(-1)[source] + (x * self.from_target).sum(-1)[target]
        score = functional.leaky_relu(score, 0.2)
        index = target[:, None].expand_as(score)
        highest = score.new_zeros(len(x), self.heads).scatter_reduce(0, index, score, "amax", include_self=False)
        weight = torch.exp(score - highest[target])
        total = torch.zeros_like(highest).scatter_add(0, index, weight)
        message = x[source] * (weight / total[target])[:, :, None]
        mixed = torch.zeros_like(x).scatter_add(0, target[:, None, None].expand_as(message), message)
        return mixed.flatten(1) + self.bias


class GraphNetwork(nn.Module):
    """Two layers of graph attention with an ELU between them; classifies nodes."""

    def __init__(self, features: int = 128, hidden: int = 128, heads: int = 8, classes: int = 8) -> None:
        super().__init__()
        self.first = GraphAttention(features, hidden, heads)
        self.second = GraphAttention(hidden, classes, 1)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Nodes [nodes, features], edges [2, edges] -> log probabilities [nodes, classes]."""
        x = functional.elu(self.first(x, edges))
        return torch.log_softmax(self.second(x, edges), dim=1)
