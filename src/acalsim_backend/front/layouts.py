"""Where PyTorch's kernels put the elements of their results.

Fake tensors say it, too, and for some operators, such as batch_norm of strided memory, not what the kernels do. It
matters where a program looks at memory instead of values.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx


class Layouts:
    """The strides of the tensors of a graph with plain shapes, found by running what made them, on zeros."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self._known: dict[fx.Node, Any] = {}

    def strides(self, node: fx.Node) -> tuple[int, ...]:
        """In elements, those of the fake tensor where an operator is not PyTorch's own or does not run on zeros."""
        needed, stack = set(), [node]
        while stack:
            one = stack.pop()
            if one not in self._known and one not in needed:
                needed.add(one)
                stack += one.all_input_nodes
        for one in self._graph.nodes if needed else ():
            if one in needed:
                self._known[one] = self._run(one)
        return tuple(self._known[node].stride())

    def _run(self, node: fx.Node) -> Any:
        """A node's value, its elements zero and its memory as the kernel lays it out."""
        if node.target is operator.getitem:
            source, index = node.args
            return self._known[source][index]  # type: ignore[index]
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace in ("aten", "prims"):
            args: Any = fx.node.map_arg(node.args, self._known.__getitem__)
            kwargs: Any = fx.node.map_arg(node.kwargs, self._known.__getitem__)
            try:
                with torch.random.fork_rng(devices=()):
                    return node.target(*args, **kwargs)
            except (RuntimeError, ValueError, IndexError, TypeError):
                pass
        return fx.node.map_aggregate(node.meta.get("val"), _zeros)


def _zeros(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype).zero_()
