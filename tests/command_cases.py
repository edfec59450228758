"""One case per thing a command can do, each with the result that PyTorch's own operators give for it."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nn

from acalsim_backend.program.commands import (
    Barrier,
    Command,
    Conv2d,
    Copy,
    Fill,
    Gather,
    Gemm,
    Norm,
    Pool2d,
    Reduce,
    Scan,
    Scatter,
    Softmax,
    Sort,
    Vector,
    VectorInstruction,
)
from acalsim_backend.program.enums import Activation, DType, Placement, PoolMode, ReduceOp, ScanOp, ScatterOp, VectorOp
from acalsim_backend.program.program import Origin, Program, Tensor, TensorKind
from acalsim_backend.program.view import View
from acalsim_backend.tensors import TORCH_DTYPES

Bytes = np.ndarray
DTYPES = {torch_dtype: dtype for dtype, torch_dtype in TORCH_DTYPES.items()}


def raw(tensor: torch.Tensor) -> Bytes:
    """The bytes of a dense tensor."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().copy()


@dataclass
class Case:
    """Commands on drafted tensors, their input values and what the outputs must hold afterwards."""

    name: str
    seed: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    values: dict[int, Bytes] = field(default_factory=dict)
    views: dict[int, View] = field(default_factory=dict)  # where each expected result stands
    expected: dict[int, torch.Tensor] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        self.rng = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + self.seed)

    def rand(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Random values that suit a data type."""
        if dtype is torch.bool:
            return torch.rand(shape, generator=self.rng) < 0.5
        if dtype.is_floating_point:
            return torch.randn(shape, generator=self.rng, dtype=torch.float64).to(dtype)
        low = 0 if dtype is torch.uint8 else -100
        return torch.randint(low, 100, shape, generator=self.rng).to(dtype)

    def _add(self, dtype: DType, elements: int, kind: TensorKind) -> int:
        number = len(self.tensors)
        self.tensors.append(Tensor(number, f"t_{number}", kind, dtype, (elements,)))
        return number

    def read(self, tensor: torch.Tensor) -> View:
        """An input; its whole storage is uploaded, so that any strides stay what they are."""
        storage = torch.as_strided(tensor, (tensor.untyped_storage().nbytes() // tensor.itemsize,), (1,), 0)
        number = self._add(DTYPES[tensor.dtype], storage.numel(), TensorKind.INPUT)
        self.values[number] = raw(storage)
        offset = tensor.storage_offset() * tensor.itemsize
        return View(number, DTYPES[tensor.dtype], tuple(tensor.shape), tensor.stride(), int(offset))

    def write(self, expected: torch.Tensor, order: Sequence[int] | None = None) -> View:
        """An output with its expected contents; ``order`` lists its axes from outermost to innermost in memory."""
        order = range(expected.dim()) if order is None else order
        strides = torch.empty([expected.shape[i] for i in order], device="meta").stride()
        by_axis = dict(zip(order, strides, strict=True))
        number = self._add(DTYPES[expected.dtype], expected.numel(), TensorKind.OUTPUT)
        view = View(
            number,
            DTYPES[expected.dtype],
            tuple(expected.shape),
            tuple(by_axis[i] for i in range(expected.dim())),
        )
        self.expected[number], self.views[number] = expected, view
        return view

    def scratch(self, elements: int) -> View:
        """i64 memory for a command to work in; what it holds is nobody's business."""
        return View(self._add(DType.I64, elements, TensorKind.OUTPUT), DType.I64, (elements,), (1,))

    def program(self, placement: Placement = Placement.CPU) -> Program:
        """The case as a Program with all commands in one place."""
        origins = tuple(
            Origin(i, f"{self.name} #{i}", "TEST", source=f"model.py:{i + 1}") for i in range(len(self.commands))
        )
        commands = [_placed(c, i, placement) for i, c in enumerate(self.commands)]
        inputs = tuple(t.id for t in self.tensors if t.kind is TensorKind.INPUT)
        outputs = tuple(t.id for t in self.tensors if t.kind is TensorKind.OUTPUT)
        return Program(self.name, tuple(self.tensors), tuple(commands), inputs, outputs, origins=origins)

    def check(self, outputs: dict[int, Bytes]) -> None:
        """Compare raw output bytes with what is expected."""
        for number, expected in self.expected.items():
            view = self.views[number]
            if expected.numel() == 0:  # which torch cannot reinterpret
                assert len(outputs[number]) == 0
                continue
            dense = torch.from_numpy(np.array(outputs[number])).view(expected.dtype)
            got = torch.as_strided(dense, view.dims, view.strides)
            torch.testing.assert_close(got, expected, rtol=self.rtol, atol=self.atol, equal_nan=True, msg=self._message)

    def _message(self, text: str) -> str:
        return f"{self.name}: {text}"


def _placed(command: Command, index: int, placement: Placement) -> Command:
    deps = (index - 1,) if index else ()
    return dataclasses.replace(command, id=index, placement=placement, origin=(index, 1), deps=deps)


# --- VECTOR -------------------------------------------------------------------------------------------------------


def bits(value: float, dtype: DType) -> int:
    """Immediate of a CONST or FILL."""
    packed = struct.pack("<d", value) if dtype.is_float else struct.pack("<q", int(value))
    return int.from_bytes(packed, "little")


class Micro:
    """Writes micro-programs: every method emits an instruction and returns the register it writes."""

    def __init__(self) -> None:
        self.code: list[VectorInstruction] = []
        self.inputs: list[View] = []
        self.outputs: list[View] = []
        self._stores: list[VectorInstruction] = []
        self._next = 0
        self._types: dict[int, DType] = {}

    def _emit(self, op: VectorOp, dtype: DType, a: int = 0, b: int = 0, c: int = 0, **more: Any) -> int:
        register, self._next = self._next, self._next + 1
        self.code.append(VectorInstruction(op, dtype, register, a, b, c, **more))
        self._types[register] = dtype
        return register

    def load(self, view: View) -> int:
        self.inputs.append(view)
        return self._emit(VectorOp.LOAD, view.dtype, len(self.inputs) - 1)

    def const(self, value: float, dtype: DType) -> int:
        return self._emit(VectorOp.CONST, dtype, imm=bits(value, dtype))

    def cast(self, a: int, dtype: DType) -> int:
        return self._emit(VectorOp.CAST, dtype, a, src_dtype=self._types[a])

    def op(self, op: VectorOp, *args: int) -> int:
        if VectorOp.EQ <= op <= VectorOp.GE:
            return self._emit(op, DType.BOOL, *args, src_dtype=self._types[args[0]])
        return self._emit(op, self._types[args[-1]], *args)

    def store(self, a: int, view: View) -> None:
        self._stores.append(VectorInstruction(VectorOp.STORE, view.dtype, len(self.outputs), a))
        self.outputs.append(view)

    def command(self) -> Vector:
        return Vector.of(self.inputs, self.outputs, self.code + self._stores)


def elementwise(case: Case, op: VectorOp, *tensors: torch.Tensor, expected: torch.Tensor) -> None:
    """One operation on whole tensors, broadcast to the shape of the result."""
    micro = Micro()
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))
    registers = [micro.load(case.read(t.expand(shape))) for t in tensors]
    micro.store(micro.op(op, *registers), case.write(expected))
    case.commands.append(micro.command())


