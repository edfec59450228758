"""fuse_pointwise: neighbouring pointwise operations of one shape become one VECTOR command.

An operation joins the group of one of its producers when the command's limits allow it and no path leaves the group
and comes back. Groups are merged greedily in execution order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops import operator_of
from acalsim_backend.ops.vector import Pointwise, compile_group
from acalsim_backend.passes.target import Target


@dataclass
class _Node:
    """A group (or a single other operation); ``before`` is the bit set of nodes that must run earlier."""

    ops: list[ACALSimOp]
    shape: tuple[int, ...] | None
    before: int = 0
    members: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class FusePointwise:
    """Keeps the order of everything that is not fused."""

    name: str = "fuse_pointwise"

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        users, escaping = ir.users(), ir.escaping()
        nodes: list[_Node] = []
        owner: dict[str, int] = {}
        for op in ir.ops:
            sources = {owner[n] for n in op.inputs if n in owner}
            shape = ir.tensors[op.outputs[0]].shape if isinstance(operator_of(op), Pointwise) else None
            home = None
            if shape is not None:
                for candidate in sorted(sources, reverse=True):
                    if _joins(op, shape, candidate, nodes, sources, ir, users, escaping):
                        home = candidate
                        break
            if home is None:
                nodes.append(_Node([], shape))
                home = len(nodes) - 1
            node = nodes[home]
            node.ops.append(op)
            node.members.update(op.outputs)
            earlier = node.before
            for s in sources - {home}:
                earlier |= nodes[s].before | 1 << s
            if earlier != node.before:
                node.before = earlier
                for other in nodes:  # whoever waits for this node now waits for its new predecessors too
                    if other.before >> home & 1:
                        other.before |= earlier
            owner.update(dict.fromkeys(op.outputs, home))
        return replace(ir, ops=[_fused(node, users, escaping) for node in _sorted(nodes)])


def _joins(
    op: ACALSimOp,
    shape: tuple[int, ...],
    candidate: int,
    nodes: list[_Node],
    sources: set[int],
    ir: ACALSimIR,
    users: dict[str, list[ACALSimOp]],
    escaping: set[str],
) -> bool:
    node = nodes[candidate]
    if node.shape != shape or any(nodes[s].before >> candidate & 1 for s in sources - {candidate}):
        return False
    body = (*node.ops, op)
    outputs = _outputs(body, users, escaping)
    return compile_group(body, outputs, ir)[1] is not None


def _outputs(body: tuple[ACALSimOp, ...], users: dict[str, list[ACALSimOp]], escaping: set[str]) -> list[str]:
    """Results that somebody outside the group needs."""
    inside = {id(op) for op in body}
    return [
        name
        for op in body
        for name in op.outputs
        if name in escaping or not users[name] or any(id(u) not in inside for u in users[name])
    ]


def _fused(node: _Node, users: dict[str, list[ACALSimOp]], escaping: set[str]) -> ACALSimOp:
    if len(node.ops) == 1:
        return node.ops[0]
    outputs = _outputs(tuple(node.ops), users, escaping)
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
    """Topological order that stays close to the original one."""
    done = 0
    order: list[_Node] = []
    waiting = list(enumerate(nodes))
    while waiting:
        rest = []
        for index, node in waiting:
            if node.before & ~done:
                rest.append((index, node))
            else:
                order.append(node)
                done |= 1 << index
        assert len(rest) < len(waiting), "a cycle among groups"
        waiting = rest
    return order
