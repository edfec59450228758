"""VECTOR, COPY, FILL and BARRIER, and the functions that other commands apply to their results."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from acalsim_backend.device.functional.operands import Operands, computes, nothing
from acalsim_backend.device.functional.task import Task
from acalsim_backend.device.validate import CommandError
from acalsim_backend.device.vector_plan import Into, Over, Storage, plan_storage
from acalsim_backend.program.commands import Barrier, Copy, Fill, Vector, VectorInstruction
from acalsim_backend.program.enums import Activation, DType, Opcode, Status, VectorOp
from acalsim_backend.tensors import TORCH_DTYPES

_gelu: Callable[..., Tensor] = torch._C._nn.gelu  # the only name of it that takes ``out``


def relu(value: Tensor, *, out: Tensor | None = None) -> Tensor:
    """NaN stays NaN."""
    return torch.clamp_min(value, 0, out=out)


def gelu_erf(value: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x * Phi(x), Phi by erf. Of infinity it is infinity, as on the CPU and in PyTorch's scalar code; its vector code
    has NaN there."""
    if value.numel() == 0 or value.amax().isfinite():
        return _gelu(value, approximate="none", out=out)
    infinite = torch.isposinf(value)  # taken before, as ``out`` may be ``value``
    return _gelu(value, approximate="none", out=out).masked_fill_(infinite, torch.inf)


