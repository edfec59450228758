"""What an operator has to say of itself, and the registry that finds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from acalsim_backend.errors import ProgramError
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.program.enums import DType

if TYPE_CHECKING:
    from acalsim_backend.ops.lowering import Lowering

Signature = list[tuple[tuple[int, ...], str]]
"""Shape and dtype of every result."""

_BY_TARGET: dict[str, Operator] = {}
_BY_TYPE: dict[ACALSimOpType, Operator] = {}


class Operator(ABC):
    """One operator of the IR: ATen targets, shape rule, cost and lowering.

    Subclasses set ``op_type`` and ``targets`` and register themselves; families whose members differ in data only
    register instances.
    """

    op_type: ACALSimOpType
    targets: tuple[str, ...]
    promotes: ClassVar[bool] = False
    """Whether PyTorch promotes the tensor arguments to one dtype, kept in ``op.compute``."""
    is_view: ClassVar[bool] = False
    """Whether the result shares the memory of its input, so that nothing is executed."""
    only_moves: ClassVar[bool] = False
    """Whether it takes elements of every type as they are, so that PyTorch refuses none."""
    at_one_element: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """Arguments that belong to the extents of the operands, and what they are where all of these are 1."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "op_type" in cls.__dict__:
            register(cls())

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature | None:
        """Shapes and dtypes of ``op.outputs`` that follow from the inputs; None where ATen's are taken as they are."""
        return None

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        """Floating-point operations; by default one per element of the first output."""
        return ir.tensors[op.outputs[0]].numel if op.outputs and not self.is_view else 0

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        """Why this use of the operator cannot be lowered to commands, or None if it can."""
        return None

    @abstractmethod
    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        """Emit commands that compute ``op.outputs``."""


def register(operator: Operator) -> None:
    """Enter an operator under its IR type and its ATen targets."""
    _BY_TYPE[operator.op_type] = operator
    for target in operator.targets:
        if target in _BY_TARGET:
            raise ValueError(f"{target} is registered twice")
        _BY_TARGET[target] = operator


def operator_for(target: str) -> Operator | None:
    """The operator of an ATen overload such as "aten.add.Tensor"."""
    return _BY_TARGET.get(target)


def operator_of(op: ACALSimOp) -> Operator:
    """The operator of an IR operation."""
    return _BY_TYPE[op.op_type]


def broken_rule(op: ACALSimOp, ir: ACALSimIR) -> str | None:
    """How the recorded results of ``op`` differ from what its operator's shape rule says, or None."""
    expected = operator_of(op).infer(op, ir)
    got = [(ir.tensors[n].shape, ir.tensors[n].dtype) for n in op.outputs]
    if expected is None or got == expected:
        return None
    return f"{op} has results {got}, its operator's rule says {expected}"


def check_shapes(ir: ACALSimIR) -> None:
    """Compare every result with what its operator's shape rule says.

    Raises:
        ProgramError: a pass, or the capture, gave an operation the wrong result tensor.
    """
    for op in ir.ops:
        broken = broken_rule(op, ir)
        if broken is not None:
            raise ProgramError(f"{ir.name}: {broken}")


def dtype_of(name: str, ir: ACALSimIR) -> DType:
    """Element type of an IR tensor."""
    return DTYPES[ir.tensors[name].dtype]


def normal_axis(axis: int, rank: int) -> int:
    """A possibly negative axis as 0..rank-1."""
    return axis % rank if rank else 0


def pair(value: object) -> tuple[int, int]:
    """ATen's int[2], which may be given as one int."""
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return (int(items[0]), int(items[-1]))
