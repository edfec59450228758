"""Recurrent networks: LSTM (Hochreiter and Schmidhuber, 1997) and GRU (Cho et al., 2014)."""

from __future__ import annotations

import torch
from torch import nn


class SequenceTagger(nn.Module):
    """A recurrent network in both directions and a linear layer that labels every step."""

    def __init__(
        self,
        cell: type[nn.LSTM] | type[nn.GRU],
        inputs: int = 128,
        hidden: int = 256,
        layers: int = 2,
        labels: int = 32,
    ) -> None:
        super().__init__()
        self.recurrent = cell(inputs, hidden, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, steps, inputs] -> [batch, steps, labels]."""
        return self.head(self.recurrent(x)[0])


def lstm(**sizes: int) -> SequenceTagger:
    """SequenceTagger of LSTM cells."""
    return SequenceTagger(nn.LSTM, **sizes)


def gru(**sizes: int) -> SequenceTagger:
    """SequenceTagger of GRU cells."""
    return SequenceTagger(nn.GRU, **sizes)
