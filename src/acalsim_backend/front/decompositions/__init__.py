"""The decompositions that bring a graph to the operators that ``ops`` knows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import torch
import torch._prims
import torch._refs  # enters its decompositions into PyTorch's table
from torch._decomp import core_aten_decompositions
from torch._decomp import decomposition_table as all_decompositions
from torch.utils import _pytree as pytree

from acalsim_backend.front.captured import no_modes
from acalsim_backend.front.decompositions import (
    elementwise,
    norms,
    ordered,
    places,
    polynomials,
    pools,
    products,
    random,
    special,
)
from acalsim_backend.ops import operator_for
from acalsim_backend.ops.evaluate import divides_by_zero

_RUNNING: ContextVar[frozenset[torch._ops.OpOverload]] = ContextVar("decompositions under way", default=frozenset())

_WHOLE = frozenset(
    {
        torch.ops.aten.cumsum.default,  # work and memory of the parts grow with the square of the axis
        torch.ops.aten.cumprod.default,
        torch.ops.aten.bucketize.Tensor,  # its parts read a number from a tensor
        torch.ops.aten.bucketize.Scalar,
        torch.ops.aten.complex.default,  # their parts write to memory
        torch.ops.aten.polar.default,
        torch.ops.aten.lift.default,  # makes a constant known to the trace
        torch.ops.aten.lift_fresh.default,
    }
)
"""Operators that are not taken apart although PyTorch can."""

_CHECKED: dict[Any, Callable[..., Any]] = (
    pools.DECOMPOSITIONS
    | places.DECOMPOSITIONS
    | products.DECOMPOSITIONS
    | ordered.DECOMPOSITIONS
    | special.DECOMPOSITIONS
    | polynomials.DECOMPOSITIONS
)
"""Decompositions of this package whose parts may take element types that the whole does not."""
_UNCHECKED: dict[Any, Callable[..., Any]] = (
    norms.DECOMPOSITIONS | elementwise.DECOMPOSITIONS | random.DECOMPOSITIONS | places.BAGS
)
"""Those whose parts take no others, or whose operator must not be asked."""

_ROUNDED_IN_EAGER = frozenset({torch.ops.aten.grid_sampler_2d.default})
"""Operators that eager computes in half types from end to end, and PyTorch's parts in f32."""


@functools.cache
def decomposition_table() -> dict[Any, Any]:
    """Decompositions by operator overload: PyTorch's core ATen ones, for every operator that ``ops`` does not know
    whatever other one PyTorch has, and those of this package.

    A call that PyTorch refuses is not decomposed: its parts may take element types that the whole does not.
    """
    return {
        overload: _unless_refused(overload, decomposition) if _is_pure(overload) else decomposition
        for overload, decomposition in (_beyond_core() | dict(core_aten_decompositions()) | _CHECKED).items()
    } | _UNCHECKED


def _beyond_core() -> dict[Any, Any]:
    """PyTorch's other decompositions of operators that ``ops`` does not know, and of the primitives they end in.

    Some operators end in a primitive that is the operator itself; that call stays as it is.
    """
    everything = {
        **{overload: parts for overload, parts in all_decompositions.items() if _is_functional(overload)},
        **{primitive: primitive.impl_aten for primitive in map(_primitive, dir(torch._prims)) if primitive},
        torch.ops.prims.convert_element_type.default: lambda x, dtype: torch.ops.aten._to_copy(x, dtype=dtype),
        torch.ops.prims.copy_strided.default: _copy_strided,
    }
    return {
        overload: _once(overload, _but_for_halves(decomposition) if overload in _ROUNDED_IN_EAGER else decomposition)
        for overload, decomposition in everything.items()
        if operator_for(str(overload)) is None and overload not in _WHOLE
    }


def _copy_strided(x: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """A copy whose axes lie in memory in the order of dense strides; PyTorch's parts write to memory."""
    order = sorted(range(x.dim()), key=lambda axis: -stride[axis])
    places = sorted(range(x.dim()), key=order.__getitem__)
    return x.permute(order).clone(memory_format=torch.contiguous_format).permute(places)


def _is_functional(overload: Any) -> bool:
    return _is_pure(overload) and overload.namespace == "aten" and not overload._schema.is_mutable


def _primitive(name: str) -> Any:
    """The primitive of that name, where it can be expressed in ATen; None else."""
    found = getattr(torch._prims, name)
    is_one = isinstance(found, torch._ops.OpOverload) and _is_pure(found) and not found._schema.is_mutable
    return found if is_one and hasattr(found, "impl_aten") else None


def _once(overload: torch._ops.OpOverload, decomposition: Callable[..., Any]) -> Callable[..., Any]:
    """The decomposition, which leaves calls of ``overload`` inside it as they are."""

    @functools.wraps(decomposition)
    def decomposed(*args: Any, **kwargs: Any) -> Any:
        running = _RUNNING.get()
        if overload in running:
            return NotImplemented
        token = _RUNNING.set(running | {overload})
        try:
            return decomposition(*args, **kwargs)
        finally:
            _RUNNING.reset(token)

    return decomposed


def _but_for_halves(decomposition: Callable[..., Any]) -> Callable[..., Any]:
    """The decomposition, which leaves calls with half types whole."""

    @functools.wraps(decomposition)
    def decomposed(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return NotImplemented if x.dtype in (torch.float16, torch.bfloat16) else decomposition(x, *args, **kwargs)

    return decomposed


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
        except Exception as error:  # noqa: BLE001  # whatever PyTorch says
            return divides_by_zero(error)
        return True

    with no_modes():
        return not works(None) and works(torch.float32)


def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"device": torch.device("cpu")} if kwargs.get("device") is not None else {}
