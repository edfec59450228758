"""Pointwise operators: every one is a row of a table, and a fused group of them is one VECTOR command."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, operator_of, register
from acalsim_backend.ops.lowering import Lowering, broadcast, collapse, immediate, rounded, split_rank
from acalsim_backend.program.commands import (
    MAX_VECTOR_INPUTS,
    MAX_VECTOR_INSTRUCTIONS,
    MAX_VECTOR_OUTPUTS,
    MAX_VECTOR_REGISTERS,
    Vector,
    VectorInstruction,
)
from acalsim_backend.program.enums import DType, VectorClass, VectorOp

TRANSCENDENTAL = frozenset(
    op for op in VectorOp if op.cost in (VectorClass.EXPONENTIAL, VectorClass.TRANSCENDENTAL) or op is VectorOp.HYPOT
)
"""Functions that the kernels provide in single precision only."""

HALF_TYPES = frozenset({DType.F16, DType.BF16})


_LIMITS = (MAX_VECTOR_INPUTS, MAX_VECTOR_OUTPUTS, MAX_VECTOR_INSTRUCTIONS)


@dataclass
class Emitter:
    """Builds the micro-program of one VECTOR command in SSA form; ``finish`` assigns registers.

    Values are indices into ``code``. Operands are IR tensor names.
    """

    ir: ACALSimIR
    inputs: list[str] = field(default_factory=list)
    code: list[VectorInstruction] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    memo: dict[VectorInstruction, int] = field(default_factory=dict)

    def add(self, instruction: VectorInstruction) -> int:
        """Append an instruction, or find the value of an equal one."""
        if instruction not in self.memo:
            self.memo[instruction] = len(self.code)
            self.code.append(instruction)
        return self.memo[instruction]

    def load(self, name: str) -> int:
        """Value of an IR tensor: computed in this group, or read from memory."""
        if name not in self.values:
            self.inputs.append(name)
            dtype = DTYPES[self.ir.tensors[name].dtype]
            self.values[name] = self.add(VectorInstruction(VectorOp.LOAD, dtype, 0, a=len(self.inputs) - 1))
        return self.values[name]

    def constant(self, value: float, dtype: DType) -> int:
        return self.add(VectorInstruction(VectorOp.CONST, dtype, 0, imm=immediate(value, dtype)))

    def cast(self, value: int, dtype: DType) -> int:
        """Convert; nothing to do when the value has the dtype."""
        source = self.code[value].dtype
        if source is dtype:
            return value
        return self.add(VectorInstruction(VectorOp.CAST, dtype, 0, a=value, src_dtype=source))

    def apply(self, op: VectorOp, dtype: DType, *args: int) -> int:
        """An arithmetic instruction on values of one dtype; comparisons read ``src_dtype``."""
        source = self.code[args[0]].dtype
        a, b, c = (*args, 0, 0)[:3]
        return self.add(VectorInstruction(op, dtype, 0, a, b, c, src_dtype=source))

    def choose(self, condition: int, yes: int, no: int) -> int:
        """One of two values of one dtype, by a truth."""
        dtype = self.code[yes].dtype
        return self.add(VectorInstruction(VectorOp.WHERE, dtype, 0, condition, yes, no, src_dtype=dtype))

    def operand(self, op: ACALSimOp, role: str, dtype: DType) -> int:
        """An argument, tensor or scalar, converted to ``dtype``."""
        name = op.input(role)
        if name is None:
            return self.constant(op.attrs[role], dtype)
        return self.cast(self.load(name), dtype)

    def run(self, op: ACALSimOp) -> None:
        """Emit one pointwise IR operation."""
        handler = operator_of(op)
        assert isinstance(handler, Pointwise)
        out = op.outputs[0]
        self.values[out] = self.cast(handler.emit(self, op), DTYPES[self.ir.tensors[out].dtype])

    def _last_uses(self, order: list[int], stored: list[int]) -> dict[int, int]:
        """Where in ``order`` each value is read last; behind all of it where it is stored."""
        last = {value: len(order) for value in stored}
        for position, i in enumerate(order):
            for source in self.code[i].reads:
                last[source] = max(last.get(source, 0), position)
        return last

    def finish(self, outputs: list[str]) -> list[VectorInstruction] | None:
        """Instructions with registers: LOADs, then arithmetic, then STOREs. None if the command's limits are passed."""
        order = sorted(range(len(self.code)), key=lambda i: self.code[i].op is not VectorOp.LOAD)
        stored = [self.values[name] for name in outputs]
        last = self._last_uses(order, stored)
        used = len(self.inputs), len(outputs), len(order) + len(outputs)
        if any(n > most for n, most in zip(used, _LIMITS, strict=True)):
            return None
        free = list(range(MAX_VECTOR_REGISTERS))
        register_of: dict[int, int] = {}
        program: list[VectorInstruction] = []
        for position, i in enumerate(order):
            instruction = self.code[i]
            sources = instruction.reads
            renamed = [register_of[s] for s in sources]
            if not free:
                return None
            # taken before the sources are given back: a kernel may write its result while it reads them
            register_of[i] = free.pop(0)
            for s in dict.fromkeys(sources):
                if last[s] == position:
                    free.append(register_of[s])
            if i not in last:
                free.append(register_of[i])
            free.sort()
            if sources:
                a, b, c = (*renamed, 0, 0)[:3]
                instruction = replace(instruction, a=a, b=b, c=c)
            program.append(replace(instruction, dst=register_of[i]))
        for k, value in enumerate(stored):
            program.append(VectorInstruction(VectorOp.STORE, self.code[value].dtype, k, a=register_of[value]))
        return program