# --- the list -----------------------------------------------------------------------------------------------------

CASES: dict[str, Callable[[Case], None]] = {}


def _case(fn: Callable[[Case], None]) -> Callable[[Case], None]:
    CASES[fn.__name__] = fn
    return fn


def make(name: str, seed: int = 0) -> Case:
    case = Case(name, seed)
    CASES[name](case)
    return case


@_case
def gemm_plain(c: Case) -> None:
    a, b = c.rand(13, 21), c.rand(21, 18)
    c.commands.append(Gemm(c.read(a), c.read(b), c.write(a @ b)))


@_case
def gemm_transposed_with_bias_and_relu(c: Case) -> None:
    a, w, bias = c.rand(7, 33), c.rand(19, 33), c.rand(19)
    out = c.write(nn.relu(nn.linear(a, w, bias)))
    c.commands.append(Gemm(c.read(a), c.read(w.t()), out, c.read(bias.expand(7, 19)), activation=Activation.RELU))


@_case
def gemm_single_row(c: Case) -> None:
    a, w = c.rand(1, 65), c.rand(35, 65)
    c.commands.append(Gemm(c.read(a), c.read(w.t()), c.write(a @ w.t())))


@_case
def gemm_scaled_by_alpha_and_beta(c: Case) -> None:
    a, b, bias = c.rand(5, 8), c.rand(8, 6), c.rand(5, 6)
    out = c.write(torch.addmm(bias, a, b, beta=-0.5, alpha=2.0))
    c.commands.append(Gemm(c.read(a), c.read(b), out, c.read(bias), alpha=2.0, beta=-0.5))


@_case
def gemm_whose_product_counts_for_nothing(c: Case) -> None:
    a, b, bias = c.rand(5, 8) / 0, c.rand(8, 6), c.rand(5, 6)
    out = c.write(torch.addmm(bias, a, b, alpha=0))
    c.commands.append(Gemm(c.read(a), c.read(b), out, c.read(bias), alpha=0.0))


@_case
def gemm_whose_bias_counts_for_nothing(c: Case) -> None:
    a, b, bias = c.rand(5, 8), c.rand(8, 6), c.rand(5, 6) / 0
    out = c.write(torch.addmm(bias, a, b, beta=0))
    c.commands.append(Gemm(c.read(a), c.read(b), out, c.read(bias), beta=0.0))


@_case
def gemm_heads_of_attention(c: Case) -> None:
    q, k = (c.rand(2, 5, 3, 8).permute(0, 2, 1, 3) for _ in range(2))
    out = c.write(q @ k.transpose(-1, -2) * 0.25)
    c.commands.append(Gemm(c.read(q), c.read(k.transpose(-1, -2)), out, alpha=0.25))


