"""fuse_pointwise: neighbouring pointwise operations of one shape become one VECTOR command.

An operation joins the group of one of its producers when the command's limits allow it and no path leaves the group
and comes back. Groups are merged greedily in execution order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops import operator_of
from acalsim_backend.ops.evaluate import is_pure
from acalsim_backend.ops.vector import Emitter, Pointwise
from acalsim_backend.passes.target import Target


@dataclass
class _Node:
    """A group (``bit`` is its own) or a single other operation (``bit`` is 0).

    ``before`` are the bits of the groups that must run earlier, kept while operations to come read from this node:
    ``readers`` counts these. ``sources`` and ``followers`` are the nodes next to it.
    """

    shape: tuple[int, ...] | None
    bit: int
    ops: list[ACALSimOp] = field(default_factory=list)
    before: int = 0
    readers: int = 0
    members: set[str] = field(default_factory=set)
    sources: set[int] = field(default_factory=set)
    followers: set[int] = field(default_factory=set)
    code: Emitter | None = None


@dataclass(frozen=True)
class FusePointwise:
    """Keeps the order of what has effects, and otherwise stays close to the order that was."""

    name: str = "fuse_pointwise"
    after: tuple[str, ...] = ("inline_scalars", "fuse_epilogue")

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        parts = [list(part) for _, part in itertools.groupby(ir.ops, lambda op: op.op_type is ACALSimOpType.SYNC)]
        return replace(ir, ops=[op for part in parts for op in _Fusion(ir).run(part)])


class _Fusion:
    def __init__(self, ir: ACALSimIR) -> None:
        self.ir = ir
        self.users, self.escaping = ir.users(), ir.escaping()
        self.nodes: list[_Node] = []
        self.owner: dict[str, int] = {}
        self.groups = 0
        self.effects: list[ACALSimOp] = []
        self.last_effect: int | None = None

    def run(self, ops: Sequence[ACALSimOp]) -> list[ACALSimOp]:
        """Operations that follow one another in the IR, with groups of them fused."""
        self.effects = [op for op in ops if op.op_type is ACALSimOpType.HOST and not is_pure(op)]
        for op in ops:
            self._place(op)
        return [self._fused(node) for node in _sorted(self.nodes)]

    def _place(self, op: ACALSimOp) -> None:
        """Let the operation join a group, or make it a node of its own."""
        read = [self.owner[n] for n in dict.fromkeys(op.inputs) if n in self.owner]
        is_effect = any(op is effect for effect in self.effects)
        if is_effect and self.last_effect is not None:
            read.append(self.last_effect)  # effects, and draws of random numbers, keep their order
        sources = set(read)
        shape = self.ir.tensors[op.outputs[0]].shape if isinstance(operator_of(op), Pointwise) else None
        home = None
        if shape is not None:
            home = next((c for c in sorted(sources, reverse=True) if self._joins(op, shape, c, sources)), None)
        if home is None:
            home = len(self.nodes)
            self.nodes.append(_Node(shape, 0 if shape is None else 1 << self.groups))
            self.groups += shape is not None
        node = self.nodes[home]
        node.ops.append(op)
        node.members.update(op.outputs)
        node.readers += sum(len(self.users[n]) for n in op.outputs)
        if is_effect:
            self.last_effect = home
            node.readers += op is not self.effects[-1]
        self.owner.update(dict.fromkeys(op.outputs, home))
        self._connect(home, sources)
        for s in read:
            self.nodes[s].readers -= 1
            if not self.nodes[s].readers:
                self.nodes[s].before = 0

    def _connect(self, home: int, sources: set[int]) -> None:
        """Note that a node, and all that must run after it, runs after ``sources``."""
        node, earlier = self.nodes[home], 0
        for s in sources - {home}:
            earlier |= self.nodes[s].before | self.nodes[s].bit
            node.sources.add(s)
            self.nodes[s].followers.add(home)
        if earlier & ~node.before:
            for waiting in self._from(home):
                if waiting.readers:
                    waiting.before |= earlier

    def _from(self, home: int) -> Iterator[_Node]:
        """A node and all that must run after it."""
        seen, stack = {home}, [home]
        while stack:
            node = self.nodes[stack.pop()]
            yield node
            stack += node.followers - seen
            seen |= node.followers

    def _joins(self, op: ACALSimOp, shape: tuple[int, ...], candidate: int, sources: set[int]) -> bool:
        node = self.nodes[candidate]
        if node.shape != shape or any(self.nodes[s].before & node.bit for s in sources - {candidate}):
            return False
        if node.code is None:
            node.code = Emitter(self.ir)
            node.code.run(node.ops[0])
        code = replace(
            node.code,
            inputs=[*node.code.inputs],
            code=[*node.code.code],
            values={**node.code.values},
            memo={**node.code.memo},
        )
        code.run(op)
        if code.finish(self._outputs([*node.ops, op])) is None:
            return False
        node.code = code
        return True

    def _outputs(self, body: list[ACALSimOp]) -> list[str]:
        """Results that somebody outside the group needs."""
        inside = {id(op) for op in body}
        return [
            name
            for op in body
            for name in op.outputs
            if name in self.escaping or not self.users[name] or any(id(u) not in inside for u in self.users[name])
        ]

    def _fused(self, node: _Node) -> ACALSimOp:
        if len(node.ops) == 1:
            return node.ops[0]
        outputs = self._outputs(node.ops)
        inputs = dict.fromkeys(n for op in node.ops for n in op.inputs if n not in node.members)
        last = node.ops[-1]
        return ACALSimOp(
            ACALSimOpType.VECTOR,
            "_".join(op.op_type.name.lower() for op in node.ops),
            list(inputs),
            outputs,
            roles=[f"inputs.{i}" for i in range(len(inputs))],
            results=list(range(len(outputs))),
            module=last.module,
            source=last.source,
            covers=tuple(dict.fromkeys(c for op in node.ops for c in op.covers)),
            body=tuple(node.ops),
        )


def _sorted(nodes: list[_Node]) -> list[_Node]:
    """Topological order that stays close to the original one.

    It is that of sweeps over the nodes, each of which takes those whose sources were taken.
    """
    sweep = [0] * len(nodes)
    missing = [len(node.sources) for node in nodes]
    ready = [i for i, count in enumerate(missing) if not count]
    for i in ready:  # grows
        for j in nodes[i].followers:
            sweep[j] = max(sweep[j], sweep[i] + (j < i))
            missing[j] -= 1
            if not missing[j]:
                ready.append(j)
    assert len(ready) == len(nodes), "a cycle among groups"
    return [nodes[i] for i in sorted(range(len(nodes)), key=lambda i: (sweep[i], i))]
