"""The commands: one class per opcode, from which the C structs, the verifier and every processor work.

A command in guest memory is a 32-byte header, the fields of its class, and the ids of the commands it depends on;
its size is a multiple of 64 bytes. In Python the header's contents are the ``host_only`` fields of :class:`Command`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

from acalsim_backend.errors import ProgramError
from acalsim_backend.program.enums import (
    ABI_VERSION,
    ALIGNMENT,
    Activation,
    DType,
    Opcode,
    Placement,
    PoolMode,
    ReduceOp,
    ScanOp,
    ScatterOp,
    VectorOp,
    aligned,
)
from acalsim_backend.program.layout import (
    F32,
    F64,
    I64,
    U8,
    U32,
    U64,
    Array,
    In,
    Operand,
    OptionalIn,
    OptionalOut,
    Out,
    Role,
    Scalar,
    Struct,
)
from acalsim_backend.program.view import View

HEADER = struct.Struct("<HHIIHHIHHII")
HEADER_SIZE = HEADER.size

Pair = Annotated[tuple[int, int], Scalar("int64_t", "q"), Array(2)]
E_Activation = Annotated[Activation, Scalar("uint32_t", "I")]
E_ReduceOp = Annotated[ReduceOp, Scalar("uint32_t", "I")]
E_ScatterOp = Annotated[ScatterOp, Scalar("uint32_t", "I")]
E_ScanOp = Annotated[ScanOp, Scalar("uint32_t", "I")]
E_PoolMode = Annotated[PoolMode, Scalar("uint32_t", "I")]

COMMANDS: dict[Opcode, type[Command]] = {}


@dataclass(frozen=True)
class Command(Struct):
    """What a processor is told to do: an opcode, operands, attributes, and where it came from.

    ``origin`` is a contiguous range ``(first, count)`` of the Program's origin table; ``deps`` are indices of earlier
    commands that must have completed.
    """

    opcode: ClassVar[Opcode]
    c_name: ClassVar[str]

    id: int = field(default=0, kw_only=True, metadata={"host_only": True})
    placement: Placement = field(default=Placement.ACCELERATOR, kw_only=True, metadata={"host_only": True})
    device: int = field(default=0, kw_only=True, metadata={"host_only": True})
    origin: tuple[int, int] = field(default=(0, 0), kw_only=True, metadata={"host_only": True})
    deps: tuple[int, ...] = field(default=(), kw_only=True, metadata={"host_only": True})

    def __init_subclass__(cls, opcode: Opcode | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if opcode is not None:
            cls.opcode = opcode
            cls.c_name = f"acal_{opcode.name.lower()}_t"
            COMMANDS[opcode] = cls

    @classmethod
    def _base_size(cls) -> int:
        return HEADER_SIZE

    @classmethod
    @functools.cache
    def _operand_fields(cls) -> tuple[tuple[str, Role, int, int, int], ...]:
        """Name, role, offset, length and stride of the fields that hold operands."""
        return tuple(
            (f.name, f.kind.role, f.offset, f.length, f.stride) for f in cls.layout() if isinstance(f.kind, Operand)
        )

    def operands(self) -> list[tuple[str, Role, int, View]]:
        """Present operands as ``(name, role, byte offset of the operand in the command, view)``."""
        found: list[tuple[str, Role, int, View]] = []
        for name, role, offset, length, stride in self._operand_fields():
            value = getattr(self, name)
            if length:
                for i, view in enumerate(value):
                    if view is not None:
                        found.append((f"{name}[{i}]", role, offset + i * stride, view))
            elif value is not None:
                found.append((name, role, offset, value))
        return found

    def reads(self) -> list[View]:
        """Views that the command reads."""
        return [v for _, role, _, v in self.operands() if role is Role.IN]

    def writes(self) -> list[View]:
        """Views that the command writes."""
        return [v for _, role, _, v in self.operands() if role is Role.OUT]

    @property
    def products(self) -> int:
        """Multiply-adds."""
        return 0

    @property
    def element_steps(self) -> int:
        """What a processor that does one thing to one element at a time does, multiply-adds aside."""
        return max((v.numel for v in self.reads() + self.writes()), default=0)

    def attributes(self) -> Iterator[tuple[str, Any]]:
        """Fields that are not operands, as ``(name, value)``."""
        for f in self.layout():
            if not isinstance(f.kind, Operand):
                yield f.name, getattr(self, f.name)

    def map_views(self, fn: Any) -> Self:
        """A copy whose present operands are ``fn(view)``."""
        changes: dict[str, Any] = {}
        for f in self.layout():
            if isinstance(f.kind, Operand):
                value = getattr(self, f.name)
                if f.length:
                    changes[f.name] = tuple(None if v is None else fn(v) for v in value)
                elif value is not None:
                    changes[f.name] = fn(value)
        return replace(self, **changes)

    def encode(self) -> bytes:
        """Header, fields and dependencies as they lie in guest memory (operands not yet relocated)."""
        body = self.sizeof()
        total = aligned(body + 4 * len(self.deps))
        buffer = bytearray(total)
        HEADER.pack_into(
            buffer,
            0,
            self.opcode,
            ABI_VERSION,
            total,
            self.id,
            self.placement,
            self.device,
            self.origin[0],
            self.origin[1],
            len(self.deps),
            body,
            0,
        )
        self.encode_into(buffer)
        struct.pack_into(f"<{len(self.deps)}I", buffer, body, *self.deps)
        return bytes(buffer)


def decode(buffer: bytes | bytearray | memoryview, at: int = 0) -> Command:
    """Read a command back.

    Raises:
        ProgramError: unknown opcode or version, a size that does not fit, or a value outside its enumeration.
    """
    if len(buffer) - at < HEADER_SIZE:
        raise ProgramError(f"command header at byte {at}: {len(buffer) - at} bytes left, {HEADER_SIZE} expected")
    opcode, version, size, ident, placement, device, origin, n_origin, n_deps, dep_offset, _ = HEADER.unpack_from(
        buffer, at
    )
    if version != ABI_VERSION:
        raise ProgramError(f"command {ident}: ABI version {version}, this package speaks {ABI_VERSION}")
    if opcode not in COMMANDS:
        raise ProgramError(f"command {ident}: opcode {opcode} is not one of {', '.join(map(str, map(int, COMMANDS)))}")
    cls = COMMANDS[Opcode(opcode)]
    if size < cls.sizeof() or size % ALIGNMENT or dep_offset + 4 * n_deps > size or at + size > len(buffer):
        raise ProgramError(f"command {ident}: size {size} does not hold a {Opcode(opcode).name} with {n_deps} deps")
    try:
        body = cls.decode_from(buffer, at)
        header = {
            "id": ident,
            "placement": Placement(placement),
            "device": device,
            "origin": (origin, n_origin),
            "deps": struct.unpack_from(f"<{n_deps}I", buffer, at + dep_offset),
        }
    except ValueError as error:
        raise ProgramError(f"command {ident} ({Opcode(opcode).name}): {error}") from None
    return replace(body, **header)


@dataclass(frozen=True)
class Gemm(Command, opcode=Opcode.GEMM):
    """out = activation(alpha * a @ b + beta * bias).

    a [*batch, M, K], b [*batch, K, N], out [*batch, M, N], all of one rank (2 to 6); a transpose or a broadcast batch
    is a matter of strides. bias has the dims of out, broadcast by stride 0. Products are accumulated in f32 for
    f16, bf16 and f32, in f64 for f64, in 32 bits for 8-bit integers, in 64 bits for the wider ones.
    """

    a: In
    b: In
    out: Out
    bias: OptionalIn = None
    alpha: F32 = 1.0
    beta: F32 = 1.0
    activation: E_Activation = Activation.NONE

    @property
    def products(self) -> int:
        return self.out.numel * max(self.a.dims[-1], 1)


@dataclass(frozen=True)
class Conv2d(Command, opcode=Opcode.CONV2D):
    """out = activation(conv2d(x, weight) + bias).

    x [N, C, H, W], weight [K, C/groups, R, S], bias [K], out [N, K, P, Q]. padding is top and left; bottom and right
    follow from out's size. stride, padding and dilation are (vertical, horizontal).
    """

    x: In
    weight: In
    out: Out
    bias: OptionalIn = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: I64 = 1
    activation: E_Activation = Activation.NONE

    @property
    def products(self) -> int:
        return self.out.numel * max(self.weight.numel // max(self.weight.dims[0], 1), 1)


@dataclass(frozen=True)
class VectorInstruction(Struct):
    """One micro-instruction: dst = op(a, b, c) rounded to dtype; see VectorOp.

    imm holds the bits of an f64 when dtype is floating point, of an i64 otherwise.
    """

    c_name: ClassVar[str] = "acal_vector_instruction_t"

    op: Annotated[VectorOp, Scalar("uint8_t", "B")]
    dtype: Annotated[DType, Scalar("uint8_t", "B")]
    dst: U8
    a: U8 = 0
    b: U8 = 0
    c: U8 = 0
    src_dtype: Annotated[DType, Scalar("uint8_t", "B")] = DType.BOOL
    reserved: U8 = 0
    imm: U64 = 0

    @property
    def reads(self) -> tuple[int, ...]:
        """Registers that it reads; of STORE, too."""
        return (self.a, self.b, self.c)[: self.op.arity]


MAX_VECTOR_INPUTS = 8
MAX_VECTOR_OUTPUTS = 4
MAX_VECTOR_REGISTERS = 16
MAX_VECTOR_INSTRUCTIONS = 32
VECTOR_BLOCK = 256


@dataclass(frozen=True)
class Vector(Command, opcode=Opcode.VECTOR):
    """A micro-program over one iteration space: every operand has the same dims, broadcast by stride 0.

    LOADs come before the arithmetic and STOREs after it, so that an output may share the memory of an input that has
    the same strides. A register is written by one instruction and may be overwritten after its last use.
    """

    inputs: Annotated[tuple[In, ...], Array(MAX_VECTOR_INPUTS, "n_inputs")]
    outputs: Annotated[tuple[Out, ...], Array(MAX_VECTOR_OUTPUTS, "n_outputs")]
    instructions: Annotated[tuple[VectorInstruction, ...], Array(MAX_VECTOR_INSTRUCTIONS, "n_instructions")]
    n_inputs: U32
    n_outputs: U32
    n_instructions: U32

    @classmethod
    def of(cls, inputs: Sequence[View], outputs: Sequence[View], code: Sequence[VectorInstruction]) -> Vector:
        """The command with its counts filled in."""
        return cls(tuple(inputs), tuple(outputs), tuple(code), len(inputs), len(outputs), len(code))

    @property
    def element_steps(self) -> int:
        return super().element_steps * self.n_instructions


@dataclass(frozen=True)
class Reduce(Command, opcode=Opcode.REDUCE):
    """out = op over the axes in the bit mask ``axes`` (bit i is axis i of x).

    out has x's rank and size 1 on reduced axes. indices (i64, MAX and MIN over one axis) is the position of the
    first extreme value along the axis.
    """

    x: In
    out: Out
    indices: OptionalOut = None
    op: E_ReduceOp = ReduceOp.SUM
    axes: U32 = 0


@dataclass(frozen=True)
class Softmax(Command, opcode=Opcode.SOFTMAX):
    """out = softmax of x along the last axis, or its logarithm when ``log`` is 1. x and out [*rows, columns]."""

    x: In
    out: Out
    log: U32 = 0


@dataclass(frozen=True)
class Norm(Command, opcode=Opcode.NORM):
    """out = (x - mean) / sqrt(variance + eps) * weight + bias along the last axis (biased variance).

    x and out [*rows, columns], weight and bias [columns], mean and rstd [*rows, 1].
    """

    x: In
    out: Out
    weight: OptionalIn = None
    bias: OptionalIn = None
    mean: OptionalOut = None
    rstd: OptionalOut = None
    eps: F64 = 1e-5


@dataclass(frozen=True)
class Pool2d(Command, opcode=Opcode.POOL2D):
    """Window reduction. x [N, C, H, W], out [N, C, P, Q]; indices (i64, MAX only) is h * W + w of the maximum:
    of equal ones the first, of several NaN the last.

    AVG divides by ``divisor`` if that is not 0, else by the window's size, counting padding if count_include_pad is 1.
    ADAPTIVE_AVG averages rows floor(p*H/P) up to ceil((p+1)*H/P), columns alike, and ignores the window fields.
    """

    x: In
    out: Out
    indices: OptionalOut = None
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    divisor: I64 = 0
    mode: E_PoolMode = PoolMode.MAX
    count_include_pad: U32 = 1

    @property
    def element_steps(self) -> int:
        return super().element_steps + self.out.numel * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Copy(Command, opcode=Opcode.COPY):
    """out = x converted to out's dtype, element by element over equal dims; strides express every permutation."""

    x: In
    out: Out


