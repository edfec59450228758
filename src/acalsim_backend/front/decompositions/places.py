"""Reads and writes at places that are computed, in the terms of gathers, scatters and running sums."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table

aten = torch.ops.aten

_SUM, _MEAN, _MAX = range(3)
_STARTS = {"sum": (0, "sum"), "mean": (0, "sum"), "max": (-torch.inf, "amax"), "min": (torch.inf, "amin")}
"""What a segment begins with, and how its rows are scattered."""
_BILINEAR, _NEAREST, _BICUBIC = range(3)
_ZEROS, _BORDER, _REFLECTION = range(3)


# --- embedding_bag ------------------------------------------------------------------------------------------------


def _embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rows of each bag, gathered and scattered to the bag's number.

    Gives output [B, D], the bag of each index, the size of each bag, and the row of each maximum. The last offset may
    be where the last bag ends: what comes behind it is a bag of its own, which is left out.
    """
    count, bags = indices.shape[0], offsets.shape[0]
    starts = torch.zeros(count + 1, dtype=torch.int64, device=indices.device)
    starts = starts.scatter_add(0, offsets.long(), torch.ones_like(offsets, dtype=torch.int64))
    bag = starts[:count].cumsum(0) - 1
    used = indices != (padding_idx % weight.shape[0] if padding_idx >= 0 else -1)
    sizes = torch.zeros(bags, dtype=torch.int64, device=indices.device).scatter_add(0, bag, used.long())
    rows = weight[indices.long()]
    where = bag.unsqueeze(-1).expand(rows.shape)
    if mode == _MAX:
        output, row = _largest(rows, indices, used, where, bags)
    else:
        wide = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        if per_sample_weights is not None:
            wide = wide * per_sample_weights.to(wide.dtype).unsqueeze(-1)
        wide = torch.where(used.unsqueeze(-1), wide, 0)
        output = wide.new_zeros(bags, weight.shape[1]).scatter_add(0, where, wide)
        if mode == _MEAN:
            output = output / sizes.clamp(min=1).unsqueeze(-1)
        output, row = output.to(weight.dtype), sizes
    output, sizes, row = (t[: bags - include_last_offset] for t in (output, sizes, row))
    return output, bag.to(offsets.dtype), sizes.to(offsets.dtype), row.to(offsets.dtype)


