"""The decompositions that bring a graph to the operators that ``ops`` knows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch.utils import _pytree as pytree

from acalsim_backend.front import places, pools, products
from acalsim_backend.front.captured import no_modes

_OWN: dict[Any, Callable[..., Any]] = pools.DECOMPOSITIONS | places.DECOMPOSITIONS | products.DECOMPOSITIONS


@functools.cache
def decomposition_table() -> dict[Any, Any]:
    """PyTorch's core ATen decompositions by operator overload, and those of windows, places and products.

    A call that PyTorch refuses is not decomposed: its parts may take element types that the whole does not.
    """
    return (
        places.BAGS
        | {
            overload: _unless_refused(overload, decomposition) if _is_pure(overload) else decomposition
            for overload, decomposition in (dict(core_aten_decompositions()) | _OWN).items()
        }
        | {torch.ops.aten.pow.Tensor_Scalar: _power_of_truths}
    )


def _power_of_truths(x: torch.Tensor, exponent: Any) -> Any:
    """A bool to the power of a bool is a bool, of which PyTorch's fake tensors say that it is an int64."""
    if x.dtype is not torch.bool or not isinstance(exponent, bool):
        return NotImplemented
    return x.clone() if exponent else torch.ones_like(x)


def _is_pure(overload: Any) -> bool:
    return isinstance(overload, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded not in overload.tags


def _unless_refused(overload: torch._ops.OpOverload, decomposition: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(decomposition)
    def decomposed(*args: Any, **kwargs: Any) -> Any:
        return NotImplemented if _is_refused(overload, args, kwargs) else decomposition(*args, **kwargs)

    return decomposed


def _is_refused(overload: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether PyTorch takes operands of one element in f32, and not in the element types of these.

    Calls with symbols among their arguments are not asked about: that would fix the symbols.
    """
    leaves = pytree.tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if all(tensor.dtype is torch.float32 for tensor in tensors):
        return False
    if any(isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool)) for leaf in leaves):
        return False
    ranks_and_types = {id(tensor): (tensor.dim(), tensor.dtype) for tensor in tensors}

    def works(dtype: torch.dtype | None) -> bool:
        def small(tensor: torch.Tensor) -> torch.Tensor:
            rank, own = ranks_and_types[id(tensor)]
            return torch.zeros([1] * rank, dtype=dtype or own, device="cpu")

        try:
            overload(*pytree.tree_map_only(torch.Tensor, small, args),
                     **pytree.tree_map_only(torch.Tensor, small, {**kwargs, **_on_cpu(kwargs)}))  # fmt: skip
        except Exception:  # noqa: BLE001  # whatever PyTorch says
            return False
        return True

    with no_modes():
        return not works(None) and works(torch.float32)


def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"device": torch.device("cpu")} if kwargs.get("device") is not None else {}