@_case
def gemm_batch_into_permuted_output(c: Case) -> None:
    p, v = c.rand(2, 3, 5, 5), c.rand(2, 5, 3, 4).permute(0, 2, 1, 3)
    c.commands.append(Gemm(c.read(p), c.read(v), c.write(p @ v, order=(0, 2, 1, 3))))


@_case
def gemm_one_matrix_for_a_batch(c: Case) -> None:
    a, w, bias = c.rand(3, 4, 6), c.rand(6, 5), c.rand(5)
    out = c.write(nn.gelu(a @ w + bias))
    views = c.read(a), c.read(w.expand(3, 6, 5)), out, c.read(bias.expand(3, 4, 5))
    c.commands.append(Gemm(*views, activation=Activation.GELU))


@_case
def gemm_bfloat16(c: Case) -> None:
    c.rtol, c.atol = 1.6e-2, 1e-2
    a, b = c.rand(9, 40, dtype=torch.bfloat16), c.rand(40, 11, dtype=torch.bfloat16)
    c.commands.append(Gemm(c.read(a), c.read(b), c.write((a.float() @ b.float()).bfloat16())))


@_case
def gemm_float16_to_float32(c: Case) -> None:
    a, b = c.rand(9, 40, dtype=torch.float16), c.rand(40, 11, dtype=torch.float16)
    c.commands.append(Gemm(c.read(a), c.read(b), c.write(a.float() @ b.float())))


@_case
def gemm_float64(c: Case) -> None:
    c.rtol = c.atol = 1e-12
    a, b = c.rand(9, 40, dtype=torch.float64), c.rand(40, 11, dtype=torch.float64)
    c.commands.append(Gemm(c.read(a), c.read(b), c.write(a @ b)))


@_case
def gemm_int8_to_int32(c: Case) -> None:
    a, b = c.rand(9, 40, dtype=torch.int8), c.rand(40, 11, dtype=torch.int8)
    bias = c.rand(9, 11, dtype=torch.int32)
    out = c.write((a.long() @ b.long() + bias).int())
    c.commands.append(Gemm(c.read(a), c.read(b), out, c.read(bias)))


@_case
def gemm_int64_wraps(c: Case) -> None:
    a, b = c.rand(4, 8, dtype=torch.int64) << 58, c.rand(8, 4, dtype=torch.int64)
    c.commands.append(Gemm(c.read(a), c.read(b), c.write(a @ b)))


@_case
def gemm_of_nothing_is_the_bias(c: Case) -> None:
    bias = c.rand(3, 4)
    c.commands.append(Gemm(c.read(torch.zeros(3, 0)), c.read(torch.zeros(0, 4)), c.write(bias.clone()), c.read(bias)))


def _conv(
    c: Case,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: Activation = Activation.NONE,
    result: torch.Tensor | None = None,
    **attributes: Any,
) -> None:
    expected = nn.conv2d(x, w, bias, **attributes) if result is None else result
    expected = nn.relu(expected) if activation is Activation.RELU else expected
    pairs: dict[str, Any] = {k: v if k == "groups" or isinstance(v, tuple) else (v, v) for k, v in attributes.items()}
    views = c.read(x), c.read(w), c.write(expected), None if bias is None else c.read(bias)
    c.commands.append(Conv2d(*views, activation=activation, **pairs))


@_case
def conv2d_padded_with_bias_and_relu(c: Case) -> None:
    _conv(c, c.rand(2, 5, 9, 8), c.rand(7, 5, 3, 3), c.rand(7), Activation.RELU, padding=1)


@_case
def conv2d_strided(c: Case) -> None:
    _conv(c, c.rand(1, 3, 17, 19), c.rand(8, 3, 7, 7), padding=3, stride=2)


@_case
def conv2d_pointwise_of_a_window(c: Case) -> None:
    _conv(c, c.rand(1, 6, 10, 12)[:, 1:5, ::2, 3:], c.rand(3, 4, 1, 1))


@_case
def conv2d_in_groups_with_dilation(c: Case) -> None:
    _conv(c, c.rand(2, 6, 11, 9), c.rand(4, 3, 3, 2), groups=2, dilation=(2, 1), padding=(2, 0))


@_case
def conv2d_depthwise(c: Case) -> None:
    _conv(c, c.rand(1, 8, 10, 10), c.rand(8, 1, 3, 3), c.rand(8), groups=8, padding=1)


@_case
def conv2d_padded_only_below_and_right(c: Case) -> None:
    x, w = c.rand(1, 3, 8, 8), c.rand(4, 3, 3, 3)
    _conv(c, x, w, stride=2, result=nn.conv2d(nn.pad(x, (0, 1, 0, 1)), w, stride=2))


@_case
def conv2d_that_ignores_the_last_rows(c: Case) -> None:
    x, w = c.rand(1, 2, 12, 12), c.rand(3, 2, 3, 3)
    _conv(c, x, w, padding=1, result=nn.conv2d(x, w, padding=1)[:, :, :7, :6])