MAX_INDICES = 6


@dataclass(frozen=True)
class Gather(Command, opcode=Opcode.GATHER):
    """out[*b, *j, *r] = x[*b, i0(*b, *j), i1(*b, *j), .., *r]: elements of x at places that ``indices`` say.

    x [*batch, *indexed, *rest], each index [*batch, *j] of i32 or i64, out [*batch, *j, *rest] of x's dtype. ``batch``
    is how many axes of x lie before the indexed ones, of which there are as many as indices. With ``wrap`` an index
    below 0 counts from the end of its axis. One outside its axis: status INDEX, the index in place of the address.
    """

    x: In
    indices: Annotated[tuple[In, ...], Array(MAX_INDICES, "n_indices")]
    out: Out
    n_indices: U32
    batch: U32 = 0
    wrap: U32 = 0

    @property
    def element_steps(self) -> int:
        return super().element_steps * (1 + self.n_indices)


@dataclass(frozen=True)
class Scatter(Command, opcode=Opcode.SCATTER):
    """out[*b, i0(*b, *j), i1(*b, *j), .., *r] = op(what is there, x[*b, *j, *r]), in row-major order of (*b, *j).

    x [*batch, *j, *rest], each index [*batch, *j], out [*batch, *indexed, *rest]; see :class:`Gather`. What no index
    names stays as it is. Each step is rounded to the dtype, which is not BOOL unless ``op`` is SET.
    """

    x: In
    indices: Annotated[tuple[In, ...], Array(MAX_INDICES, "n_indices")]
    out: Out
    n_indices: U32
    batch: U32 = 0
    wrap: U32 = 0
    op: E_ScatterOp = ScatterOp.SET

    @property
    def element_steps(self) -> int:
        return self.x.numel * (2 + self.n_indices)