def _largest(rows: Tensor, indices: Tensor, used: Tensor, where: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    """The maximum of each bag, 0 of an empty one, and the index of the row where it stands first.

    As nothing is larger than NaN, and NaN not larger than anything, a bag's first row alone makes it NaN.
    """
    count = rows.shape[0]
    place = torch.arange(count, device=rows.device)
    begins = place.new_full((bags,), count).scatter_reduce(0, where[:, 0], torch.where(used, place, count), "amin")
    is_first = place == begins[where[:, 0]]
    lowest = torch.where(used.unsqueeze(-1) & (is_first.unsqueeze(-1) | (rows == rows)), rows, -torch.inf)
    output = rows.new_full((bags, rows.shape[1]), -torch.inf).scatter_reduce(0, where, lowest, "amax")
    largest = output.gather(0, where)
    there = ((rows == largest) | (is_first.unsqueeze(-1) & (largest != largest))) & used.unsqueeze(-1)
    number = torch.where(there, place.unsqueeze(-1), count)
    first = number.new_full(output.shape, count).scatter_reduce(0, where, number, "amin")
    empty = torch.zeros(bags, dtype=torch.int64, device=rows.device).scatter_add(0, where[:, 0], used.long()) == 0
    named = torch.cat([indices.long(), indices.new_zeros(1).long()])[first]
    return torch.where(empty.unsqueeze(-1), 0, output), named


# --- masks and reductions -----------------------------------------------------------------------------------------


def _masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Any:
    """The elements of ``source``, one after another, where the mask is set; too few are an index out of range."""
    if source.numel() == 0:
        return NotImplemented  # right where nothing is set, which only the values tell
    x, mask = torch.broadcast_tensors(x, mask)
    number = (mask.flatten().long().cumsum(0) - 1).clamp(min=0)
    taken = source.flatten()[number]
    return torch.where(mask, taken.view(x.shape), x)


def _scatter_reduce(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Any:
    if reduce != "mean":
        return NotImplemented
    total = aten.scatter_reduce(x, dim, index, src, "sum", include_self=include_self)
    count = torch.full_like(x, int(include_self), dtype=torch.int64)
    count = count.scatter_add(dim, index.long(), torch.ones_like(index, dtype=torch.int64))
    return _divided(total, count)


def _index_reduce(x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Any:
    if reduce != "mean":
        return NotImplemented
    if x.dim() == 0:
        return _index_reduce(x.view(1), 0, index.view(-1), source.view(-1), reduce, include_self=include_self).view(())
    named = [*[None] * (dim % x.dim()), index.long()]
    kept = x if include_self else aten.index_put(x, named, x.new_zeros(()))
    total: Tensor = kept.index_add(dim, index, source.to(x.dtype))
    count = torch.full_like(x, int(include_self), dtype=torch.int64)
    return _divided(total, count.index_add(dim, index, torch.ones_like(source, dtype=torch.int64)))


def _divided(total: Tensor, count: Tensor) -> Tensor:
    """What nothing came to has a count of 0 and stays; of integers rounded down."""
    count = count.clamp(min=1).to(total.dtype)
    mean: Tensor = torch.div(total, count, rounding_mode=None if total.dtype.is_floating_point else "floor")
    return mean


def _index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Any:
    """By a choice, where a mask alone is the index and what is put does not depend on how many elements it selects."""
    (axis, mask), *others = ((i, index) for i, index in enumerate(indices) if index is not None)
    if others or mask.dtype is not torch.bool:
        return NotImplemented
    rest = x.dim() - axis - mask.dim()
    lead = max(values.dim() - rest - 1, 0)
    if values.dim() > rest:
        if values.shape[lead] != 1:
            return NotImplemented
        values = values.reshape(*values.shape[:lead], *[1] * mask.dim(), *values.shape[lead + 1 :])
    return torch.where(mask.reshape(*mask.shape, *[1] * rest), x + values if accumulate else values, x)


def _put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """``source`` at places of ``x`` as one axis."""
    flat: Tensor = aten.index_put(x.flatten(), [index.flatten()], source.flatten(), accumulate)
    return flat.view(x.shape)


def _copy(x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """``src`` in the shape and type of ``x``."""
    return src.to(x.dtype).expand(x.shape).clone(memory_format=torch.contiguous_format)


def _nonzero_static(x: Tensor, *, size: int, fill_value: int = -1) -> Any:
    """Each coordinate scattered to the count of what came before; what is left over goes to a place behind the last."""
    if not isinstance(size, int):
        return NotImplemented
    if x.dim() == 0 or x.numel() == 0:
        return x.new_full((size, x.dim()), fill_value, dtype=torch.int64)
    is_set = (x != 0).flatten()
    place = torch.where(is_set, is_set.long().cumsum(0) - 1, size).clamp(max=size)
    columns = []
    for axis, extent in enumerate(x.shape):
        number = torch.arange(extent, device=x.device).view(-1, *[1] * (x.dim() - axis - 1)).expand(x.shape).flatten()
        columns.append(number.new_full((size + 1,), fill_value).scatter(0, place, number)[:size])
    return torch.stack(columns, 1)


def _segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    indices: Tensor | None = None,
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
) -> Any:
    """Rows of data scattered to the number of their segment; those outside of all to places before and behind.

    Lengths that are not those of all rows are an index out of range.
    """
    given = lengths if offsets is None else offsets
    if given is None or given.dim() != 1 or indices is not None or axis != 0 or data.numel() == 0:
        return NotImplemented
    if reduce not in _STARTS or data.dtype not in (torch.float32, torch.float64):
        return NotImplemented
    given = given.long()
    bounds = torch.cat([given.new_zeros(1), given.cumsum(0)]) if offsets is None else given
    count, segments = data.shape[0], bounds.shape[0] - 1
    marks = bounds.new_zeros(count + 1).scatter_add(0, bounds, torch.ones_like(bounds))
    if offsets is None and not unsafe:
        marks = marks + bounds.new_zeros(1).index_select(0, bounds[-1:] - count)
    segment = marks[:count].cumsum(0)
    sizes = (bounds[1:] - bounds[:-1]).view(-1, *[1] * (data.dim() - 1))
    start, mode = _STARTS[reduce]
    where = segment.view(-1, *[1] * (data.dim() - 1)).expand(data.shape)
    places = data.new_full((segments + 2, *data.shape[1:]), start if initial is None else initial)
    value = places.scatter_reduce(0, where, data, mode)[1 : segments + 1]
    if reduce != "mean":
        return value
    return torch.where(sizes == 0, torch.nan if initial is None else initial, value / sizes.clamp(min=1))


# --- grids --------------------------------------------------------------------------------------------------------


def _grid_sampler_2d(x: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Any:
    if interpolation_mode == _BICUBIC:
        options = (interpolation_mode, padding_mode, align_corners)
        return decomposition_table[aten.grid_sampler_2d.default](x, grid, *options)
    return _grid_sampler(x, grid, interpolation_mode, padding_mode, align_corners)


def _grid_sampler(x: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Tensor:
    """x [N, C, *spatial] at the places of grid [N, *result, rank], whose last axis has the innermost dim first.

    Eager takes NaN for the first place of two dims and for the last of three, and multiplies zeros outside of two dims
    only.
    """
    is_plane = x.dim() == 4
    places = [
        _in_elements(grid[..., -1 - axis], size, padding_mode, align_corners, 0 if is_plane else size - 1)
        for axis, size in enumerate(x.shape[2:])
    ]
    if interpolation_mode == _NEAREST:
        corners = [([place.round() for place in places], None)]
    else:
        corners = list(_corners(places))
    total = None
    for corner, share in corners:
        part = _picked(x, corner)
        if share is not None:
            part = part * (share if is_plane else torch.where(share == share, share, 0)).unsqueeze(-1)
        total = part if total is None else total + part
    assert total is not None
    return total.to(x.dtype).movedim(-1, 1)


def _in_elements(place: Tensor, size: int, padding_mode: int, align_corners: bool, of_nan: int) -> Tensor:
    """A coordinate of -1 to 1 as a place among ``size`` elements; what is not outside has one for NaN, too."""
    place = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
    if padding_mode == _REFLECTION:
        low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
        place = _reflected(place, low, high - low)
    return place if padding_mode == _ZEROS else torch.where(place == place, place.clamp(0, size - 1), of_nan)


def _reflected(place: Tensor, low: float, span: float) -> Tensor:
    if span == 0:
        return torch.zeros_like(place)
    place = (place - low).abs()
    flips = torch.floor(place / span)
    beyond = place - flips * span
    is_odd = flips - 2 * torch.floor(flips / 2) == 1
    return torch.where(is_odd, span - beyond, beyond) + low


def _corners(places: Sequence[Tensor]) -> Any:
    """The elements around each place and their shares."""
    lower = [torch.floor(place) for place in places]
    for corner in itertools.product((0, 1), repeat=len(places)):
        share = None
        for place, low, upper in zip(places, lower, corner, strict=True):
            own = place - low if upper else low + 1 - place
            share = own if share is None else share * own
        yield [low + upper for low, upper in zip(lower, corner, strict=True)], share


def _picked(x: Tensor, corner: Sequence[Tensor]) -> Tensor:
    """Elements of x [N, C, *spatial] as [N, *result, C], 0 outside."""
    inside, indices = None, []
    for place, size in zip(corner, x.shape[2:], strict=True):
        within = (place >= 0) & (place <= size - 1)
        inside = within if inside is None else inside & within
        indices.append(torch.where(within, place, 0).long())
    assert inside is not None
    image = torch.arange(x.shape[0], device=x.device).view(-1, *[1] * (indices[0].dim() - 1))
    found = aten.index(x.movedim(1, -1), [image, *indices])
    return torch.where(inside.unsqueeze(-1), found, 0)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """PyTorch's own parts read a single index as a number."""
    found: Tensor = aten.index(x.reshape(-1), [index.reshape(-1)])
    return found.reshape(index.shape)


BAGS: dict[Any, Callable[..., Any]] = {
    aten._embedding_bag.default: _embedding_bag,
    aten._embedding_bag_forward_only.default: _embedding_bag,
}
"""PyTorch must not be asked whether it takes these for single elements: it ends the process where there is no bag."""

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.take.default: _take,
    aten.nonzero_static.default: _nonzero_static,
    aten.segment_reduce.default: _segment_reduce,
    aten.masked_scatter.default: _masked_scatter,
    aten.scatter_reduce.two: _scatter_reduce,
    aten.index_reduce.default: _index_reduce,
    aten.index_put.default: _index_put,
    aten.put.default: _put,
    aten.copy.default: _copy,
    aten.grid_sampler_2d.default: _grid_sampler_2d,
    aten.grid_sampler_3d.default: _grid_sampler,
}