@_case
def conv2d_bfloat16(c: Case) -> None:
    c.rtol, c.atol = 1.6e-2, 3e-2
    x, w = c.rand(1, 4, 6, 6, dtype=torch.bfloat16), c.rand(3, 4, 3, 3, dtype=torch.bfloat16)
    _conv(c, x, w, result=nn.conv2d(x.float(), w.float()).bfloat16())


@_case
def conv2d_int8_to_int32(c: Case) -> None:
    x, w = c.rand(1, 4, 6, 7, dtype=torch.int8), c.rand(3, 4, 3, 3, dtype=torch.int8)
    bias = c.rand(3, dtype=torch.int32)
    result = nn.conv2d(x.double(), w.double(), bias.double(), padding=1).int()
    _conv(c, x, w, bias, padding=1, result=result)


@_case
def conv2d_int64(c: Case) -> None:
    x, w = c.rand(2, 4, 6, 7, dtype=torch.int64), c.rand(6, 2, 3, 3, dtype=torch.int64)
    result = nn.conv2d(x.double(), w.double(), padding=1, stride=2, groups=2).long()
    _conv(c, x, w, padding=1, stride=2, groups=2, result=result)


@_case
def vector_add_broadcast(c: Case) -> None:
    a, b = c.rand(3, 40, 7), c.rand(40, 1)
    elementwise(c, VectorOp.ADD, a, b, expected=a + b)


@_case
def vector_chain_of_rows(c: Case) -> None:
    x, scale, shift, rest = c.rand(2, 5, 300), c.rand(5, 1), c.rand(5, 1), c.rand(2, 5, 300)
    m = Micro()
    r = [m.load(c.read(t.expand(2, 5, 300))) for t in (x, scale, shift, rest)]
    y = m.op(VectorOp.ADD, m.op(VectorOp.MUL, r[0], r[1]), r[2])
    m.store(m.op(VectorOp.RELU, m.op(VectorOp.ADD, y, r[3])), c.write(nn.relu(x * scale + shift + rest)))
    c.commands.append(m.command())


@_case
def vector_several_outputs(c: Case) -> None:
    a, b = c.rand(70), c.rand(70)
    m = Micro()
    ra, rb = m.load(c.read(a)), m.load(c.read(b))
    total, product = m.op(VectorOp.ADD, ra, rb), m.op(VectorOp.MUL, ra, rb)
    m.store(m.op(VectorOp.SUB, total, product), c.write(a + b - a * b))
    m.store(total, c.write(a + b))
    m.store(product, c.write(a * b))
    m.store(total, c.write(a + b))
    c.commands.append(m.command())


@_case
def vector_into_permuted_output(c: Case) -> None:
    a, b = c.rand(4, 6, 5).permute(2, 0, 1), c.rand(5, 4, 6)
    m = Micro()
    value = m.op(VectorOp.SUB, m.load(c.read(a)), m.load(c.read(b)))
    m.store(value, c.write(a - b, order=(1, 2, 0)))
    c.commands.append(m.command())


@_case
def vector_reversed_input(c: Case) -> None:
    a = c.rand(6, 9)
    view = c.read(a)
    backwards = View(view.tensor, view.dtype, view.dims, (-9, -1), 4 * 53)
    m = Micro()
    m.store(m.op(VectorOp.NEG, m.load(backwards)), c.write(-a.flip(0, 1)))
    c.commands.append(m.command())


@_case
def vector_where_and_comparisons(c: Case) -> None:
    a, b = c.rand(50, dtype=torch.int32), c.rand(50, dtype=torch.int32)
    a[:5] = b[:5]
    m = Micro()
    ra, rb = m.load(c.read(a)), m.load(c.read(b))
    comparisons = [m.op(op, ra, rb) for op in (VectorOp.LT, VectorOp.GE, VectorOp.EQ)]
    either = m.op(VectorOp.XOR, m.op(VectorOp.OR, comparisons[0], comparisons[2]), comparisons[1])
    m.store(m.op(VectorOp.WHERE, comparisons[0], ra, rb), c.write(torch.where(a < b, a, b)))
    m.store(m.op(VectorOp.NOT, either), c.write(~(((a < b) | (a == b)) ^ (a >= b))))
    c.commands.append(m.command())


@_case
def vector_rounds_after_every_instruction(c: Case) -> None:
    c.rtol = c.atol = 0.0
    a, b, d = (c.rand(200, dtype=torch.bfloat16) for _ in range(3))
    m = Micro()
    ra, rb, rd = (m.load(c.read(t)) for t in (a, b, d))
    m.store(m.op(VectorOp.ADD, m.op(VectorOp.MUL, ra, rb), rd), c.write(a * b + d))
    c.commands.append(m.command())


@_case
def vector_casts(c: Case) -> None:
    c.rtol = c.atol = 0.0
    x = c.rand(100) * 50
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool):
        m = Micro()
        m.store(m.cast(m.load(c.read(x)), DTYPES[dtype]), c.write(x.to(dtype)))
        c.commands.append(m.command())