def gelu_tanh(value: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x * Phi(x), Phi by tanh."""
    return _gelu(value, approximate="tanh", out=out)


def _minimum(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The second of equal zeros: torch.minimum gives either, depending on how many elements there are."""
    return torch.minimum(a, b, out=out) if a.dim() or a.dtype is torch.bool else torch.clamp_max(b, a.item(), out=out)


def _maximum(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """As :func:`_minimum`."""
    return torch.maximum(a, b, out=out) if a.dim() or a.dtype is torch.bool else torch.clamp_min(b, a.item(), out=out)


def _dividing(function: Callable[..., Tensor], by_minus_one: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A division, whose kernel for integers raises an error without a name at 0, and ends the process where -1 divides
    the smallest one."""

    def divide(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
        if a.is_floating_point():
            return function(a, b, out=out)
        if not b.all():
            raise CommandError(Status.DIVISION, "an integer divided by 0")
        special = b == -1  # of unsigned ones 255
        if not a.dtype.is_signed or not special.any():
            return function(a, b, out=out)
        value = torch.where(special, by_minus_one(a), function(a, b.masked_fill(special, 1)))
        return value if out is None else out.copy_(value)

    return divide


def _towards_zero(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    return torch.div(a, b, rounding_mode="trunc", out=out)


ACTIVATIONS: dict[Activation, Callable[..., Tensor]] = {
    Activation.RELU: relu,
    Activation.GELU: gelu_erf,
    Activation.GELU_TANH: gelu_tanh,
    Activation.SIGMOID: torch.sigmoid,
    Activation.TANH: torch.tanh,
}

_VECTOR_FUNCTIONS: dict[VectorOp, Callable[..., Tensor]] = {
    VectorOp.ADD: torch.add,
    VectorOp.SUB: torch.sub,
    VectorOp.MUL: torch.mul,
    VectorOp.DIV: torch.div,
    VectorOp.NEG: torch.neg,
    VectorOp.ABS: torch.abs,
    VectorOp.MIN: _minimum,
    VectorOp.MAX: _maximum,
    VectorOp.RELU: relu,
    VectorOp.EXP: torch.exp,
    VectorOp.LOG: torch.log,
    VectorOp.SQRT: torch.sqrt,
    VectorOp.RSQRT: torch.rsqrt,
    VectorOp.RECIPROCAL: torch.reciprocal,
    VectorOp.TANH: torch.tanh,
    VectorOp.SIGMOID: torch.sigmoid,
    VectorOp.ERF: torch.erf,
    VectorOp.GELU: gelu_erf,
    VectorOp.GELU_TANH: gelu_tanh,
    VectorOp.POW: torch.pow,
    VectorOp.SIN: torch.sin,
    VectorOp.COS: torch.cos,
    VectorOp.FLOOR: torch.floor,
    VectorOp.CEIL: torch.ceil,
    VectorOp.EQ: torch.eq,
    VectorOp.NE: torch.ne,
    VectorOp.LT: torch.lt,
    VectorOp.LE: torch.le,
    VectorOp.GT: torch.gt,
    VectorOp.GE: torch.ge,
    VectorOp.AND: torch.bitwise_and,
    VectorOp.OR: torch.bitwise_or,
    VectorOp.XOR: torch.bitwise_xor,
    VectorOp.NOT: torch.bitwise_not,
    VectorOp.WHERE: torch.where,
    VectorOp.TRUNC: torch.trunc,
    VectorOp.ROUND: torch.round,
    VectorOp.FMOD: _dividing(torch.fmod, torch.zeros_like),
    VectorOp.REMAINDER: _dividing(torch.remainder, torch.zeros_like),
    VectorOp.FLOOR_DIVIDE: _dividing(torch.floor_divide, torch.neg),
    VectorOp.TRUNC_DIVIDE: _dividing(_towards_zero, torch.neg),
    VectorOp.SHIFT_LEFT: torch.bitwise_left_shift,
    VectorOp.SHIFT_RIGHT: torch.bitwise_right_shift,
    VectorOp.GCD: torch.gcd,
    VectorOp.COPYSIGN: torch.copysign,
    VectorOp.NEXTAFTER: torch.nextafter,
    VectorOp.HYPOT: torch.hypot,
    VectorOp.EXP2: torch.exp2,
    VectorOp.EXPM1: torch.expm1,
    VectorOp.LOG2: torch.log2,
    VectorOp.LOG10: torch.log10,
    VectorOp.LOG1P: torch.log1p,
    VectorOp.TAN: torch.tan,
    VectorOp.ASIN: torch.asin,
    VectorOp.ACOS: torch.acos,
    VectorOp.ATAN: torch.atan,
    VectorOp.SINH: torch.sinh,
    VectorOp.COSH: torch.cosh,
    VectorOp.ASINH: torch.asinh,
    VectorOp.ACOSH: torch.acosh,
    VectorOp.ATANH: torch.atanh,
    VectorOp.ERFC: torch.erfc,
    VectorOp.ERFCX: torch.special.erfcx,
    VectorOp.ERFINV: torch.erfinv,
    VectorOp.LGAMMA: torch.lgamma,
    VectorOp.DIGAMMA: torch.digamma,
    VectorOp.I0: torch.i0,
    VectorOp.I0E: torch.special.i0e,
    VectorOp.I1: torch.special.i1,
    VectorOp.I1E: torch.special.i1e,
    VectorOp.ATAN2: torch.atan2,
}


@computes(Opcode.VECTOR)
def vector(command: Vector, operands: Operands) -> Task:
    """The micro-program, an instruction after the other over the whole iteration space."""
    inputs = [operands.read_distinct(v) for v in command.inputs]
    outputs = [operands.write(v) for v in command.outputs]
    registers: dict[int, Tensor] = {}
    steps = [
        step
        for instruction, storage in zip(command.instructions, plan_storage(command), strict=True)
        if (step := _step(instruction, storage, registers, inputs, outputs)) is not None
    ]

    def run() -> None:
        for step in steps:
            step()
        registers.clear()

    return run


def _step(
    i: VectorInstruction,
    storage: Storage | None,
    registers: dict[int, Tensor],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> Task | None:
    """One micro-instruction over the whole iteration space; None where there is nothing to do."""
    dst = i.dst
    if i.op is VectorOp.LOAD or i.op is VectorOp.CONST:
        value = inputs[i.a] if i.op is VectorOp.LOAD else _scalar(i.imm, i.dtype)
        if storage is None:
            return lambda: registers.__setitem__(dst, value)
        return lambda: registers.__setitem__(dst, value.clone())
    if i.op is VectorOp.STORE:
        a, out = i.a, outputs[dst]
        return None if storage is None else lambda: out.copy_(registers[a])
    if i.op is VectorOp.CAST:
        return _cast_step(i, storage, registers, outputs)
    function, read = _VECTOR_FUNCTIONS[i.op], i.reads

    def run() -> None:
        out = None
        if isinstance(storage, Into):
            out = outputs[storage.output]
        elif isinstance(storage, Over):
            out = registers[storage.register]
        registers[dst] = function(*[registers[r] for r in read], out=out)

    return run


def _cast_step(
    i: VectorInstruction, storage: Storage | None, registers: dict[int, Tensor], outputs: Sequence[Tensor]
) -> Task:
    a, dst, dtype = i.a, i.dst, TORCH_DTYPES[i.dtype]
    if isinstance(storage, Into):
        out = outputs[storage.output]
        return lambda: registers.__setitem__(dst, out.copy_(registers[a]))
    return lambda: registers.__setitem__(dst, registers[a].to(dtype, copy=True))


def _scalar(bits: int, dtype: DType) -> Tensor:
    """A 0-dimensional tensor from the bits of an f64 or i64."""
    value = struct.unpack("<d" if dtype.is_float else "<q", bits.to_bytes(8, "little"))[0]
    return torch.tensor(value, dtype=torch.float64 if dtype.is_float else torch.int64).to(TORCH_DTYPES[dtype])


@computes(Opcode.COPY)
def copy(command: Copy, operands: Operands) -> Task:
    """Elements as they are."""
    x, out = operands.read(command.x), operands.write(command.out)
    return lambda: out.copy_(x)


@computes(Opcode.FILL)
def fill(command: Fill, operands: Operands) -> Task:
    """One value everywhere."""
    out, value = operands.write(command.out), _scalar(command.value, command.out.dtype)
    return lambda: out.copy_(value)


@computes(Opcode.BARRIER)
def barrier(command: Barrier, operands: Operands) -> Task:
    """Nothing: commands are executed in order."""
    return nothing
