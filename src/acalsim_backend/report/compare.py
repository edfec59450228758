"""Outputs of the simulated machine against PyTorch's."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from acalsim_backend.errors import InputError, user_line
from acalsim_backend.report.model import Outputs

TOLERANCE = {  # dtype: (relative, absolute); anything else has to be equal
    torch.float16: (1e-2, 1e-3),
    torch.bfloat16: (5e-2, 1e-2),
    torch.float32: (1e-4, 1e-5),
    torch.float64: (1e-9, 1e-12),
}


def run_eagerly(model: torch.nn.Module, inputs: Sequence[Any]) -> tuple[Any, float]:
    """Outputs of a copy of ``model`` on copies of ``inputs``, and the seconds that the call took.

    Raises:
        InputError: the model itself fails.
    """
    model = copy.deepcopy(model)
    inputs = pytree.tree_map_only(torch.Tensor, torch.clone, tuple(inputs))
    with torch.no_grad():
        start = time.perf_counter()
        try:
            outputs = model(*inputs)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{type(model).__name__} fails in PyTorch already: {type(error).__name__}: {error}{user_line(error)}"
            ) from error
        return outputs, time.perf_counter() - start


def compare(got: Any, expected: Any) -> Outputs:
    """Largest absolute difference and whether all leaves are close; NaN equals NaN.

    Outputs of another structure, shape or dtype are not close, and their difference is None.
    """
    got_leaves, got_tree = pytree.tree_flatten(got)
    expected_leaves, expected_tree = pytree.tree_flatten(expected)
    if got_tree != expected_tree:
        return Outputs(None, False)
    largest, close = 0.0, True
    allowed: dict[str, None] = {}
    for a, b in zip(got_leaves, expected_leaves, strict=True):
        if not isinstance(b, torch.Tensor):
            close = close and a == b
            continue
        if not isinstance(a, torch.Tensor) or a.shape != b.shape or a.dtype != b.dtype:
            return Outputs(None, False)
        rtol, atol = TOLERANCE.get(b.dtype, (0.0, 0.0))
        if b.dtype in TOLERANCE:
            allowed[f"{rtol:g} of the value + {atol:g} ({str(b.dtype).removeprefix('torch.')})"] = None
        close = close and torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        if b.numel():
            difference = (a.double() - b.double()).abs()
            same = (a == b) | (a.isnan() & b.isnan())
            largest = max(largest, difference.masked_fill(same, 0.0).nan_to_num(nan=float("inf")).max().item())
    return Outputs(largest, close, ", ".join(allowed) or None)