@_case
def vector_integers_wrap(c: Case) -> None:
    a, b = c.rand(64, dtype=torch.int8), c.rand(64, dtype=torch.int8)
    m = Micro()
    ra, rb = m.load(c.read(a)), m.load(c.read(b))
    value = m.op(VectorOp.ADD, m.op(VectorOp.MUL, ra, rb), m.const(77, DType.I8))
    m.store(m.op(VectorOp.MAX, value, m.op(VectorOp.ABS, ra)), c.write(torch.maximum(a * b + 77, a.abs())))
    c.commands.append(m.command())


@_case
def vector_constants(c: Case) -> None:
    a = c.rand(3, 17)
    m = Micro()
    x = m.load(c.read(a))
    half = m.const(0.5, DType.F32)
    m.store(m.op(VectorOp.MUL, m.op(VectorOp.SUB, m.const(1, DType.F32), x), half), c.write((1 - a) * 0.5))
    m.store(m.op(VectorOp.ADD, half, m.const(1, DType.F32)), c.write(torch.full((3, 17), 1.5)))
    c.commands.append(m.command())


@_case
def vector_scalar(c: Case) -> None:
    a, b = c.rand(), c.rand()
    elementwise(c, VectorOp.DIV, a, b, expected=a / b)


@_case
def vector_propagates_nan(c: Case) -> None:
    a = torch.tensor([float("nan"), 1.0, float("-inf"), 2.0, float("nan")])
    b = torch.tensor([1.0, float("nan"), 3.0, float("inf"), float("nan")])
    for op, expected in (
        (VectorOp.MIN, torch.minimum(a, b)),
        (VectorOp.MAX, torch.maximum(a, b)),
        (VectorOp.LE, a <= b),
        (VectorOp.NE, a != b),
    ):
        elementwise(c, op, a, b, expected=expected)
    elementwise(c, VectorOp.RELU, a, expected=nn.relu(a))


_FUNCTIONS: dict[VectorOp, Callable[[torch.Tensor], torch.Tensor]] = {
    VectorOp.EXP: torch.exp,
    VectorOp.LOG: lambda x: torch.log(x.abs()),
    VectorOp.SQRT: lambda x: torch.sqrt(x.abs()),
    VectorOp.RSQRT: lambda x: torch.rsqrt(x.abs()),
    VectorOp.RECIPROCAL: torch.reciprocal,
    VectorOp.TANH: torch.tanh,
    VectorOp.SIGMOID: torch.sigmoid,
    VectorOp.ERF: torch.erf,
    VectorOp.GELU: nn.gelu,
    VectorOp.GELU_TANH: lambda x: nn.gelu(x, approximate="tanh"),
    VectorOp.SIN: torch.sin,
    VectorOp.COS: torch.cos,
    VectorOp.FLOOR: torch.floor,
    VectorOp.CEIL: torch.ceil,
    VectorOp.ROUND: torch.round,
    VectorOp.EXPM1: torch.expm1,
    VectorOp.LOG1P: lambda x: torch.log1p(x.abs()),
    VectorOp.TAN: torch.tan,
    VectorOp.ATAN: torch.atan,
    VectorOp.SINH: torch.sinh,
    VectorOp.ERFC: torch.erfc,
    VectorOp.I0E: torch.special.i0e,
    VectorOp.LGAMMA: lambda x: torch.lgamma(x.abs()),
    VectorOp.DIGAMMA: lambda x: torch.digamma(x.abs()),
}


@_case
def vector_functions(c: Case) -> None:
    x = c.rand(260) * 3
    for op, function in _FUNCTIONS.items():
        m = Micro()
        value = m.load(c.read(x))
        if op in (VectorOp.LOG, VectorOp.SQRT, VectorOp.RSQRT, VectorOp.LOG1P, VectorOp.LGAMMA, VectorOp.DIGAMMA):
            value = m.op(VectorOp.ABS, value)
        m.store(m.op(op, value), c.write(function(x)))
        c.commands.append(m.command())


@_case
def vector_power(c: Case) -> None:
    a, b = c.rand(100).abs(), c.rand(100)
    elementwise(c, VectorOp.POW, a, b, expected=a**b)