Emit = Callable[[Emitter, ACALSimOp], int]


@dataclass(frozen=True)
class Pointwise(Operator):
    """An operator whose every output element depends on one element of each input."""

    promotes: ClassVar[bool] = True

    op_type: ACALSimOpType
    targets: tuple[str, ...]
    emit: Emit
    result_is_bool: bool = False

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature | None:
        """Broadcast shape; the dtype is ATen's promotion, recorded at capture."""
        dims: list[int] = []
        for name in op.inputs:
            shape = ir.tensors[name].shape
            dims = [1] * (len(shape) - len(dims)) + dims
            for i, d in enumerate(shape, len(dims) - len(shape)):
                if d != 1:
                    dims[i] = d
        return [(tuple(dims), "bool" if self.result_is_bool else ir.tensors[op.outputs[0]].dtype)]

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        emitter = Emitter(ir)
        try:
            emitter.run(op)
        except UnsupportedError as error:
            return str(error)
        if any(i.dtype is DType.F64 and i.op in TRANSCENDENTAL for i in emitter.code):
            return "the kernels have this function in single precision only"
        if any(i.dtype in HALF_TYPES and i.op is VectorOp.NEXTAFTER for i in emitter.code):
            return "the kernels have the neighbours of f32 and f64 only"
        return None

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        lower_group((op,), op.outputs, to)


class VectorGroup(Operator):
    """A fused group of pointwise operations."""

    op_type = ACALSimOpType.VECTOR
    targets = ()

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return sum(operator_of(o).flops(o, ir) for o in op.body)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        lower_group(op.body, op.outputs, to)


def compile_group(
    body: tuple[ACALSimOp, ...], outputs: list[str], ir: ACALSimIR
) -> tuple[Emitter, list[VectorInstruction] | None]:
    """The micro-program of a group, or None in its place if one VECTOR command cannot hold it."""
    emitter = Emitter(ir)
    for op in body:
        emitter.run(op)
    return emitter, emitter.finish(outputs)


