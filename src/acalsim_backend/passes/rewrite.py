"""The mechanism by which passes change operations: nothing enters an IR against its operator's rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acalsim_backend.errors import ProgramError
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops import broken_rule, operator_of


class Rewriter:
    """Collects the operations of a rewritten IR; new ones cover what the operation they stand for covers."""

    def __init__(self, ir: ACALSimIR) -> None:
        self.ir = replace(ir, tensors=dict(ir.tensors), ops=[])
        self._ops: dict[int, ACALSimOp] = {}

    def keep(self, op: ACALSimOp) -> None:
        """Append an operation of the old IR, or one that was accepted."""
        self._ops[id(op)] = op

    def objection(self, op: ACALSimOp) -> str | None:
        """Why an operation may not stand for another: its operator's shape rule does not give the recorded results, or
        it cannot be lowered."""
        return broken_rule(op, self.ir) or operator_of(op).unsupported(op, self.ir)

    def accepts(self, op: ACALSimOp) -> bool:
        """Whether there is no objection."""
        return self.objection(op) is None

    def add(self, op: ACALSimOp) -> None:
        """Append a new operation.

        Raises:
            ProgramError: it is not acceptable; a bug in the pass.
        """
        if (objection := self.objection(op)) is not None:
            raise ProgramError(f"{self.ir.name}: {op}: {objection}")
        self.keep(op)

    def drop(self, op: ACALSimOp) -> None:
        """Take an earlier operation back."""
        del self._ops[id(op)]

    def finish(self) -> ACALSimIR:
        """The rewritten IR, with tensors that nothing defines any more removed."""
        ops = list(self._ops.values())
        produced = {name for op in ops for name in op.outputs}
        tensors = {
            n: t
            for n, t in self.ir.tensors.items()
            if n in produced or t.is_input or t.is_param or n in self.ir.constants or n in self.ir.prepared
        }
        return replace(self.ir, ops=ops, tensors=tensors)

    def _add(
        self, kind: str, inputs: dict[str, str], shape: tuple[int, ...], origin: ACALSimOp, attrs: dict[str, Any],
        result: str | None = None,
    ) -> str:  # fmt: skip
        like = self.ir.tensors[next(iter(inputs.values()))]
        name = result or self.ir.fresh("t", like, shape=shape).name
        self.add(
            ACALSimOp(
                ACALSimOpType[kind],
                name,
                list(inputs.values()),
                [name],
                attrs,
                roles=list(inputs),
                results=[0],
                module=origin.module,
                source=origin.source,
                covers=origin.covers,
            )
        )
        return name

    def unary(self, kind: str, x: str, origin: ACALSimOp) -> str:
        """kind(x), shaped like x."""
        return self._add(kind, {"self": x}, self.ir.tensors[x].shape, origin, {})

    def scalar(self, kind: str, x: str, value: float, origin: ACALSimOp) -> str:
        """kind(x, value), shaped like x."""
        return self._add(kind, {"self": x}, self.ir.tensors[x].shape, origin, {"other": value})

    def binary(
        self, kind: str, x: str, y: str, shape: tuple[int, ...], origin: ACALSimOp, result: str | None = None
    ) -> str:
        """kind(x, y) with the given broadcast shape; ``result`` names an existing tensor to define."""
        return self._add(kind, {"self": x, "other": y}, shape, origin, {}, result)

    def reshape(self, x: str, shape: tuple[int, ...], origin: ACALSimOp) -> str:
        """x seen with another shape."""
        return self._add("RESHAPE", {"self": x}, shape, origin, {"size": shape})


def depends_on_weights_alone(ir: ACALSimIR) -> set[str]:
    """Parameters, constants, and every tensor computed from nothing else by the machine's own operations."""
    static = {n for n, t in ir.tensors.items() if t.is_param} | set(ir.constants) | set(ir.prepared)
    for op in ir.ops:
        if op.op_type is not ACALSimOpType.HOST and op.inputs and all(n in static for n in op.inputs):
            static.update(op.outputs)
    return static
