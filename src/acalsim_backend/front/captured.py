"""What every front end ends in: a functional core-ATen graph of plain shapes, and what its arguments and results are.

Behind this boundary no torch mode is active and no fake tensor or symbol exists.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import _disable_current_modes


class InputKind(enum.Enum):
    """What an argument of a captured graph is."""

    TENSOR = "tensor"
    """bound anew by every call"""
    WEIGHT = "weight"
    """a parameter or buffer: the same storage in most calls"""
    NUMBER = "number"
    """a Python number, part of what the graph was captured for"""
    TOKEN = "token"
    """orders effects in PyTorch; None at run time"""


class OutputKind(enum.Enum):
    """Where a result of a captured graph comes from."""

    TENSOR = "tensor"
    """computed, or a view of what was computed; the next one that the IR lists"""
    ARGUMENT = "argument"
    """an argument that is not a tensor, handed back"""
    VALUE = "value"
    """a Python value known at capture"""


@dataclass(frozen=True)
class Output:
    """One result: ``strides`` of a tensor in elements, ``value`` an argument's position or a Python value."""

    kind: OutputKind
    value: Any = None
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Constant:
    """A tensor that the graph carries: ``data`` is dense row-major, little-endian."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, value: torch.Tensor) -> Constant:
        """A copy of a tensor's value."""
        dense = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        raw = dense.view(torch.uint8).numpy().tobytes() if dense.numel() else b""
        return cls(tuple(value.shape), value.dtype, raw)

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
    ``constants`` are the targets of ``get_attr`` nodes.
    """

    graph: fx.Graph
    inputs: tuple[InputKind, ...]
    outputs: tuple[Output, ...]
    mutations: tuple[tuple[int, fx.Node], ...] = ()
    constants: Mapping[str, Constant] = field(default_factory=dict)
    numbers: Mapping[int, Any] = field(default_factory=dict)

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


def describe_outputs(graph: fx.Graph, inputs: Sequence[InputKind]) -> tuple[Output, ...]:
    """What the results of a graph with plain shapes are."""
    arguments = {n: i for i, n in enumerate(n for n in graph.nodes if n.op == "placeholder")}
    passed_on = {n: i for n, i in arguments.items() if inputs[i] in (InputKind.NUMBER, InputKind.TOKEN)}
    (node,) = (n for n in graph.nodes if n.op == "output")
    (values,) = node.args
    results: list[Output] = []
    for value in values if isinstance(values, (list, tuple)) else (values,):
        if not isinstance(value, fx.Node):
            results.append(Output(OutputKind.VALUE, value))
        elif value in passed_on:
            results.append(Output(OutputKind.ARGUMENT, passed_on[value]))
        elif isinstance(value.meta.get("val"), torch.Tensor):
            results.append(Output(OutputKind.TENSOR, strides=tuple(value.meta["val"].stride())))
        else:
            results.append(Output(OutputKind.VALUE, value.meta.get("val")))
    return tuple(results)


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