def lower_group(body: tuple[ACALSimOp, ...], outputs: list[str], to: Lowering) -> None:
    """Emit the VECTOR commands of a group over its output's dims, collapsed and split to the ABI's rank."""
    emitter, code = compile_group(body, outputs, to.ir)
    if code is None:
        raise UnsupportedError(f"{'; '.join(map(str, body))}: does not fit one VECTOR command")
    dims = to.ir.tensors[outputs[0]].shape
    inputs = [broadcast(to.view(name), dims) for name in emitter.inputs]
    results = [to.define(name) for name in outputs]
    for views in split_rank(collapse([*results, *inputs])):
        to.emit(Vector.of(views[len(results) :], views[: len(results)], code))


def compute_dtype(op: ACALSimOp, ir: ACALSimIR) -> DType:
    """The dtype that the arithmetic of ``op`` runs in: its result's, or the promoted one where the result is bool."""
    out = DTYPES[ir.tensors[op.outputs[0]].dtype]
    return DTYPES[op.compute] if out is DType.BOOL and op.compute else out


# --- the table ----------------------------------------------------------------------------------------------------


def _unary(op: VectorOp) -> Emit:
    return lambda e, o: e.apply(op, dt := compute_dtype(o, e.ir), e.operand(o, "self", dt))


def _binary(op: VectorOp, left: str = "self", right: str = "other") -> Emit:
    return lambda e, o: e.apply(op, dt := compute_dtype(o, e.ir), e.operand(o, left, dt), e.operand(o, right, dt))


def _by_number(op: VectorOp) -> Emit:
    """self op other, where eager takes a single number of another dtype as it is, in f32, for the half types.

    It does so in products and quotients alone, and on the right alone: every other number is rounded to the half type
    like a tensor (PyTorch's ``mul_kernel`` and ``div_true_kernel``).
    """

    def emit(e: Emitter, o: ACALSimOp) -> int:
        dtype = compute_dtype(o, e.ir)
        if dtype not in HALF_TYPES or not _is_finer(o, "other", dtype, e.ir):
            return _binary(op)(e, o)
        left = e.cast(e.operand(o, "self", dtype), DType.F32)
        return e.cast(e.apply(op, DType.F32, left, e.operand(o, "other", DType.F32)), dtype)

    return emit


def _is_finer(o: ACALSimOp, role: str, dtype: DType, ir: ACALSimIR) -> bool:
    """Whether an argument is a single number that ``dtype`` may not hold."""
    name = o.input(role)
    if name is None:
        number: float = o.attrs[role]
        return rounded(number, dtype) != number
    return ir.tensors[name].numel == 1 and DTYPES[ir.tensors[name].dtype] is not dtype


def _scaled(op: VectorOp) -> Emit:
    """self op alpha * other, alpha rounded to the dtype.

    Eager's vector loop rounds once, after both. (Its scalar loop for half types, which does what is left over at the
    end of a row, rounds after each.) f64 has no wider type to do so in.
    """

    def emit(e: Emitter, o: ACALSimOp) -> int:
        dtype = compute_dtype(o, e.ir)
        alpha = rounded(o.attrs.get("alpha", 1), dtype)
        if alpha == 1:
            return _binary(op)(e, o)
        wide = {DType.F16: DType.F32, DType.BF16: DType.F32, DType.F32: DType.F64}.get(dtype, dtype)
        left, right = (e.cast(e.operand(o, role, dtype), wide) for role in ("self", "other"))
        return e.cast(e.apply(op, wide, left, e.apply(VectorOp.MUL, wide, right, e.constant(alpha, wide))), dtype)

    return emit


def _power(e: Emitter, o: ACALSimOp) -> int:
    """self ** exponent; where the exponent is a number, what eager computes instead (``pow_tensor_scalar_kernel``)."""
    dtype = compute_dtype(o, e.ir)
    if o.target == "aten.pow.Tensor_Scalar":
        instead = _POWERS.get(_known_exponent(o, dtype))
        if instead is not None:
            return instead(e, dtype, e.operand(o, "self", dtype))
    return _binary(VectorOp.POW, "self", "exponent")(e, o)


