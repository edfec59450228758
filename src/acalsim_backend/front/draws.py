"""Random numbers: PyTorch's own generator draws them before a run, in the order of the program, so that seeds give
what they give in eager."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from acalsim_backend.front.source import copy_place, module_path, source_line

_aten = torch.ops.aten
_LIKE = frozenset(
    {
        _aten.rand_like.default,
        _aten.randn_like.default,
        _aten.randint_like.default,
        _aten.randint_like.low_dtype,
        _aten.bernoulli.p,
        _aten.uniform.default,
        _aten.normal_functional.default,
        _aten.exponential.default,
        _aten.cauchy.default,
        _aten.geometric.default,
        _aten.log_normal.default,
        _aten.native_dropout.default,
    }
)
"""Operators that draw for a tensor whose values they do not look at."""


@dataclass(frozen=True, eq=False)
class Draw:
    """A tensor of random numbers: a call of a PyTorch operator that depends on nothing but the generator.

    ``like`` are dims, strides (elements) and dtype of its first argument, if that is a tensor.
    """

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    like: tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | None
    module: str
    source: str

    def __call__(self, _: Sequence[Any]) -> torch.Tensor:
        """Draw."""
        args = self.args
        if self.like is not None:
            shape, strides, dtype = self.like
            args = (torch.empty_strided(shape, strides, dtype=dtype), *args)
        value: Any = self.target(*args, **self.kwargs)
        drawn: torch.Tensor = value[1] if self.target is _aten.native_dropout.default else value
        return drawn


def take_draws(graph: fx.Graph, numbers: Mapping[fx.Node, Any]) -> tuple[Draw, ...]:
    """Replace random numbers by further arguments, dropout by a product with what was drawn.

    Where other calls may draw as well, because they depend on values or nobody knows what they do, all stay in the
    graph: their order decides what they give. ``numbers`` are the arguments that are numbers.
    """
    drawing = [node for node in graph.nodes if node.op == "call_function" and _may_draw(node)]
    if not all(_can_be_drawn_before(node, numbers) for node in drawing):
        return ()
    places = [node for node in graph.nodes if node.op == "placeholder"]
    draws = []
    for node in drawing:
        like, args = None, list(node.args)
        if node.target in _LIKE:
            value = args.pop(0).meta["val"]
            like = tuple(value.shape), tuple(value.stride()), value.dtype
        plain = fx.node.map_arg((tuple(args), dict(node.kwargs)), numbers.__getitem__)
        draws.append(Draw(node.target, *plain, like, module_path(node), source_line(node)))
        with graph.inserting_after(places[-1]) if places else graph.inserting_before(next(iter(graph.nodes))):
            places.append(graph.placeholder(f"drawn_{len(draws)}"))
        if node.target is _aten.native_dropout.default:
            _multiply(graph, node, places[-1])
        else:
            places[-1].meta = dict(node.meta)
            node.replace_all_uses_with(places[-1])
        graph.erase_node(node)
    return tuple(draws)


def _may_draw(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return False
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace not in ("aten", "prims"):
        return True
    return torch.Tag.nondeterministic_seeded in target.tags


def _can_be_drawn_before(node: fx.Node, numbers: Mapping[fx.Node, Any]) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace not in ("aten", "prims"):
        return False
    others = [n for n in node.all_input_nodes if n not in numbers]
    if node.target not in _LIKE:
        return not others
    if node.target is _aten.native_dropout.default:
        value = node.args[0].meta["val"]  # type: ignore[union-attr]
        trains = _native_dropout_argument(node, 2, "train")
        if trains is False or value.numel() == 0:  # the mask of no elements has another dtype
            return False
    return others == [node.args[0]]


def _native_dropout_argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _multiply(graph: fx.Graph, node: fx.Node, mask: fx.Node) -> None:
    """``(x * mask) * scale``, the scale rounded to the element type, as PyTorch's ``native_dropout`` has it."""
    x, p = node.args[0], _native_dropout_argument(node, 1, "p")
    value, drawn = node.meta["val"]
    scale = torch.tensor(1 / (1 - p) if p != 1 else 0.0, dtype=value.dtype).item()
    with graph.inserting_before(node):
        kept = graph.call_function(_aten.mul.Tensor, (x, mask))
        scaled = graph.call_function(_aten.mul.Tensor, (kept, scale))
    for product in (kept, scaled):
        copy_place(node, product)
        product.meta["val"] = value
    mask.meta = {**node.meta, "val": drawn}
    for item in list(node.users):
        item.replace_all_uses_with((scaled, mask)[item.args[1]])  # type: ignore[index]
        graph.erase_node(item)
