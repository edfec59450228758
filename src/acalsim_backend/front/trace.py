"""Graphs from a plain module or function, traced with concrete arguments."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from acalsim_backend.errors import InputError
from acalsim_backend.front.captured import (
    CapturedGraph,
    Constant,
    InputKind,
    describe_outputs,
    meta_tensor,
    no_modes,
    take_mutations,
)
from acalsim_backend.front.decompositions import decomposition_table
from acalsim_backend.front.source import copy_place


def capture(module: Callable[..., Any], args: Sequence[Any], weights: Sequence[int] = ()) -> CapturedGraph:
    """The graph of ``module(*args)``; ``weights`` are the positions of parameters and buffers among ``args``.

    ``Parameter`` instances among the arguments count as weights on their own. A graph that is in core ATen already is
    taken as it is.

    Raises:
        InputError: an argument or attribute that has no place in a graph.
    """
    gm = module if isinstance(module, fx.GraphModule) and _is_core_aten(module) else to_core_aten(module, args)
    graph, constants = fx.Graph(), {}
    nodes: dict[fx.Node, fx.Node] = {}
    with no_modes():
        for node in gm.graph.nodes:
            copy = nodes[node] = graph.node_copy(node, nodes.__getitem__)
            value = node.meta.get("val")
            if node.op == "get_attr":
                attribute = _attribute(gm, str(node.target))
                constants[str(node.target)] = Constant.of(attribute)
                value = torch.empty_like(attribute, device="meta", memory_format=torch.contiguous_format)
            copy_place(node, copy)
            if value is not None:
                copy.meta["val"] = _plain(value)
        mutations = take_mutations(graph)
        kinds = tuple(_kind(i, value, weights) for i, value in enumerate(args))
        outputs = describe_outputs(graph, kinds)
    numbers = {i: args[i] for i, kind in enumerate(kinds) if kind is InputKind.NUMBER}
    return CapturedGraph(graph, kinds, outputs, mutations, constants, numbers)


def to_core_aten(module: Callable[..., Any], args: Sequence[Any]) -> fx.GraphModule:
    """Trace with concrete shapes down to functional core ATen; in-place writes to inputs become copy_."""
    from torch.fx.experimental.proxy_tensor import make_fx

    traced: Any = module
    with torch.no_grad():
        while True:
            functional = torch.func.functionalize(traced, remove="mutations")
            traced = make_fx(
                functional, decomposition_table=decomposition_table(), tracing_mode="fake", _allow_non_fake_inputs=True
            )(*args)
            if not any(map(_writes_in_place, traced.graph.nodes)):  # a decomposition may bring such calls in
                break
    traced.graph.eliminate_dead_code()
    if not isinstance(traced, fx.GraphModule):
        raise InputError(f"{module}: traced to a {type(traced).__name__}, expected a graph")
    return traced


def _writes_in_place(node: fx.Node) -> bool:
    target = node.target
    known = isinstance(target, torch._ops.OpOverload) and target is not torch.ops.aten.copy_.default
    return known and target._schema.is_mutable  # type: ignore[union-attr]


def _is_core_aten(gm: fx.GraphModule) -> bool:
    return all(
        isinstance(node.target, torch._ops.OpOverload) or node.target is operator.getitem
        for node in gm.graph.nodes
        if node.op in ("call_function", "call_module", "call_method")
    ) and all("val" in n.meta for n in gm.graph.nodes if n.op == "placeholder")


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return meta_tensor(value.shape, value.stride(), value.dtype, int(value.storage_offset()))
    return tuple(map(_plain, value)) if isinstance(value, (tuple, list)) else value


def _kind(position: int, value: Any, weights: Sequence[int]) -> InputKind:
    if not isinstance(value, torch.Tensor):
        return InputKind.NUMBER
    return InputKind.WEIGHT if position in weights or isinstance(value, torch.nn.Parameter) else InputKind.TENSOR


def _attribute(module: torch.nn.Module, path: str) -> torch.Tensor:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    if not isinstance(value, torch.Tensor):
        raise InputError(f"attribute {path} is a {type(value).__name__}, expected a tensor")
    return value
