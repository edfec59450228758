"""Graphs from torch.compile: what AOTAutograd gives, for one set of argument shapes at a time.

Dynamo may give one graph for many shapes. It is captured once: a new shape puts numbers in the place of its symbols
and traces nothing again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch import fx
from torch._higher_order_ops.effects import with_effects
from torch._prims.rng_prims import run_and_save_rng_state
from torch.nn.attention import SDPBackend, sdpa_kernel

from acalsim_backend.errors import InputError, UnsupportedError
from acalsim_backend.front import recurrent
from acalsim_backend.front.captured import (
    OF_MEMORY,
    CapturedGraph,
    Constant,
    InputKind,
    describe_outputs,
    meta_tensor,
    no_modes,
    take_back_scattered,
    take_mutations,
    take_windows,
)
from acalsim_backend.front.decompositions import decomposition_table
from acalsim_backend.front.draws import take_draws
from acalsim_backend.front.source import copy_place, source_line

Compiler = Callable[[fx.GraphModule, Sequence[Any]], Callable[..., Any]]

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_CHECKS = frozenset(
    {
        torch.ops.aten._assert_scalar.default,
        torch.ops.aten.sym_constrain_range.default,
        torch.ops.aten.sym_constrain_range_for_size.default,
    }
)
"""Assertions about sizes, which Dynamo's guards have checked before a call comes here."""


def through_aot_autograd(
    gm: fx.GraphModule, example_inputs: Sequence[Any], forward: Compiler, backward: Compiler
) -> Callable[..., Any]:
    """Lower a graph of Dynamo to core ATen and hand it to ``forward``, and its gradients' graph to ``backward``.

    Attention is captured under PyTorch's math backend: the core decomposition of the flash kernel for CPUs returns
    the attention weights where its backward reads the log-sum-exp. Recurrent layers are decomposed by
    :mod:`acalsim_backend.front.recurrent`.
    """
    from torch._dynamo.backends.common import aot_autograd

    with sdpa_kernel([SDPBackend.MATH]), recurrent.decomposed():
        compiled: Callable[..., Any] = aot_autograd(
            fw_compiler=forward,
            bw_compiler=backward,
            inference_compiler=forward,
            decompositions=decomposition_table(),
            keep_inference_input_mutations=True,
        )(gm, example_inputs)
    return compiled


def static_inputs() -> frozenset[int]:
    """Positions of parameters and buffers among the arguments of the graph that AOTAutograd is compiling."""
    context = torch._guards.TracingContext.try_get()
    metadata = context.fw_metadata if context else None
    return frozenset(metadata.static_input_indices if metadata else ())