@dataclass(frozen=True)
class Scan(Command, opcode=Opcode.SCAN):
    """out[.., i, ..] = op over x[.., 0, ..] to x[.., i, ..] along ``axis``; x and out have equal dims of rank 1 to 6.

    indices (i64, MAX and MIN) is the position of that value: of the last of equal ones, and of the last NaN. Sums and
    products are accumulated in f64 where out is f32 or f64, in f32 where it is f16 or bf16, else in i64.
    """

    x: In
    out: Out
    indices: OptionalOut = None
    op: E_ScanOp = ScanOp.SUM
    axis: U32 = 0


@dataclass(frozen=True)
class Sort(Command, opcode=Opcode.SORT):
    """values[.., i, ..] = element i of x sorted along ``axis``, indices[.., i, ..] = where it stood; one may be absent.

    x has rank 1 to 6, values (x's dtype) and indices (i64) its dims but for the axis, along which they have the first k
    alone. Equal elements keep their order; NaN is larger than every number. ``work`` (i64, dense [4 * n] for an axis of
    n) is memory to work in, whose contents mean nothing.
    """

    x: In
    work: Out
    values: OptionalOut = None
    indices: OptionalOut = None
    axis: U32 = 0
    descending: U32 = 0

    @property
    def element_steps(self) -> int:
        return self.x.numel * (3 + self.x.dims[self.axis].bit_length())


@dataclass(frozen=True)
class Fill(Command, opcode=Opcode.FILL):
    """out = value; the bits of an f64 when out's dtype is floating point, of an i64 otherwise."""

    out: Out
    value: U64 = 0


@dataclass(frozen=True)
class Barrier(Command, opcode=Opcode.BARRIER):
    """Completes when every command before it has completed."""

    reserved: U64 = 0


MAX_HOST_INPUTS = 16
MAX_HOST_OUTPUTS = 8


@dataclass(frozen=True)
class Host(Command, opcode=Opcode.HOST):
    """Asks the host to run its call number ``call`` on guest memory; placed on neither CPU nor accelerator."""

    inputs: Annotated[tuple[In, ...], Array(MAX_HOST_INPUTS, "n_inputs")]
    outputs: Annotated[tuple[Out, ...], Array(MAX_HOST_OUTPUTS, "n_outputs")]
    n_inputs: U32
    n_outputs: U32
    call: U32
