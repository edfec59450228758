"""Recurrent layers as PyTorch 2.13 decomposes them, with what its decomposition leaves out.

``torch._decomp`` lowers ``aten.lstm``, ``gru`` and ``rnn`` layer by layer. It never applies dropout between layers, for
it compares the wrong numbers, and runs an LSTM's layer as oneDNN's fused cell, which has no decomposition and is what
autocast casts.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._decomp import decompositions as pytorch


@contextlib.contextmanager
def decomposed() -> Iterator[None]:
    """Process-wide, as PyTorch's own functions are; Dynamo compiles under a lock."""
    with (
        mock.patch.object(pytorch, "_rnn_helper", functools.partial(_layers, pytorch._rnn_helper)),
        mock.patch.object(pytorch, "mkldnn_one_layer_lstm", _lstm_layer),
    ):
        yield


def _layers(
    helper: Callable[..., Any],
    inputs: Tensor,
    hidden: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    layer_fn: Callable[..., Any],
) -> tuple[Tensor, list[Any]]:
    """PyTorch's helper, a layer at a time, with dropout between layers."""
    steps = inputs.transpose(0, 1) if batch_first else inputs
    directions = 2 if bidirectional else 1
    states: list[Any] = []
    for i in range(num_layers):
        one = slice(i * directions, (i + 1) * directions)
        steps, final = helper(
            steps, hidden[one], params[one], has_biases, 1, 0.0, False, bidirectional, False, layer_fn
        )
        states += final
        if dropout and train and i + 1 < num_layers:
            steps = torch.dropout(steps, dropout, train=True)
    return steps.transpose(0, 1) if batch_first else steps, states


def _lstm_layer(
    inp: Tensor, hidden: Sequence[Tensor], params: Sequence[Tensor], has_biases: bool, reverse: bool = False
) -> Any:
    """One layer by steps, in autocast's data type where oneDNN's would be."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        inp, hidden, params = inp.to(dtype), [h.to(dtype) for h in hidden], [p.to(dtype) for p in params]
    layer: Callable[..., Any] = pytorch.one_layer_lstm
    return layer(inp, hidden, params, has_biases, reverse)