def _known_exponent(o: ACALSimOp, dtype: DType) -> float | None:
    """The exponent if eager has a kernel of its own for it in ``dtype``."""
    exponent = float(o.attrs["exponent"])
    if exponent in (0.0, 1.0):
        return exponent
    if dtype is DType.F16:
        return None
    if exponent in (0.5, -0.5, -1.0):
        return exponent if dtype.is_float else None
    return float(rounded(exponent, dtype))  # the others are compared after rounding


_POWERS: dict[float | None, Callable[[Emitter, DType, int], int]] = {
    0.0: lambda e, dtype, x: e.constant(1, dtype),
    1.0: lambda e, dtype, x: x,
    0.5: lambda e, dtype, x: e.apply(VectorOp.SQRT, dtype, x),
    -0.5: lambda e, dtype, x: e.apply(VectorOp.RSQRT, dtype, x),
    -1.0: lambda e, dtype, x: e.apply(VectorOp.RECIPROCAL, dtype, x),
    2.0: lambda e, dtype, x: e.apply(VectorOp.MUL, dtype, x, x),
    3.0: lambda e, dtype, x: e.apply(VectorOp.MUL, dtype, e.apply(VectorOp.MUL, dtype, x, x), x),
    -2.0: lambda e, dtype, x: e.apply(VectorOp.RECIPROCAL, dtype, e.apply(VectorOp.MUL, dtype, x, x)),
}


def _compare(op: VectorOp) -> Emit:
    def emit(e: Emitter, o: ACALSimOp) -> int:
        dtype = DTYPES[o.compute]
        return e.apply(op, DType.BOOL, e.operand(o, "self", dtype), e.operand(o, "other", dtype))

    return emit


def _truth(e: Emitter, o: ACALSimOp, role: str) -> int:
    name = o.input(role)
    if name is None:
        return e.constant(bool(o.attrs[role]), DType.BOOL)
    return e.cast(e.load(name), DType.BOOL)


def _logical(op: VectorOp) -> Emit:
    return lambda e, o: e.apply(op, DType.BOOL, _truth(e, o, "self"), _truth(e, o, "other"))


def _logical_not(e: Emitter, o: ACALSimOp) -> int:
    return e.apply(VectorOp.NOT, DType.BOOL, _truth(e, o, "self"))


def _bitwise_not(e: Emitter, o: ACALSimOp) -> int:
    dtype = compute_dtype(o, e.ir)
    value = e.operand(o, "self", dtype)
    if dtype is DType.BOOL:
        return e.apply(VectorOp.NOT, dtype, value)
    return e.apply(VectorOp.XOR, dtype, value, e.constant(-1, dtype))


def _where(e: Emitter, o: ACALSimOp) -> int:
    dtype = DTYPES[e.ir.tensors[o.outputs[0]].dtype]
    condition = _truth(e, o, "condition")
    return e.choose(condition, e.operand(o, "self", dtype), e.operand(o, "other", dtype))


def _clamp(e: Emitter, o: ACALSimOp) -> int:
    """MIN and MAX prefer the right of two equal zeros: eager the value to a number, and a tensor of bounds to it."""
    dtype = compute_dtype(o, e.ir)
    value = e.operand(o, "self", dtype)
    for role, op in (
        ("min", VectorOp.MAX),
        ("min_val", VectorOp.MAX),
        ("max", VectorOp.MIN),
        ("max_val", VectorOp.MIN),
    ):
        if o.input(role) is not None or o.attrs.get(role) is not None:
            bound = e.operand(o, role, dtype)
            pair = (value, bound) if o.target == "aten.clamp.Tensor" else (bound, value)
            value = e.apply(op, dtype, *pair)
    return value