@_case
def vector_divisions(c: Case) -> None:
    a, b = c.rand(100) * 9, c.rand(100)
    elementwise(c, VectorOp.REMAINDER, a, b, expected=torch.remainder(a, b))
    elementwise(c, VectorOp.FLOOR_DIVIDE, a, b, expected=torch.floor_divide(a, b))
    i, j = c.rand(100, dtype=torch.int32), c.rand(100, dtype=torch.int32)
    j = torch.where(j == 0, 3, j)
    elementwise(c, VectorOp.FLOOR_DIVIDE, i, j, expected=i // j)
    elementwise(c, VectorOp.FMOD, i, j, expected=torch.fmod(i, j))
    elementwise(c, VectorOp.SHIFT_RIGHT, i, j.abs() % 40, expected=i >> (j.abs() % 40))


def _reduce(c: Case, x: torch.Tensor, op: ReduceOp, axes: Sequence[int], expected: torch.Tensor) -> None:
    c.commands.append(Reduce(c.read(x), c.write(expected), op=op, axes=sum(1 << a for a in axes)))


@_case
def reduce_sums_and_means(c: Case) -> None:
    x = c.rand(3, 5, 70)
    for axes in ([2], [0, 2], [1], [0, 1, 2]):
        _reduce(c, x, ReduceOp.SUM, axes, x.sum(axes, keepdim=True))
        _reduce(c, x, ReduceOp.MEAN, axes, x.mean(axes, keepdim=True))


@_case
def reduce_extremes_of_permuted(c: Case) -> None:
    x = c.rand(4, 6, 9).permute(1, 2, 0)
    x[2, 3, 1] = float("nan")
    _reduce(c, x, ReduceOp.MAX, [1], x.amax(1, keepdim=True))
    _reduce(c, x, ReduceOp.MIN, [0, 2], x.amin((0, 2), keepdim=True))


@_case
def reduce_products(c: Case) -> None:
    x, i = c.rand(4, 6, 9), c.rand(3, 40, dtype=torch.int8)
    _reduce(c, x, ReduceOp.PROD, [1], x.prod(1, keepdim=True))
    _reduce(c, i, ReduceOp.PROD, [1], i.prod(1, keepdim=True))


@_case
def reduce_finds_the_first_extreme(c: Case) -> None:
    x = c.rand(6, 30, dtype=torch.int32) // 20
    for op, function in ((ReduceOp.MAX, torch.max), (ReduceOp.MIN, torch.min)):
        value, _ = function(x, 1, keepdim=True)
        first = (x == value).int().argmax(1, keepdim=True)
        c.commands.append(Reduce(c.read(x), c.write(value), c.write(first), op, 2))


@_case
def reduce_integers_to_int64(c: Case) -> None:
    x = c.rand(3, 400, dtype=torch.uint8)
    _reduce(c, x, ReduceOp.SUM, [1], x.sum(1, keepdim=True))


@_case
def reduce_bfloat16(c: Case) -> None:
    c.rtol, c.atol = 8e-3, 1e-3
    x = c.rand(4, 500, dtype=torch.bfloat16)
    _reduce(c, x, ReduceOp.SUM, [1], x.float().sum(1, keepdim=True).bfloat16())


@_case
def reduce_over_no_axis_copies(c: Case) -> None:
    x = c.rand(4, 5)
    _reduce(c, x, ReduceOp.MEAN, [], x.clone())


@_case
def softmax_rows(c: Case) -> None:
    x = c.rand(3, 4, 50) * 5
    x[0, 0, :25] = float("-inf")
    c.commands.append(Softmax(c.read(x), c.write(x.softmax(-1))))
    c.commands.append(Softmax(c.read(x.transpose(1, 2)), c.write(x.transpose(1, 2).softmax(-1))))


@_case
def softmax_logarithm(c: Case) -> None:
    x = c.rand(5, 33) * 5
    c.commands.append(Softmax(c.read(x), c.write(x.log_softmax(-1)), log=1))


@_case
def softmax_float16(c: Case) -> None:
    c.rtol, c.atol = 2e-3, 1e-4
    x = c.rand(5, 33, dtype=torch.float16)
    c.commands.append(Softmax(c.read(x), c.write(x.float().softmax(-1).half())))


@_case
def norm_with_statistics(c: Case) -> None:
    x, w, b = c.rand(2, 3, 40) * 3 + 1, c.rand(40), c.rand(40)
    y, mean, rstd = torch.native_layer_norm(x, [40], w, b, 1e-6)
    views = c.read(x), c.write(y), c.read(w), c.read(b), c.write(mean), c.write(rstd)
    c.commands.append(Norm(*views, eps=1e-6))


@_case
def norm_plain(c: Case) -> None:
    x = c.rand(6, 24)
    c.commands.append(Norm(c.read(x), c.write(nn.layer_norm(x, [24]))))


def _pool(c: Case, x: torch.Tensor, expected: torch.Tensor, indices: torch.Tensor | None = None, **more: Any) -> None:
    pairs: dict[str, Any] = {
        k: (v, v) if k in ("kernel", "stride", "padding", "dilation") else v for k, v in more.items()
    }
    index_view = None if indices is None else c.write(indices)
    c.commands.append(Pool2d(c.read(x), c.write(expected), index_view, **pairs))


@_case
def pool2d_max_with_indices(c: Case) -> None:
    x = c.rand(2, 3, 11, 12)
    value, indices = nn.max_pool2d(x, 3, 2, 1, return_indices=True)
    _pool(c, x, value, indices, kernel=3, stride=2, padding=1)
    value = nn.max_pool2d(x, 2, 2, 0, dilation=2)
    _pool(c, x, value, kernel=2, stride=2, dilation=2)


@_case
def pool2d_max_rounded_up(c: Case) -> None:
    x = c.rand(1, 2, 10, 9)
    value, indices = nn.max_pool2d(x, 3, 2, ceil_mode=True, return_indices=True)
    _pool(c, x, value, indices, kernel=3, stride=2)


@_case
def pool2d_max_of_a_part(c: Case) -> None:
    x = c.rand(1, 2, 12, 12)
    value, indices = nn.max_pool2d(x, 3, 2, 1, return_indices=True)
    _pool(c, x, value[:, :, :4, :5], indices[:, :, :4, :5], kernel=3, stride=2, padding=1)


@_case
def pool2d_average(c: Case) -> None:
    x = c.rand(2, 3, 9, 10)
    for include in (False, True):
        expected = nn.avg_pool2d(x, 3, 2, 1, count_include_pad=include)
        _pool(c, x, expected, kernel=3, stride=2, padding=1, mode=PoolMode.AVG, count_include_pad=int(include))
        expected = nn.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=include)
        _pool(c, x, expected, kernel=3, stride=2, padding=1, mode=PoolMode.AVG, count_include_pad=int(include))
    _pool(c, x, nn.avg_pool2d(x, 2, divisor_override=3), kernel=2, stride=2, mode=PoolMode.AVG, divisor=3)


