"""CapturedGraph -> ACALSim IR."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from acalsim_backend.errors import InputError, UnsupportedError
from acalsim_backend.front.captured import OF_MEMORY, CapturedGraph, InputKind, meta_tensor
from acalsim_backend.front.layouts import Layouts
from acalsim_backend.front.source import module_path, source_line
from acalsim_backend.front.trace import capture
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ops import check_shapes, operator_for
from acalsim_backend.ops.evaluate import PYTORCHS
from acalsim_backend.program.view import contiguous_strides

log = logging.getLogger(__name__)


def dtype_name(dtype: torch.dtype) -> str:
    """PyTorch's short name, "float32"."""
    return str(dtype).removeprefix("torch.")


class ACALSimCompiler:
    """Converts captured graphs; ``verbose`` prints each IR."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose

    def compile(
        self,
        gm: Callable[..., Any],
        example_inputs: Sequence[Any],
        graph_name: str = "graph_0",
        static_inputs: Sequence[int] = (),
    ) -> ACALSimIR:
        """Convert a graph module, or any function of tensors, to IR.

        ``example_inputs`` match its arguments (tensors or numbers). ``static_inputs`` are the positions of parameters
        and buffers; ``Parameter`` instances count as such on their own. What is not in core ATen yet (from
        ``symbolic_trace`` or straight from Dynamo) is decomposed first.

        Raises:
            InputError: an element type or an argument that has no place in guest memory.
        """
        ir = self.convert(capture(gm, example_inputs, static_inputs), graph_name)
        ir.examples = tuple(example_inputs)
        return ir

    def convert(self, captured: CapturedGraph, graph_name: str) -> ACALSimIR:
        """Convert a captured graph to IR; raises like :meth:`compile`."""
        ir = _Capture(captured, graph_name).run()
        ir.verify()
        check_shapes(ir)
        ir.is_complete = True
        log.debug("%s", ir)
        if self.verbose:
            print(ir)
        return ir


class _Capture:
    """One conversion: numbers tensors in order of first use and binds ATen arguments by name."""

    def __init__(self, captured: CapturedGraph, name: str) -> None:
        self.captured = captured
        self.ir = ACALSimIR(name)
        self.names: dict[fx.Node, str] = {}
        self.tuples: dict[fx.Node, dict[int, str]] = {}
        self.position: dict[fx.Node, int] = {}
        self.scalars: dict[fx.Node, Any] = {}
        self.layouts = Layouts(captured.graph)

    def run(self) -> ACALSimIR:
        for position, node in enumerate(self.captured.placeholders):
            self.position[node] = position
            if self.captured.inputs[position] in (InputKind.NUMBER, InputKind.TOKEN):
                self.scalars[node] = self.captured.numbers.get(position)
        written = dict(self.captured.mutations)
        for node in self.captured.graph.nodes:
            if node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                for position, value in written.items():
                    self.ir.mutations.append((self._name(self.captured.placeholders[position]), self._name(value)))
                self._outputs(node)
        for node in self.position:
            if node not in self.scalars:
                self._name(node)
        order = sorted(self.ir.arguments.items(), key=lambda item: item[1])
        self.ir.input_names = [name for name, _ in order if self.ir.tensors[name].is_input]
        return self.ir

    def _name(self, node: fx.Node) -> str:
        """The tensor of a node, named at its first use."""
        if node in self.names:
            return self.names[node]
        number = len(self.ir.tensors)
        if node.op == "placeholder":
            position = self.position[node]
            is_param = self.captured.inputs[position] is InputKind.WEIGHT
            desc = self._desc(f"{'param' if is_param else 'input'}_{number}", node)
            desc.is_param, desc.is_input = is_param, not is_param
            self.ir.arguments[desc.name] = position
        elif node.op == "get_attr":
            value = self.captured.constants[str(node.target)].tensor()
            desc = _described(f"param_{number}", value, node)
            desc.is_param = True
            self.ir.constants[desc.name] = value
        else:
            desc = self._desc(f"t_{number}", node)
        self.names[node] = self.ir.add_tensor(desc).name
        return desc.name

    def _desc(self, name: str, node: fx.Node) -> TensorDesc:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{_where(node)}: expected one tensor, got {type(value).__name__}")
        return _described(name, value, node)

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            self.names[node] = self.tuples[source][index]  # type: ignore[index]
            return
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            return  # shapes and dtypes were checked while tracing
        target, bound = _bound(node)
        if target in OF_MEMORY:
            bound = self._on_memory(node, target, bound)
        if node.users and not isinstance(node.meta.get("val"), (torch.Tensor, list, tuple)):
            raise UnsupportedError(f"{target}: returns {type(node.meta.get('val')).__name__}, not tensors")
        handler = operator_for(str(target))
        inputs, roles, attrs = self._arguments(target, bound, handler is None)
        results, outputs = self._results(node)
        op = ACALSimOp(
            op_type=handler.op_type if handler else ACALSimOpType.HOST,
            name="",
            inputs=inputs,
            outputs=outputs,
            attrs=attrs,
            roles=roles,
            results=results,
            target=str(target),
            compute=_promoted(node) if handler and handler.promotes else "",
            module=module_path(node),
            source=source_line(node),
        )
        op.name = f"{op.op_type.name.lower()}_{len(self.ir.ops)}"
        if handler:
            op.compute_cycles = handler.flops(op, self.ir)
        self.ir.add_op(op)

    def _on_memory(self, node: fx.Node, target: torch._ops.OpOverload, bound: dict[str, Any]) -> dict[str, Any]:
        """Arguments of as_strided or its scatter with ``storage_offset`` counted from the first element of ``self``.

        as_strided is given the tensor that owns the memory, of which its own ``self`` may be any view.
        """
        source = bound["self"]
        offset = bound.get("storage_offset")
        offset = source.meta["val"].storage_offset() if offset is None else self._plain(offset)
        owner = _owner(source) if target is torch.ops.aten.as_strided.default else source
        value = owner.meta["val"]
        strides = self.layouts.strides(owner)
        if strides != value.stride():
            value = meta_tensor(value.shape, strides, value.dtype)
            self.ir.tensors[self._name(owner)].strides = _described("", value, owner).strides
        offset = int(offset) - int(value.storage_offset())
        size, stride = self._plain(bound["size"]), self._plain(bound["stride"])
        if owner is not source or target is torch.ops.aten.as_strided.default:
            _check_covered(node, value, size, stride, offset, source_line(node))
        return {**bound, "self": owner, "storage_offset": offset}

    def _arguments(
        self, target: torch._ops.OpOverload, bound: dict[str, Any], on_host: bool
    ) -> tuple[list[str], list[str], dict[str, Any]]:
        inputs: list[str] = []
        roles: list[str] = []
        attrs: dict[str, Any] = {}
        schema = target._schema.arguments
        ignored: tuple[str, ...] = ()
        if target.namespace in PYTORCHS:
            ignored = _PLACEMENT if on_host else (*_PLACEMENT, "memory_format")
        for name, value in bound.items():
            items: list[tuple[int | None, Any]]
            items = list(enumerate(value)) if isinstance(value, (list, tuple)) else [(None, value)]
            if any(isinstance(item, fx.Node) and item not in self.scalars for _, item in items):
                if items[-1][1] is None:
                    attrs[f"{name}.length"] = len(items)
                for i, item in items:
                    if item is not None:
                        inputs.append(self._name(item))
                        roles.append(name if i is None else f"{name}.{i}")
            elif name not in ignored and not _is_default(value, schema, name):
                attrs[name] = self._plain(value)
        return inputs, roles, attrs

    def _plain(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self.scalars[value]
        if isinstance(value, (list, tuple)):
            return tuple(self._plain(v) for v in value)
        if isinstance(value, (torch.dtype, torch.memory_format, torch.layout, torch.device)):
            return str(value).removeprefix("torch.")
        return value

    def _results(self, node: fx.Node) -> tuple[list[int], list[str]]:
        value = node.meta.get("val")
        if value is None:
            return [], []
        if isinstance(value, torch.Tensor):
            return [0], [self._name(node)]
        indices = {user.args[1] for user in node.users if user.target is operator.getitem}
        self.tuples[node] = {}
        for index, item in enumerate(value):
            if index in indices:
                self.tuples[node][index] = self.ir.add_tensor(_described(f"t_{len(self.ir.tensors)}", item, node)).name
        return list(self.tuples[node]), list(self.tuples[node].values())

    def _outputs(self, node: fx.Node) -> None:
        (values,) = node.args
        for value in values if isinstance(values, (list, tuple)) else (values,):
            if isinstance(value, fx.Node) and value not in self.scalars:
                name = self._name(value)
                self.ir.tensors[name].is_output = True
                self.ir.output_names.append(name)


_PLACEMENT = ("device", "pin_memory", "layout")
"""Arguments about where PyTorch would put a tensor; guest memory is one place."""


def _described(name: str, value: torch.Tensor, node: fx.Node) -> TensorDesc:
    shape, strides = tuple(int(s) for s in value.shape), tuple(int(s) for s in value.stride())
    dense = 0 in shape or all(
        d == 1 or own == step for d, own, step in zip(shape, strides, contiguous_strides(shape), strict=True)
    )
    return TensorDesc(name, shape, _storable(value.dtype, node), strides=None if dense else strides)


def _bound(node: fx.Node) -> tuple[torch._ops.OpOverload, dict[str, Any]]:
    """The overload that a node calls with its arguments by name.

    Where an argument without default is None and the operator has the overload without it, that one:
    ``div(x, y, rounding_mode=None)`` is ``div(x, y)``.
    """
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        raise UnsupportedError(
            f"{_where(node)}: {type(target).__name__} {target} is not an ATen operator; "
            "keep it out of the compiled function with torch.compiler.disable"
        )
    if target._schema.is_mutable:
        raise UnsupportedError(
            f"{target}: writes to its arguments, which the graph does not say; use the variant that returns its result"
        )
    schema = target._schema.arguments
    bound = {arg.name: value for arg, value in zip(schema, node.args, strict=False)} | dict(node.kwargs)
    wanted = [a for a in schema if a.has_default_value() or bound.get(a.name) is not None]
    if len(wanted) == len(schema):
        return target, bound
    packet = target.overloadpacket
    for overload in (getattr(packet, name) for name in packet.overloads()):
        others = overload._schema.arguments
        if [(a.name, str(a.type)) for a in others] == [(a.name, str(a.type)) for a in wanted]:
            return overload, {a.name: bound[a.name] for a in wanted if a.name in bound}
    return target, bound


def _owner(node: fx.Node) -> fx.Node:
    """The node whose memory ``node`` is a view of, in the same element type."""
    while node.op == "call_function" and node.target is not torch.ops.aten.view.dtype:
        source = node.args[0] if node.target is operator.getitem else node
        if not isinstance(source, fx.Node) or not getattr(source.target, "is_view", False):
            break
        (node, *_) = source.all_input_nodes
    return node


def _check_covered(
    node: fx.Node, owner: torch.Tensor, size: Sequence[int], stride: Sequence[int], offset: int, source: str
) -> None:
    """Raise unless each place of the window holds an element of ``owner``."""
    if 0 in size:
        return
    last = sum((int(d) - 1) * int(s) for d, s in zip(owner.shape, owner.stride(), strict=True))
    held = np.zeros(last + 1 if owner.numel() else 0, bool)
    end = offset + 1 + sum((d - 1) * s for d, s in zip(size, stride, strict=True))
    if offset >= 0 and end <= held.size:
        _places(held, owner.shape, owner.stride())[...] = True
        if _places(held[offset:], size, stride).all():
            return
    raise UnsupportedError(
        f"{node.target} ({source}): shape {tuple(size)}, strides {tuple(stride)} at {offset} reach memory beside the "
        f"{owner.numel()} elements of the tensor, which the machine does not hold; pass the tensor that owns the memory"
    )


def _places(memory: np.ndarray[Any, Any], size: Sequence[int], stride: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.lib.stride_tricks.as_strided(memory, tuple(map(int, size)), tuple(map(int, stride)))


def _is_default(value: Any, schema: Sequence[Any], name: str) -> bool:
    (argument,) = (a for a in schema if a.name == name)
    if not argument.has_default_value():
        return value is None
    default = argument.default_value
    return type(value) is type(default) and bool(value == default)


def _promoted(node: fx.Node) -> str:
    """The dtype that PyTorch promotes the tensor and scalar arguments to."""
    values = [a.meta["val"] if isinstance(a, fx.Node) else a for a in node.args]
    operands = [v for v in values if isinstance(v, (torch.Tensor, int, float, bool))]
    tensors = [v for v in operands if isinstance(v, torch.Tensor)]
    if not tensors:
        return ""
    state = tensors[0]
    for other in operands:
        if other is not state:
            state = torch.empty(_promoted_shape(state, other), dtype=torch.result_type(state, other), device="meta")
    return dtype_name(state.dtype)


def _promoted_shape(left: torch.Tensor, right: Any) -> tuple[int, ...]:
    """0-d unless a dimensioned tensor took part: PyTorch promotes 0-d tensors like scalars."""
    rank = max(left.dim(), right.dim() if isinstance(right, torch.Tensor) else 0)
    return (1,) * rank


def _storable(dtype: torch.dtype, node: fx.Node) -> str:
    name = dtype_name(dtype)
    if name not in DTYPES:
        raise InputError(
            f"{_where(node)}: element type {name} has no place in guest memory, "
            f"expected one of {', '.join(DTYPES)}; convert the tensor first"
        )
    return name


def _where(node: fx.Node) -> str:
    """A call as an error names it: its operator and the user's line."""
    line = source_line(node)
    return f"{node.target} ({line})" if line else str(node.target)