def _divide(e: Emitter, o: ACALSimOp) -> int:
    """self / other, rounded as ``rounding_mode`` says; half types by a single number in f32, as eager does."""
    mode, dtype = o.attrs.get("rounding_mode"), compute_dtype(o, e.ir)
    if mode is None:
        return _by_number(VectorOp.DIV)(e, o)
    name = o.input("other")
    single = name is None or e.ir.tensors[name].numel == 1
    wide = DType.F32 if dtype in HALF_TYPES and single else dtype
    left, right = e.cast(e.operand(o, "self", dtype), wide), e.operand(o, "other", wide)
    if mode == "floor":
        value = e.apply(VectorOp.FLOOR_DIVIDE, wide, left, right)
    elif wide.is_float:
        value = e.apply(VectorOp.TRUNC, wide, e.apply(VectorOp.DIV, wide, left, right))
    else:
        value = e.apply(VectorOp.TRUNC_DIVIDE, wide, left, right)
    return e.cast(value, dtype)


def _unless_integer(op: VectorOp) -> Emit:
    """What rounds to integers leaves them as they are, bool included."""

    def emit(e: Emitter, o: ACALSimOp) -> int:
        value = e.operand(o, "self", dtype := compute_dtype(o, e.ir))
        return e.apply(op, dtype, value) if dtype.is_float else value

    return emit


def _round(e: Emitter, o: ACALSimOp) -> int:
    """To a number of decimals as eager: scaled, rounded to an integer and scaled back, in the element type."""
    dtype, decimals = compute_dtype(o, e.ir), o.attrs.get("decimals", 0)
    value = e.operand(o, "self", dtype)
    if not dtype.is_float:
        return value
    if decimals == 0:
        return e.apply(VectorOp.ROUND, dtype, value)
    there, back = (VectorOp.MUL, VectorOp.DIV) if decimals > 0 else (VectorOp.DIV, VectorOp.MUL)
    wide = DType.F32 if dtype in HALF_TYPES else dtype
    scale = e.constant(10.0 ** abs(decimals), wide)
    whole = e.apply(VectorOp.ROUND, wide, e.apply(there, wide, e.cast(value, wide), scale))
    return e.cast(e.apply(back, wide, whole, scale), dtype)


def _sign(e: Emitter, o: ACALSimOp) -> int:
    """1, 0 or -1; 0 of NaN."""
    dtype = compute_dtype(o, e.ir)
    value = e.operand(o, "self", dtype)
    if dtype is DType.BOOL:
        return value
    zero = e.constant(0, dtype)
    above, below = (e.cast(e.apply(op, DType.BOOL, value, zero), dtype) for op in (VectorOp.GT, VectorOp.LT))
    return e.apply(VectorOp.SUB, dtype, above, below)


def _sign_bit(e: Emitter, o: ACALSimOp) -> int:
    dtype = DTYPES[o.compute]
    value = e.operand(o, "self", dtype)
    if dtype.is_float:
        value = e.apply(VectorOp.COPYSIGN, dtype, e.constant(1, dtype), value)
    return e.apply(VectorOp.LT, DType.BOOL, value, e.constant(0, dtype))


def _is_nan(e: Emitter, o: ACALSimOp) -> int:
    value = e.operand(o, "self", DTYPES[o.compute])
    return e.apply(VectorOp.NE, DType.BOOL, value, value)


def _is_infinite(e: Emitter, o: ACALSimOp) -> int:
    dtype = DTYPES[o.compute]
    value = e.operand(o, "self", dtype)
    if not dtype.is_float:
        return e.constant(False, DType.BOOL)
    return e.apply(VectorOp.EQ, DType.BOOL, e.apply(VectorOp.ABS, dtype, value), e.constant(math.inf, dtype))


def _unless_nan(op: VectorOp, beats: VectorOp, beats_or_equals: VectorOp) -> Emit:
    """The extreme of two numbers, or the one that is a number; of equal ones the left, in bfloat16 the right."""

    def emit(e: Emitter, o: ACALSimOp) -> int:
        dtype = compute_dtype(o, e.ir)
        left, right = e.operand(o, "self", dtype), e.operand(o, "other", dtype)
        if not dtype.is_float:
            return e.apply(op, dtype, left, right)
        is_left = e.apply(beats if dtype is DType.BF16 else beats_or_equals, DType.BOOL, left, right)
        no_right = e.apply(VectorOp.NE, DType.BOOL, right, right)
        return e.choose(e.apply(VectorOp.OR, DType.BOOL, is_left, no_right), left, right)

    return emit


