"""CapturedGraph -> ACALSim IR."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from acalsim_backend.errors import InputError, UnsupportedError
from acalsim_backend.front.captured import CapturedGraph, InputKind
from acalsim_backend.front.source import module_path, source_line
from acalsim_backend.front.trace import capture
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ops import check_shapes, operator_for

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
        self.ir.inputs = [name for name, _ in order if self.ir.tensors[name].is_input]
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
            constant = self.captured.constants[str(node.target)]
            desc = TensorDesc(f"param_{number}", constant.shape, _storable(constant.dtype, node), is_param=True)
            self.ir.constants[desc.name] = constant.tensor()
        else:
            desc = self._desc(f"t_{number}", node)
        self.names[node] = self.ir.add_tensor(desc).name
        return desc.name

    def _desc(self, name: str, node: fx.Node) -> TensorDesc:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{_where(node)}: expected one tensor, got {type(value).__name__}")
        return TensorDesc(name, tuple(value.shape), _storable(value.dtype, node))

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            self.names[node] = self.tuples[source][index]  # type: ignore[index]
            return
        target = node.target
        if not isinstance(target, torch._ops.OpOverload):
            raise UnsupportedError(f"{_where(node)}: {target} is not an operator; unroll the control flow")
        if target is torch.ops.aten._assert_tensor_metadata.default:
            return  # shapes and dtypes were checked while tracing
        if node.users and not isinstance(node.meta.get("val"), (torch.Tensor, list, tuple)):
            raise UnsupportedError(f"{target}: returns {type(node.meta.get('val')).__name__}, not tensors")
        inputs, roles, attrs = self._arguments(node, target)
        handler = operator_for(str(target))
        results, outputs = self._results(node)
        op = ACALSimOp(
            op_type=handler.op_type if handler else ACALSimOpType.HOST,
            name=node.name,
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
        if handler:
            op.compute_cycles = handler.flops(op, self.ir)
        self.ir.add_op(op)

    def _arguments(self, node: fx.Node, target: torch._ops.OpOverload) -> tuple[list[str], list[str], dict[str, Any]]:
        inputs: list[str] = []
        roles: list[str] = []
        attrs: dict[str, Any] = {}
        schema = target._schema.arguments
        bound = {arg.name: value for arg, value in zip(schema, node.args, strict=False)} | dict(node.kwargs)
        for name, value in bound.items():
            items: list[tuple[int | None, Any]]
            items = list(enumerate(value)) if isinstance(value, (list, tuple)) else [(None, value)]
            if any(isinstance(item, fx.Node) and item not in self.scalars for _, item in items):
                for i, item in items:
                    if item is not None:
                        inputs.append(self._name(item))
                        roles.append(name if i is None else f"{name}.{i}")
            elif name not in _PLACEMENT and value is not None and not _is_default(value, schema, name):
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
                desc = TensorDesc(f"t_{len(self.ir.tensors)}", tuple(item.shape), _storable(item.dtype, node))
                self.tuples[node][index] = self.ir.add_tensor(desc).name
        return list(self.tuples[node]), list(self.tuples[node].values())

    def _outputs(self, node: fx.Node) -> None:
        (values,) = node.args
        for value in values if isinstance(values, (list, tuple)) else (values,):
            if isinstance(value, fx.Node) and value not in self.scalars:
                name = self._name(value)
                self.ir.tensors[name].is_output = True
                self.ir.outputs.append(name)


_PLACEMENT = ("device", "pin_memory", "layout", "memory_format")
"""Arguments about where PyTorch would put a tensor; guest memory has one place and one layout."""


def _is_default(value: Any, schema: Sequence[Any], name: str) -> bool:
    (argument,) = (a for a in schema if a.name == name)
    if not argument.has_default_value():
        return False
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