class AotGraph:
    """A graph from AOTAutograd, perhaps with symbols for sizes; ``at`` gives it for concrete arguments.

    ``weights`` are the positions of parameters and buffers among the arguments.
    """

    def __init__(self, gm: fx.GraphModule, weights: frozenset[int]) -> None:
        self._gm = gm
        self._tokens = _effect_tokens(gm.graph)
        self._graph = _without_saved_states(_without_effect_tokens(gm.graph))
        self._placeholders = [node for node in self._graph.nodes if node.op == "placeholder"]
        self._weights = weights
        self._attributes: dict[str, Constant] = {}
        self.is_dynamic = any(_has_symbols(node.meta.get("val")) for node in self._placeholders)
        """Whether the arguments of later calls may have other shapes."""
        self._addresses_memory = any(node.target in OF_MEMORY for node in self._graph.nodes)

    def signature(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """What the graph for ``args`` depends on: equal for arguments that one graph serves."""
        return tuple(
            (tuple(a.shape), a.stride(), a.dtype, a.storage_offset() if self._addresses_memory else 0)
            if isinstance(a, torch.Tensor)
            else a
            for a in args
        )

    @property
    def examples(self) -> list[Any]:
        """Arguments of the shapes for which a graph without symbols was captured, on the meta device."""
        return [None if i in self._tokens else _Substitution({}).of(n.meta["val"], n)
                for i, n in enumerate(self._placeholders)]  # fmt: skip

    def at(self, args: Sequence[Any], share_memory: bool = False) -> CapturedGraph:
        """The graph for arguments shaped like ``args``: tensors, numbers, or None for a token.

        ``share_memory`` keeps results that are views of one tensor views of one tensor.

        Raises:
            UnsupportedError: a shape that depends on data, or a call that is no operator.
        """
        with no_modes():
            symbols = self._solve(args)
            graph = fx.Graph()
            nodes: dict[fx.Node, Any] = {}
            for node in self._graph.nodes:
                if node.target not in _CHECKS:
                    self._copy(node, graph, nodes, symbols)
            if self._addresses_memory:
                _move(graph, args)
            kinds = [self._kind(i, value) for i, value in enumerate(args)]
            placed = zip(graph.nodes, kinds, args, strict=False)  # arguments come first
            numbers = {node: value for node, kind, value in placed if kind is InputKind.NUMBER}
            derived: list[Callable[[Sequence[Any]], torch.Tensor]] = [*take_draws(graph, numbers)]
            mutations = take_mutations(graph)
            take_back_scattered(graph, share_memory)
            derived += take_windows(graph)
            kinds += [InputKind.TENSOR] * len(derived)
            outputs = describe_outputs(graph, kinds, share_memory)
        known = {i: args[i] for i, kind in enumerate(kinds) if kind is InputKind.NUMBER}
        return CapturedGraph(graph, tuple(kinds), outputs, mutations, dict(self._attributes), known, tuple(derived))

    def _kind(self, position: int, value: Any) -> InputKind:
        if position in self._tokens:
            return InputKind.TOKEN
        if not isinstance(value, torch.Tensor):
            return InputKind.NUMBER
        return InputKind.WEIGHT if position in self._weights else InputKind.TENSOR

    def _solve(self, args: Sequence[Any]) -> _Substitution:
        """What the symbols stand for, read off arguments and their dims."""
        found: dict[sympy.Symbol, Any] = {}

        def learn(symbolic: Any, value: Any) -> None:
            if isinstance(value, torch.SymInt):
                raise UnsupportedError("a nested tensor among the arguments; call .to_padded_tensor() first")
            if isinstance(symbolic, _SYMBOLIC) and isinstance(getattr(symbolic.node, "expr", None), sympy.Symbol):
                found[symbolic.node.expr] = value

        for node, value in zip(self._placeholders, args, strict=True):
            symbolic = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                learn(symbolic, value)
                continue
            if not isinstance(symbolic, torch.Tensor):
                raise InputError(f"argument {node.name} is a tensor, the graph was captured for {symbolic!r}")
            for a, b in zip((*symbolic.shape, *symbolic.stride()), (*value.shape, *value.stride()), strict=True):
                learn(a, b)
            learn(symbolic.storage_offset(), value.storage_offset())
        return _Substitution(found)

    def _copy(self, node: fx.Node, graph: fx.Graph, nodes: dict[fx.Node, Any], symbols: _Substitution) -> None:
        value = node.meta.get("val")
        if node.op == "get_attr":
            value = torch.empty_like(self._attribute(node), device="meta", memory_format=torch.contiguous_format)
        elif isinstance(value, _SYMBOLIC) and node.op != "placeholder":
            nodes[node] = symbols.of(value, node)  # arithmetic on sizes
            return
        copy = graph.node_copy(node, nodes.__getitem__)
        copy.args = fx.node.map_aggregate(copy.args, lambda a: symbols.of(a, node) if isinstance(a, _SYMBOLIC) else a)
        copy_place(node, copy)
        if value is not None:
            copy.meta["val"] = symbols.of(value, node)
        nodes[node] = copy

    def _attribute(self, node: fx.Node) -> torch.Tensor:
        target = str(node.target)
        value: Any = self._gm
        for part in target.split("."):
            value = getattr(value, part)
        if not isinstance(value, torch.Tensor):
            raise UnsupportedError(
                f"{', '.join(sorted({str(user.target) for user in node.users}))}{_at(node)}: calls a "
                f"{type(value).__name__}, expected operators on tensors alone; unroll the control flow"
            )
        if target not in self._attributes:
            self._attributes[target] = Constant.of(value)
        return value


def _move(graph: fx.Graph, args: Sequence[Any]) -> None:
    """Make the arguments of a graph that addresses memory, and their views, begin where ``args`` do in their storage.

    Dynamo does not guard storage offsets.
    """
    arguments = [node for node in graph.nodes if node.op == "placeholder"]
    moved = {
        node: value.storage_offset() - node.meta["val"].storage_offset()
        for node, value in zip(arguments, args, strict=True)
        if isinstance(value, torch.Tensor)
    }
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if node.op == "call_function" and getattr(node.target, "is_view", False) and source in moved:
            offset = _argument(node, "storage_offset") if node.target is torch.ops.aten.as_strided.default else None
            moved[node] = moved[source] if offset is None else 0
    for node, by in moved.items():
        value = node.meta["val"]
        if by and isinstance(value, torch.Tensor):
            node.meta["val"] = meta_tensor(value.shape, value.stride(), value.dtype, value.storage_offset() + by)


def _argument(node: fx.Node, name: str) -> Any:
    """An argument of a call of an operator, None where it is not given."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]  # an overload
    return dict(zip(names, node.args, strict=False)).get(name, node.kwargs.get(name))


class _Substitution:
    """Numbers for symbols; every expression is evaluated once."""

    def __init__(self, found: dict[sympy.Symbol, Any]) -> None:
        self._found = {symbol: sympy.sympify(value) for symbol, value in found.items()}
        self._values: dict[sympy.Expr, Any] = {}

    def of(self, value: Any, node: fx.Node) -> Any:
        """The value with numbers for symbols; tensors become meta tensors of plain shape."""
        if isinstance(value, torch.Tensor):
            if value.is_quantized or value.is_nested:
                kind, remedy = ("quantized", "dequantize") if value.is_quantized else ("nested", "to_padded_tensor")
                raise UnsupportedError(
                    f"{node.target}{_at(node)}: a {kind} tensor, expected plain ones; call .{remedy}() first"
                )
            if node.op == "placeholder" and value.device.type == "meta":
                raise UnsupportedError(
                    f"{node.target}: a tensor on the meta device, which has no values to compute with"
                )
            if value.layout is not torch.strided:
                raise UnsupportedError(
                    f"{node.target}{_at(node)}: a tensor of layout {value.layout}, expected torch.strided; "
                    "call .to_dense() first"
                )
            size, strides = ([self._number(d, node) for d in dims] for dims in (value.shape, value.stride()))
            return meta_tensor(size, strides, value.dtype, self._number(value.storage_offset(), node))
        if isinstance(value, (tuple, list)):
            return tuple(self.of(item, node) for item in value)
        return self._number(value, node)

    def _number(self, value: Any, node: fx.Node) -> Any:
        if not isinstance(value, _SYMBOLIC):
            return value
        expression = getattr(value.node, "expr", None)
        if expression is None:
            raise UnsupportedError(f"{node.target}{_at(node)}: a nested tensor; call .to_padded_tensor() first")
        if expression not in self._values:
            result = expression.xreplace(self._found) if isinstance(expression, sympy.Basic) else expression
            free = sorted(map(str, getattr(result, "free_symbols", ())))
            if free:
                raise UnsupportedError(
                    f"{node.target}{_at(node)}: a shape depends on the data ({', '.join(free)} in {value}), "
                    "the machine needs shapes that follow from those of the arguments"
                )
            kind = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}[type(value)]
            self._values[expression] = kind(result)
        return self._values[expression]


def _has_symbols(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return any(isinstance(s, torch.SymInt) for s in (*value.shape, *value.stride(), value.storage_offset()))
    return isinstance(value, _SYMBOLIC)


def _at(node: fx.Node) -> str:
    line = source_line(node)
    return f" ({line})" if line else ""


def _effect_tokens(graph: fx.Graph) -> frozenset[int]:
    """Positions of the arguments that order effects; at run time they are None."""
    arguments = [n for n in graph.nodes if n.op == "placeholder"]
    threaded = {n.args[0] for n in graph.nodes if n.target is with_effects}
    return frozenset(i for i, n in enumerate(arguments) if n in threaded)


def _without_effect_tokens(graph: fx.Graph) -> fx.Graph:
    """The graph with effectful calls made directly: AOTAutograd threads a token through them to keep their order.

    The list of operations keeps that order anyway; a token that is an output becomes the token that came in.
    """
    if not any(node.target is with_effects for node in graph.nodes):
        return graph
    copied = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    result = copied.graph_copy(graph, nodes)
    copied.output(result)
    for node in list(copied.nodes):
        if node.target is not with_effects:
            continue
        token, target, *args = node.args
        _, *results = node.meta["val"]
        with copied.inserting_before(node):
            call = copied.call_function(target, tuple(args), node.kwargs)
        call.meta = {**node.meta, "val": results[0] if len(results) == 1 else tuple(results)}
        for item in list(node.users):
            position = item.args[1]
            if position == 0:
                item.replace_all_uses_with(token)
            elif len(results) == 1:
                item.replace_all_uses_with(call)
            else:
                item.args = (call, position - 1)
                continue
            copied.erase_node(item)
        copied.erase_node(node)
    return copied


_STATE_BYTES = torch.get_rng_state().numel()


@torch.library.custom_op("acalsim::rng_state", mutates_args=(), schema="() -> Tensor")
def _rng_state() -> torch.Tensor:
    """The state of the generator for the CPU, for a recomputation."""
    return torch.get_rng_state()


@_rng_state.register_fake
def _(*_: Any) -> torch.Tensor:
    return torch.empty(_STATE_BYTES, dtype=torch.uint8)


def _without_saved_states(graph: fx.Graph) -> fx.Graph:
    """The graph with calls whose random state is kept for a recomputation (checkpoints) made in two steps."""
    if not any(node.target is run_and_save_rng_state for node in graph.nodes):
        return graph
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    with no_modes():
        state_value = meta_tensor((_STATE_BYTES,), (1,), torch.uint8)
    node: Any
    for node in list(copied.nodes):
        if node.target is not run_and_save_rng_state:
            continue
        target, *args = node.args
        with copied.inserting_before(node):
            state = copied.call_function(torch.ops.acalsim.rng_state.default, ())
            call = copied.call_function(target, tuple(args), node.kwargs)
        state.meta = {**node.meta, "val": state_value}
        call.meta = {**node.meta, "val": _value_of_item(node, 1)}
        for item in list(node.users):
            item.replace_all_uses_with((state, call)[item.args[1]])
            copied.erase_node(item)
        copied.erase_node(node)
    return copied


def _value_of_item(node: Any, index: int) -> Any:
    """What item ``index`` of a call's result is: a value, or a tuple that has None for what nobody reads."""
    items = [user for user in node.users if user.target is operator.getitem and user.args[1] == index]
    if not items or "val" in items[0].meta:
        return items[0].meta["val"] if items else None
    read = {user.args[1]: user.meta["val"] for user in items[0].users}
    return tuple(read.get(i) for i in range(max(read) + 1))
