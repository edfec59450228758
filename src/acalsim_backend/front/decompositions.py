"""The decompositions that bring a graph to the operators that ``ops`` knows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import torch
import torch._prims
import torch._refs  # enters its decompositions into PyTorch's table
from torch._decomp import core_aten_decompositions
from torch._decomp import decomposition_table as all_decompositions
from torch._prims_common import suggest_memory_format
from torch.utils import _pytree as pytree

from acalsim_backend.front import ordered, places, pools, products
from acalsim_backend.front.captured import no_modes
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

_OWN: dict[Any, Callable[..., Any]] = (
    pools.DECOMPOSITIONS | places.DECOMPOSITIONS | products.DECOMPOSITIONS | ordered.DECOMPOSITIONS
)


_ROUNDED_IN_EAGER = frozenset({torch.ops.aten.grid_sampler_2d.default})
"""Operators that eager computes in half types from end to end, and PyTorch's parts in f32."""


@functools.cache
def decomposition_table() -> dict[Any, Any]:
    """Decompositions by operator overload: PyTorch's core ATen ones, for every operator that ``ops`` does not know
    whatever other one PyTorch has, and those of this package.

    A call that PyTorch refuses is not decomposed: its parts may take element types that the whole does not.
    """
    return (
        places.BAGS
        | {
            overload: _unless_refused(overload, decomposition) if _is_pure(overload) else decomposition
            for overload, decomposition in (_beyond_core() | dict(core_aten_decompositions()) | _OWN).items()
        }
        | {
            torch.ops.aten.pow.Tensor_Scalar: _power_of_truths,
            torch.ops.aten.native_group_norm.default: _group_norm,
            torch.ops.aten.native_batch_norm.default: _batch_norm,
            torch.ops.aten.var.correction: _variance,
            torch.ops.aten.var_mean.correction: _variance_and_mean,
            torch.ops.aten._cdist_forward.default: _distances,
            torch.ops.aten._pdist_forward.default: _pair_distances,
            torch.ops.aten._trilinear.default: _sum_of_products,
            torch.ops.aten.addbmm.default: _add_products,
            torch.ops.aten.angle.default: _angle,
            torch.ops.aten.special_modified_bessel_i0.default: torch.i0,
            torch.ops.aten.special_modified_bessel_i1.default: torch.special.i1,
            torch.ops.aten.normal.Tensor_float: _normal,
            torch.ops.aten.normal.float_Tensor: _normal,
            torch.ops.aten.normal.Tensor_Tensor: _normal,
            torch.ops.aten.multinomial.default: _multinomial,
            torch.ops.aten.native_dropout.default: _dropout_of_all,
        }
    )


def _beyond_core() -> dict[Any, Any]:
    """PyTorch's other decompositions of operators that ``ops`` does not know, and of the primitives they end in.

    Some operators end in a primitive that is the operator itself; that call stays as it is.
    """
    everything = {
        **{overload: parts for overload, parts in all_decompositions.items() if _is_functional(overload)},
        **{primitive: primitive.impl_aten for primitive in map(_primitive, dir(torch._prims)) if primitive},
        torch.ops.aten.copy.default: _copied,
        torch.ops.prims.convert_element_type.default: lambda x, dtype: torch.ops.aten._to_copy(x, dtype=dtype),
    }
    return {
        overload: _once(overload, _but_for_halves(decomposition) if overload in _ROUNDED_IN_EAGER else decomposition)
        for overload, decomposition in everything.items()
        if operator_for(str(overload)) is None and overload not in _WHOLE
    }


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


