"""Operations without tensors, for IR that is written by hand."""

from __future__ import annotations

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.program.commands import Barrier


class Nop(Operator):
    """Nothing."""

    op_type = ACALSimOpType.NOP
    targets = ()

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        pass


class Sync(Nop):
    """All commands before it end before one behind it begins. Pointwise operations do not fuse across it."""

    op_type = ACALSimOpType.SYNC
    targets = ()

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        to.emit(Barrier())
