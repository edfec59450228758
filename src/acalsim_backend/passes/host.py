"""assign_host: operators that have no command become HOST operations, loudly or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops import operator_of
from acalsim_backend.ops.refusal import refusal
from acalsim_backend.passes.target import Target


def reason(op: ACALSimOp, ir: ACALSimIR) -> str | None:
    """Why an operation cannot be lowered, or None."""
    if op.op_type is ACALSimOpType.HOST:
        return "no operator of acalsim has it"
    return operator_of(op).unsupported(op, ir) or refusal(op, ir)


@dataclass(frozen=True)
class AssignHost:
    """Runs while every operation still has its ATen target and its tensor arguments."""

    name: str = "assign_host"
    after: tuple[str, ...] = ("fold_constants",)

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        """Raises UnsupportedError that lists every such operation when the target says ``fallback="error"``."""
        reasons = {i: why for i, op in enumerate(ir.ops) if (why := reason(op, ir)) is not None}
        if reasons and target.fallback == "error":
            raise UnsupportedError(
                f"{ir.name}: {len(reasons)} operation(s) cannot run on the CPU or the accelerator:\n"
                + "\n".join(f"  {fallback_text(ir.ops[i])}: {why}" for i, why in reasons.items())
                + "\nrewrite them with supported operators, or let the host run them, beside the image form: "
                'build="image", fallback="warn"'
            )
        ops = [replace(op, op_type=ACALSimOpType.HOST) if i in reasons else op for i, op in enumerate(ir.ops)]
        return replace(ir, ops=ops)


def fallback_text(op: ACALSimOp) -> str:
    """An operation with its place in the user's code."""
    return f"{op.target} ({op.source})" if op.source else op.target
