"""What every front end ends in: a functional core-ATen graph of plain shapes, and what its arguments and results are.

Behind this boundary no torch mode is active and no fake tensor or symbol exists.
"""

from __future__ import annotations

import enum
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import _disable_current_modes

from acalsim_backend.program.view import overlaps
from acalsim_backend.tensors import raw_bytes

OF_MEMORY = (torch.ops.aten.as_strided.default, torch.ops.aten.as_strided_scatter.default)
"""Operators whose meaning depends on where the elements of their argument lie."""


class InputKind(enum.Enum):
    """What an argument of a captured graph is."""

    TENSOR = "tensor"
    """bound anew by every call"""
    WEIGHT = "weight"
    """a parameter or buffer: the same storage in most calls"""
    NUMBER = "number"
    """a Python number, part of what the graph was captured for"""
    TOKEN = "token"  # noqa: S105  # no password
    """orders effects in PyTorch; None at run time"""


class OutputKind(enum.Enum):
    """Where a result of a captured graph comes from."""

    TENSOR = "tensor"
    """computed by the graph"""
    ARGUMENT = "argument"
    """an argument, handed back"""
    VALUE = "value"
    """a Python value known at capture"""


@dataclass(frozen=True)
class ViewStep:
    """One call of a view operator on what the step before it gave, which may be a list to take an item of."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self, value: Any) -> Any:
        return self.target(value, *self.args, **self.kwargs)


@dataclass(frozen=True)
class Window:
    """What a step makes of the argument at ``position``."""

    position: int
    step: ViewStep

    def __call__(self, args: Sequence[Any]) -> torch.Tensor:
        """The tensor in the argument's memory."""
        value: torch.Tensor = self.step(args[self.position])
        return value


@dataclass(frozen=True)
class Output:
    """One result: ``value`` is an argument's position or a Python value.

    A TENSOR is the graph's result number ``slot``, with ``strides`` in elements. Of tensors and arguments the caller
    gets what ``steps`` make of them, in the same memory.
    """

    kind: OutputKind
    value: Any = None
    strides: tuple[int, ...] | None = None
    slot: int = -1
    steps: tuple[ViewStep, ...] = ()


@dataclass(frozen=True)
class Constant:
    """A tensor that the graph carries: ``data`` is dense row-major, little-endian."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, value: torch.Tensor) -> Constant:
        """A copy of a tensor's value."""
        return cls(tuple(value.shape), value.dtype, raw_bytes(value).tobytes())

    def tensor(self) -> torch.Tensor:
        """The value as a tensor of its own."""
        if not self.data:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(bytearray(self.data), dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class CapturedGraph:
    """A functional graph of core ATen calls.

    ``graph`` has one placeholder per argument; ``meta["val"]`` of a node is a tensor on the meta device, a tuple of
    them, or a Python number. ``inputs`` are in the order of the arguments; ``numbers`` holds those that are NUMBERs by
    position. ``mutations`` pairs the position of an argument with the node whose value it has after the call.
    ``constants`` are the targets of ``get_attr`` nodes. ``derived`` are further arguments, behind the caller's: each is
    made of those before it.
    """

    graph: fx.Graph
    inputs: tuple[InputKind, ...]
    outputs: tuple[Output, ...]
    mutations: tuple[tuple[int, fx.Node], ...] = ()
    constants: Mapping[str, Constant] = field(default_factory=dict)
    numbers: Mapping[int, Any] = field(default_factory=dict)
    derived: tuple[Callable[[Sequence[Any]], torch.Tensor], ...] = ()

    @property
    def placeholders(self) -> list[fx.Node]:
        """The nodes of the arguments, in order."""
        return [node for node in self.graph.nodes if node.op == "placeholder"]


@contextmanager
def no_modes() -> Iterator[None]:
    """PyTorch as a fresh thread sees it: no fake or dispatch mode, no autocast, no gradients, no default device."""
    with ExitStack() as stack:
        stack.enter_context(_disable_current_modes())
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch._C._DisableAutocast())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield


def meta_tensor(
    shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, storage_offset: int = 0
) -> torch.Tensor:
    """A tensor without elements, laid out in memory as given (in elements)."""
    last = sum((d - 1) * s for d, s in zip(shape, strides, strict=True)) if 0 not in shape else -1
    memory = torch.empty(storage_offset + last + 1, dtype=dtype, device="meta")
    return memory.as_strided(shape, strides, storage_offset)