def _copied(x: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> Any:
    """The source as if it had been written to x: of its element type, shape and memory."""
    if x.is_complex() or source.is_complex() or not x.is_contiguous():
        return NotImplemented
    return source.to(x.dtype).expand(x.shape).clone(memory_format=torch.contiguous_format)


def _group_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    samples: int,
    channels: int,
    extent: int,
    groups: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Layer norm of rows that are groups, and the affine function of each channel; half types in f32 as eager does."""
    wide = torch.promote_types(x.dtype, torch.float32)
    row = channels // groups * extent
    rows = x.to(wide).reshape(samples * groups, row)
    value, mean, rstd = torch.ops.aten.native_layer_norm(rows, [row], None, None, eps)
    value = value.view(x.shape)
    per_channel = [1, channels] + [1] * (x.dim() - 2)
    if weight is not None:
        value = value * weight.to(wide).view(per_channel)
    if bias is not None:
        value = value + bias.to(wide).view(per_channel)
    mean, rstd = (t.view(samples, groups).to(x.dtype if weight is None else weight.dtype) for t in (mean, rstd))
    value = value.to(x.dtype).contiguous(memory_format=suggest_memory_format(x))
    return value, mean, rstd


def _batch_norm(x: torch.Tensor, *args: Any) -> Any:
    """In training form the operator that says that it writes to the running statistics; the other one is known."""
    *tensors, training, momentum, eps = args
    if not training:
        return NotImplemented
    weight, bias, mean, variance = tensors
    if mean is None:
        return torch.ops.aten._native_batch_norm_legit.no_stats(x, weight, bias, True, momentum, eps)
    return torch.ops.aten._native_batch_norm_legit(x, weight, bias, mean, variance, True, momentum, eps)


def _variance_and_mean(
    x: torch.Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """In two passes, the mean of the squared distances from the mean; half types in f32 as eager does."""
    axes = tuple(range(x.dim())) if not dim else tuple(sorted(axis % x.dim() for axis in dim if x.dim()))
    count: Any = 1
    for axis in axes:
        count = count * x.shape[axis]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = wide.mean(axes, keepdim=True)
    distance = wide - mean
    free = torch.sym_max(count - (1 if correction is None else correction), 0)
    variance = (distance * distance).sum(axes, keepdim=keepdim) / free
    if not keepdim:
        mean = mean.reshape(variance.shape)
    return variance.to(x.dtype), mean.to(x.dtype)


def _variance(*args: Any, **kwargs: Any) -> torch.Tensor:
    return _variance_and_mean(*args, **kwargs)[0]


def _distances(x: torch.Tensor, y: torch.Tensor, p: float, compute_mode: int | None) -> torch.Tensor:
    """cdist: the p-norm of every row of x less every row of y; many rows by a product, as eager does."""
    rows = x.shape[-2] > 25 or y.shape[-2] > 25
    if p == 2 and (compute_mode == 1 or (compute_mode in (None, 0) and rows)):
        return _euclidean(x, y)
    distance: torch.Tensor = torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, -1)
    return distance


def _euclidean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The root of |x|^2 - 2 x y + |y|^2, all of it one product."""
    x_size, y_size = (t.pow(2).sum(-1, keepdim=True) for t in (x, y))
    left = torch.cat([-2 * x, x_size, torch.ones_like(x_size)], -1)
    right = torch.cat([y, torch.ones_like(y_size), y_size], -1)
    return (left @ right.mT).clamp_min(0).sqrt()


def _pair_distances(x: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """pdist: the p-norm of every row less every later row."""
    first, second = torch.triu_indices(x.shape[0], x.shape[0], 1, device=x.device)
    distance: torch.Tensor = torch.linalg.vector_norm(x[first] - x[second], p, -1)
    return distance


def _sum_of_products(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, *axes: Any, **_: Any) -> torch.Tensor:
    """_trilinear: x * y * z, each with axes of extent 1 put in, summed over axes."""
    *put_in, summed = axes[:4]
    own = [[axis for axis in range(x.dim() + len(put_in[0])) if axis not in without] for without in (*put_in, summed)]
    product: torch.Tensor = torch.einsum(x, own[0], y, own[1], z, own[2], own[3])
    return product


def _add_products(
    x: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """addbmm: a product of the batch after the other is added, so that half types are rounded as often as in eager."""
    if left.shape[0] == 0:
        return (x * beta).expand(left.shape[1], right.shape[2])
    for i in range(left.shape[0]):
        x = torch.addmm(x, left[i], right[i], beta=beta if i == 0 else 1, alpha=alpha)
    return x


def _angle(x: torch.Tensor) -> Any:
    if x.is_complex():
        return NotImplemented
    value = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    return torch.where(value.isnan(), value, torch.where(value < 0, math.pi, 0.0).to(value.dtype))


def _power_of_truths(x: torch.Tensor, exponent: Any) -> Any:
    """A bool to the power of a bool is a bool, of which PyTorch's fake tensors say that it is an int64."""
    if x.dtype is not torch.bool or not isinstance(exponent, bool):
        return NotImplemented
    return x.clone() if exponent else torch.ones_like(x)


def _normal(mean: Any, std: Any = 1.0, generator: Any = None) -> Any:
    """PyTorch's ``normal``: numbers drawn around 0, then scaled and moved."""
    if generator is not None:
        return NotImplemented
    if not isinstance(std, torch.Tensor):
        return torch.ops.aten.normal_functional(torch.empty_like(mean), 0, std) + mean
    like = std if not isinstance(mean, torch.Tensor) else torch.add(mean, std)
    return torch.ops.aten.normal_functional(torch.empty_like(like)) * std + mean


def _dropout_of_all(x: torch.Tensor, p: float, train: bool | None) -> Any:
    """Dropout with probability 1, for which eager draws nothing."""
    if p != 1 or train is False:
        return NotImplemented
    return x * 0.0, torch.zeros_like(x, dtype=torch.bool)


def _multinomial(x: torch.Tensor, num_samples: int, replacement: bool = False, generator: Any = None) -> Any:
    """PyTorch's ``multinomial`` where it divides by exponential numbers instead of searching in a running sum."""
    if generator is not None or (replacement and num_samples != 1):
        return NotImplemented
    keys = x / torch.ops.aten.exponential(torch.empty_like(x))
    if num_samples == 1:
        return keys.argmax(-1, keepdim=True)
    return keys.topk(num_samples).indices


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