def _gelu(e: Emitter, o: ACALSimOp) -> int:
    dtype = compute_dtype(o, e.ir)
    op = VectorOp.GELU_TANH if o.attrs.get("approximate") == "tanh" else VectorOp.GELU
    return e.apply(op, dtype, e.operand(o, "self", dtype))


def _cast(e: Emitter, o: ACALSimOp) -> int:
    return e.operand(o, "self", DTYPES[e.ir.tensors[o.outputs[0]].dtype])


def _row(op_type: ACALSimOpType, emit: Emit, *targets: str, is_bool: bool = False) -> None:
    register(Pointwise(op_type, tuple(f"aten.{t}" for t in targets), emit, is_bool))


_T = ACALSimOpType
_V = VectorOp
_KINDS = ("Tensor", "Tensor_Scalar", "Scalar_Tensor")
_row(_T.ADD, _scaled(_V.ADD), "add.Tensor", "add.Scalar")
_row(_T.SUB, _scaled(_V.SUB), "sub.Tensor", "sub.Scalar")
_row(_T.MUL, _by_number(_V.MUL), "mul.Tensor", "mul.Scalar")
_row(_T.DIV, _divide, "div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode")
_row(_T.MINIMUM, _binary(_V.MIN), "minimum.default")
_row(_T.MAXIMUM, _binary(_V.MAX), "maximum.default")
_row(_T.POW, _power, "pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar")
for _type, _op, *_targets in (
    (_T.NEG, _V.NEG, "neg.default"),
    (_T.ABS, _V.ABS, "abs.default"),
    (_T.EXP, _V.EXP, "exp.default"),
    (_T.LOG, _V.LOG, "log.default"),
    (_T.SQRT, _V.SQRT, "sqrt.default"),
    (_T.RSQRT, _V.RSQRT, "rsqrt.default"),
    (_T.RECIPROCAL, _V.RECIPROCAL, "reciprocal.default"),
    (_T.SIN, _V.SIN, "sin.default"),
    (_T.COS, _V.COS, "cos.default"),
    (_T.ERF, _V.ERF, "erf.default"),
    (_T.EXP2, _V.EXP2, "exp2.default"),
    (_T.EXPM1, _V.EXPM1, "expm1.default"),
    (_T.LOG2, _V.LOG2, "log2.default"),
    (_T.LOG10, _V.LOG10, "log10.default"),
    (_T.LOG1P, _V.LOG1P, "log1p.default"),
    (_T.TAN, _V.TAN, "tan.default"),
    (_T.ASIN, _V.ASIN, "asin.default"),
    (_T.ACOS, _V.ACOS, "acos.default"),
    (_T.ATAN, _V.ATAN, "atan.default"),
    (_T.SINH, _V.SINH, "sinh.default"),
    (_T.COSH, _V.COSH, "cosh.default"),
    (_T.ASINH, _V.ASINH, "asinh.default"),
    (_T.ACOSH, _V.ACOSH, "acosh.default"),
    (_T.ATANH, _V.ATANH, "atanh.default"),
    (_T.ERFC, _V.ERFC, "erfc.default"),
    (_T.ERFCX, _V.ERFCX, "special_erfcx.default"),
    (_T.ERFINV, _V.ERFINV, "erfinv.default"),
    (_T.LGAMMA, _V.LGAMMA, "lgamma.default"),
    (_T.DIGAMMA, _V.DIGAMMA, "digamma.default"),
    (_T.I0, _V.I0, "i0.default"),
    (_T.I0E, _V.I0E, "special_i0e.default"),
    (_T.I1, _V.I1, "special_i1.default"),
    (_T.I1E, _V.I1E, "special_i1e.default"),
    (_T.RELU, _V.RELU, "relu.default"),
    (_T.SIGMOID, _V.SIGMOID, "sigmoid.default"),
    (_T.TANH, _V.TANH, "tanh.default"),
):
    _row(_type, _unary(_op), *_targets)