@_case
def pool2d_average_of_a_part(c: Case) -> None:
    x = c.rand(1, 2, 12, 11)
    for include in (False, True):
        expected = nn.avg_pool2d(x, 3, 2, 1, count_include_pad=include)[:, :, :4, :4]
        _pool(c, x, expected, kernel=3, stride=2, padding=1, mode=PoolMode.AVG, count_include_pad=int(include))


@_case
def pool2d_adaptive(c: Case) -> None:
    x = c.rand(2, 3, 10, 7)
    for size in ((1, 1), (3, 4), (10, 7)):
        _pool(c, x, nn.adaptive_avg_pool2d(x, size), mode=PoolMode.ADAPTIVE_AVG)


@_case
def copy_permuted(c: Case) -> None:
    x = c.rand(4, 5, 6).permute(2, 0, 1)
    c.commands.append(Copy(c.read(x), c.write(x)))
    c.commands.append(Copy(c.read(x), c.write(x, order=(1, 0, 2))))


@_case
def copy_converts(c: Case) -> None:
    c.rtol = c.atol = 0.0
    x = c.rand(3, 100) * 20
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int32, torch.int8, torch.bool):
        c.commands.append(Copy(c.read(x), c.write(x.to(dtype))))
    c.commands.append(Copy(c.read(x.bfloat16()), c.write(x.bfloat16().float())))
    c.commands.append(Copy(c.read(x.int()), c.write(x.int().half())))


@_case
def copy_flipped(c: Case) -> None:
    x = c.rand(5, 8, dtype=torch.int16)
    view, out = c.read(x), c.write(x.flip(0))
    c.commands.append(Copy(View(view.tensor, view.dtype, (5, 8), (-8, 1), 2 * 32), out))
    out = c.write(x.flip(1))
    reversed_out = View(out.tensor, out.dtype, (5, 8), (8, -1), 2 * 7)
    c.commands.append(Copy(c.read(x), reversed_out))


@_case
def copy_of_nothing(c: Case) -> None:
    c.commands.append(Copy(c.read(torch.zeros(0, 3)), c.write(torch.zeros(0, 3))))
    c.commands.append(Copy(c.read(torch.ones(2)), c.write(torch.ones(2))))


@_case
def gather_rows(c: Case) -> None:
    c.rtol = c.atol = 0.0
    for dtype, kind in ((torch.float32, torch.int64), (torch.bfloat16, torch.int32), (torch.bool, torch.int64)):
        table, index = c.rand(7, 300, dtype=dtype), torch.tensor([[6, 0, 0], [3, 1, 6]], dtype=kind)
        c.commands.append(Gather(c.read(table), (c.read(index),), c.write(table[index.long()]), 1))


@_case
def gather_elements_along_an_axis(c: Case) -> None:
    x, index = c.rand(4, 3, 6, dtype=torch.float64), torch.arange(24).reshape(4, 3, 2) * 5 % 6
    c.commands.append(Gather(c.read(x), (c.read(index),), c.write(x.gather(2, index)), 1, batch=2))


@_case
def gather_by_two_indices_from_the_end(c: Case) -> None:
    x, rows, columns = c.rand(5, 4, 6, 3), torch.tensor([[-1], [2]]), torch.tensor([0, -4, 3])
    table, expected = x.permute(0, 2, 3, 1), x[rows, :, columns]  # [5, 6, 3, 4] at [2, 3]: [2, 3, 4, 3]
    places = tuple(c.read(index.expand(2, 3)) for index in (rows, columns))
    out = c.write(expected.transpose(2, 3), order=(0, 1, 3, 2))
    c.commands.append(Gather(c.read(table), places, out, 2, wrap=1))


@_case
def scatter_sets_every_row(c: Case) -> None:
    x, index = c.rand(5, 40), torch.tensor([3, 0, 4, 1, 2])
    expected = torch.empty_like(x).index_put((index,), x)
    c.commands.append(Scatter(c.read(x), (c.read(index),), c.write(expected), 1))


@_case
def scatter_sets_the_last_of_several(c: Case) -> None:
    x, index = c.rand(4, 300, dtype=torch.int16), torch.tensor([1, 0, 1, 1], dtype=torch.int32)
    c.commands.append(Scatter(c.read(x), (c.read(index),), c.write(x[[1, 3]]), 1))