def describe_outputs(graph: fx.Graph, inputs: Sequence[InputKind], share_memory: bool = False) -> tuple[Output, ...]:
    """What the results of a graph with plain shapes are; leaves the tensors that it computes as its only results.

    With ``share_memory``, results that are views of an argument become that, and results that are views of one
    computed tensor become views of one result.
    """
    arguments = {n: i for i, n in enumerate(n for n in graph.nodes if n.op == "placeholder")}
    passed_on = {n for n, i in arguments.items() if inputs[i] in (InputKind.NUMBER, InputKind.TOKEN)}
    (node,) = (n for n in graph.nodes if n.op == "output")
    (values,) = node.args
    values = values if isinstance(values, (list, tuple)) else (values,)
    tensors = [v for v in values if isinstance(v, fx.Node) and v not in passed_on and _is_tensor(v)]
    owners = {v: _owner(v) if share_memory else (v, ()) for v in dict.fromkeys(tensors)}
    sharing = Counter(owner for owner, _ in owners.values())
    slots: dict[fx.Node, int] = {}
    results: list[Output] = []
    for value in values:
        if not isinstance(value, fx.Node):
            results.append(Output(OutputKind.VALUE, value))
        elif value in passed_on:
            results.append(Output(OutputKind.ARGUMENT, arguments[value]))
        elif not _is_tensor(value):
            results.append(Output(OutputKind.VALUE, value.meta.get("val")))
        else:
            owner, steps = owners[value]
            if share_memory and owner in arguments:
                results.append(Output(OutputKind.ARGUMENT, arguments[owner], steps=steps))
                continue
            if sharing[owner] == 1:
                owner, steps = value, ()
            slot = slots.setdefault(owner, len(slots))
            results.append(Output(OutputKind.TENSOR, None, tuple(owner.meta["val"].stride()), slot, steps))
    node.args = (tuple(slots),)
    return tuple(results)


def take_back_scattered(graph: fx.Graph, share_memory: bool = False) -> None:
    """Replace ``as_strided`` of what ``as_strided_scatter`` has put there by what it put.

    That is how writes through a window come out of functionalisation, and the window may reach memory beside the
    elements of the tensor, which the machine does not hold. With ``share_memory``, results that are views of the whole
    stay that where there are others.
    """
    for node in list(graph.nodes):
        if node.target is not torch.ops.aten.as_strided.default:
            continue
        scatter = node.args[0]
        if scatter.target is not torch.ops.aten.as_strided_scatter.default or list(node.args[1:]) != list(
            scatter.args[2:]
        ):
            continue
        value = node.meta["val"]
        shared = share_memory and _results(node) > 0 and _results(scatter) > 1
        if not overlaps(value.shape, value.stride()) and not _is_looked_at(node) and not shared:
            node.replace_all_uses_with(scatter.args[1])
            graph.erase_node(node)


def _results(node: fx.Node) -> int:
    """How many of the graph's results are a tensor or views of it."""
    return sum(
        1 if user.op == "output" else _results(user)
        for user in node.users
        if user.op == "output" or getattr(user.target, "is_view", False)
    )


def _is_looked_at(node: fx.Node) -> bool:
    """Whether an operator reads a tensor, or a view of it, as memory."""
    return any(
        user.target in OF_MEMORY or (getattr(user.target, "is_view", False) and _is_looked_at(user))
        for user in node.users
    )


def take_windows(graph: fx.Graph) -> tuple[Window, ...]:
    """Replace ``as_strided`` of arguments by further arguments: it may reach memory beside their elements."""
    arguments = {n: i for i, n in enumerate(n for n in graph.nodes if n.op == "placeholder")}
    windows: list[Window] = []
    last = next(reversed(arguments), None)
    for node in list(graph.nodes):
        if node.target is not torch.ops.aten.as_strided.default or last is None:
            continue
        (owner, steps), offset = _owner(node), node.meta["val"].storage_offset()
        if owner not in arguments:
            continue
        size, stride = steps[-1].args[:2]
        with graph.inserting_after(last):
            last = graph.placeholder(f"window_{len(windows)}")
        last.meta = dict(node.meta)
        arguments[last] = arguments[owner]  # windows may be windows into windows
        windows.append(Window(arguments[owner], ViewStep(torch.as_strided, (size, stride, offset), {})))
        node.replace_all_uses_with(last)
        graph.erase_node(node)
    return tuple(windows)


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _owner(node: fx.Node) -> tuple[fx.Node, tuple[ViewStep, ...]]:
    """The node whose memory ``node`` is a view of, and the calls that lead from it to ``node``."""
    steps: list[ViewStep] = []
    at = node
    while at.op == "call_function":
        source = at.args[0] if at.args else None
        viewed = source if at.target is operator.getitem else at
        if not isinstance(source, fx.Node) or not getattr(getattr(viewed, "target", None), "is_view", False):
            break
        args, kwargs = fx.node.map_arg((at.args[1:], dict(at.kwargs)), lambda n: n.meta["val"])
        steps.append(ViewStep(at.target, args, kwargs))  # type: ignore[arg-type]
        at = source
    return at, tuple(reversed(steps))


def take_mutations(graph: fx.Graph) -> tuple[tuple[int, fx.Node], ...]:
    """Remove the ``copy_`` calls that write to arguments; returns the position and the new value of each."""
    arguments = {n: i for i, n in enumerate(n for n in graph.nodes if n.op == "placeholder")}
    written: dict[int, fx.Node] = {}
    for node in list(graph.nodes):
        if node.target is not torch.ops.aten.copy_.default:
            continue
        destination, value = node.args[:2]
        written[arguments[destination]] = value
        node.replace_all_uses_with(value)
        graph.erase_node(node)
    return tuple(written.items())