for _type, _op, *_targets in (
    (_T.FLOOR, _V.FLOOR, "floor.default"),
    (_T.CEIL, _V.CEIL, "ceil.default"),
    (_T.TRUNC, _V.TRUNC, "trunc.default"),
):
    _row(_type, _unless_integer(_op), *_targets)
_row(_T.ROUND, _round, "round.default", "round.decimals")
_row(_T.SIGN, _sign, "sign.default", "sgn.default")
_row(_T.SIGNBIT, _sign_bit, "signbit.default", is_bool=True)
_row(_T.ISNAN, _is_nan, "isnan.default", is_bool=True)
_row(_T.ISINF, _is_infinite, "isinf.default", is_bool=True)
_row(_T.FMOD, _binary(_V.FMOD), "fmod.Tensor", "fmod.Scalar")
_row(_T.REMAINDER, _binary(_V.REMAINDER), "remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
_row(_T.SHIFT_LEFT, _binary(_V.SHIFT_LEFT), *(f"bitwise_left_shift.{kind}" for kind in _KINDS))
_row(_T.SHIFT_RIGHT, _binary(_V.SHIFT_RIGHT), *(f"bitwise_right_shift.{kind}" for kind in _KINDS))
_row(_T.GCD, _binary(_V.GCD), "gcd.default")
_row(_T.COPYSIGN, _binary(_V.COPYSIGN), "copysign.Tensor", "copysign.Scalar")
_row(_T.NEXTAFTER, _binary(_V.NEXTAFTER), "nextafter.default")
_row(_T.ATAN2, _binary(_V.ATAN2), "atan2.default")
_row(_T.HYPOT, _binary(_V.HYPOT), "hypot.default")
_row(_T.FMIN, _unless_nan(_V.MIN, _V.LT, _V.LE), "fmin.default")
_row(_T.FMAX, _unless_nan(_V.MAX, _V.GT, _V.GE), "fmax.default")
_row(_T.GELU, _gelu, "gelu.default")
for _type, _op, *_targets in (
    (_T.EQ, _V.EQ, "eq.Tensor", "eq.Scalar"),
    (_T.NE, _V.NE, "ne.Tensor", "ne.Scalar"),
    (_T.LT, _V.LT, "lt.Tensor", "lt.Scalar"),
    (_T.LE, _V.LE, "le.Tensor", "le.Scalar"),
    (_T.GT, _V.GT, "gt.Tensor", "gt.Scalar"),
    (_T.GE, _V.GE, "ge.Tensor", "ge.Scalar"),
):
    _row(_type, _compare(_op), *_targets, is_bool=True)
_row(_T.LOGICAL_AND, _logical(_V.AND), "logical_and.default", is_bool=True)
_row(_T.LOGICAL_OR, _logical(_V.OR), "logical_or.default", is_bool=True)
_row(_T.LOGICAL_XOR, _logical(_V.XOR), "logical_xor.default", is_bool=True)
_row(_T.LOGICAL_NOT, _logical_not, "logical_not.default", is_bool=True)
_row(_T.BITWISE_AND, _binary(_V.AND), "bitwise_and.Tensor", "bitwise_and.Scalar")
_row(_T.BITWISE_OR, _binary(_V.OR), "bitwise_or.Tensor", "bitwise_or.Scalar")
_row(_T.BITWISE_XOR, _binary(_V.XOR), "bitwise_xor.Tensor", "bitwise_xor.Scalar")
_row(_T.BITWISE_NOT, _bitwise_not, "bitwise_not.default")
_row(_T.WHERE, _where, "where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
_row(_T.CLAMP, _clamp, "clamp.default", "clamp.Tensor", "hardtanh.default")
_row(_T.CAST, _cast, "_to_copy.default")
