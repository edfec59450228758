"""The decompositions that bring a graph to the operators that ``ops`` knows."""

from __future__ import annotations

import functools
from typing import Any

from torch._decomp import core_aten_decompositions


@functools.cache
def decomposition_table() -> dict[Any, Any]:
    """PyTorch's core ATen decompositions by operator overload."""
    return dict(core_aten_decompositions())