@_case
def scatter_reduces(c: Case) -> None:
    index = torch.tensor([[0, 2, 0], [1, 1, 1]])
    for dtype in (torch.float32, torch.float64, torch.int32):
        table, x = c.rand(2, 4, dtype=dtype), c.rand(2, 3, dtype=dtype)
        for op, name in (
            (ScatterOp.ADD, "sum"), (ScatterOp.MUL, "prod"), (ScatterOp.MAX, "amax"), (ScatterOp.MIN, "amin")
        ):  # fmt: skip
            out = c.write(table.scatter_reduce(1, index, x, name))
            c.commands.append(Copy(c.read(table), out))
            c.commands.append(Scatter(c.read(x), (c.read(index),), out, 1, batch=1, op=op))


@_case
def scatter_propagates_nan(c: Case) -> None:
    table, x = torch.tensor([[1.0, torch.nan, 2.0]]), torch.tensor([[torch.nan, 3.0, 5.0]])
    index = torch.tensor([[0, 1, 2]])
    for op, name in ((ScatterOp.MAX, "amax"), (ScatterOp.MIN, "amin")):
        out = c.write(table.scatter_reduce(1, index, x, name))
        c.commands.append(Copy(c.read(table), out))
        c.commands.append(Scatter(c.read(x), (c.read(index),), out, 1, batch=1, op=op))


@_case
def scan_sums_and_products(c: Case) -> None:
    for op, function in ((ScanOp.SUM, torch.cumsum), (ScanOp.PROD, torch.cumprod)):
        for dtype in (torch.float32, torch.float64, torch.float16, torch.int16):
            x = c.rand(2, 5, 3, dtype=dtype)
            for axis in range(3):
                c.commands.append(Scan(c.read(x), c.write(function(x, axis, dtype=dtype)), op=op, axis=axis))
    x = c.rand(2, 700, dtype=torch.bool)
    c.commands.append(Scan(c.read(x), c.write(x.cumsum(1)), axis=1))


@_case
def scan_finds_the_last_extreme(c: Case) -> None:
    x = torch.tensor([[1.0, -0.0, 1.0, 0.0, torch.nan, 2.0, torch.nan, -3.0]]).repeat(2, 40)
    for op, function in ((ScanOp.MAX, torch.cummax), (ScanOp.MIN, torch.cummin)):
        for value in (x, x.double(), x[:, :4].int(), x[:, :4].bool()):
            extreme, indices = function(value, 1)
            c.commands.append(Scan(c.read(value), c.write(extreme), c.write(indices), op, axis=1))


@_case
def scan_of_logarithms(c: Case) -> None:
    x = c.rand(3, 300) * 20
    x[0, 5], x[1, :3], x[2, 7] = torch.nan, -torch.inf, torch.inf
    c.commands.append(Scan(c.read(x), c.write(x.logcumsumexp(1)), op=ScanOp.LOGADDEXP, axis=1))


def _sort(c: Case, x: torch.Tensor, axis: int, k: int, descending: bool) -> None:
    values, indices = (
        c.write(result.narrow(axis, 0, k)) for result in x.sort(dim=axis, descending=descending, stable=True)
    )
    work = c.scratch(4 * x.shape[axis])
    c.commands.append(Sort(c.read(x), work, values, indices, axis, int(descending)))


@_case
def sort_rows(c: Case) -> None:
    for dtype in (torch.float32, torch.float64, torch.float16, torch.int16, torch.uint8, torch.bool):
        for descending in (False, True):
            _sort(c, c.rand(2, 37, 3, dtype=dtype), 1, 37, descending)
    _sort(c, torch.tensor([-(2**63), 2**63 - 1, 0, -1]), 0, 4, False)


@_case
def sort_keeps_the_order_of_equals(c: Case) -> None:
    row = torch.tensor([0.0, torch.nan, -0.0, 1.0, -torch.inf, -torch.nan, torch.inf, 0.0, 1.0, -0.0])
    for descending in (False, True):
        _sort(c, row.repeat(2, 30), 1, 300, descending)


@_case
def sort_of_the_first_few(c: Case) -> None:
    x = c.rand(3, 301, dtype=torch.bfloat16)
    for k in (1, 2, 7, 256, 300):
        _sort(c, x, 1, k, True)
    expected = x.float().sort(dim=0, stable=True)
    c.commands.append(Sort(c.read(x.float()), c.scratch(12), c.write(expected[0])))
    c.commands.append(Sort(c.read(x.float()), c.scratch(12), None, c.write(expected[1][:1])))


@_case
def fill_values(c: Case) -> None:
    for dtype, value in ((torch.float32, -1.5), (torch.bfloat16, 3.0), (torch.int8, -7), (torch.bool, 1)):
        out = c.write(torch.full((3, 9), value).to(dtype))
        c.commands.append(Fill(out, bits(value, out.dtype)))


@_case
def barrier_between_commands(c: Case) -> None:
    x = c.rand(10)
    c.commands += [Copy(c.read(x), c.write(x)), Barrier(), Copy(c.read(x + 1), c.write(x + 1))]
