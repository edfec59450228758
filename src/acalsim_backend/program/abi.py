"""Scalars, enumerations and the struct codec of the ABI: the one place where a byte layout is decided.

A struct is a frozen dataclass that derives from :class:`Struct`; each field's annotation carries its C type. From
that one definition come the Python object, its little-endian bytes and the C declaration (``c_header``). Nothing
here needs more than the standard library, because the C header is generated while the package is being built.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

ABI_VERSION = 1
MAX_RANK = 6
COMMAND_ALIGN = 64
IMAGE_MAGIC = 0x4C414341  # "ACAL", little-endian


class DType(enum.IntEnum):
    """Element types. The value is what an operand's ``dtype`` byte holds."""

    BOOL = 0
    U8 = 1
    I8 = 2
    I16 = 3
    I32 = 4
    I64 = 5
    F16 = 6
    BF16 = 7
    F32 = 8
    F64 = 9

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return (1, 1, 1, 2, 4, 8, 2, 2, 4, 8)[self]

    @property
    def is_float(self) -> bool:
        return self >= DType.F16


class Opcode(enum.IntEnum):
    """Commands. The numbers 9 to 12 and 14 are reserved for GATHER, SCATTER, SCAN, SORT and RANDOM."""

    GEMM = 1
    CONV2D = 2
    VECTOR = 3
    REDUCE = 4
    SOFTMAX = 5
    NORM = 6
    POOL2D = 7
    COPY = 8
    FILL = 13
    BARRIER = 15
    HOST = 16


class Placement(enum.IntEnum):
    """Which processor runs a command."""

    CPU = 0
    ACCELERATOR = 1
    HOST = 2


class Activation(enum.IntEnum):
    """Function applied to a GEMM or CONV2D result after it was rounded to the output's dtype."""

    NONE = 0
    RELU = 1
    GELU = 2
    GELU_TANH = 3
    SIGMOID = 4
    TANH = 5


class VectorOp(enum.IntEnum):
    """Micro-instructions of a VECTOR command: ``dst = op(a, b, c)``, rounded to ``dtype``.

    LOAD reads input operand ``a``; STORE writes register ``a`` to output operand ``dst``; CONST takes ``imm``.
    Comparisons and CAST read registers of ``src_dtype``. NaN propagates through MIN, MAX and RELU as in PyTorch;
    of equal zeros, MIN and MAX give ``b``.
    """

    LOAD = 0
    STORE = 1
    CONST = 2
    CAST = 3
    ADD = 4
    SUB = 5
    MUL = 6
    DIV = 7
    NEG = 8
    ABS = 9
    MIN = 10
    MAX = 11
    RELU = 12
    EXP = 13
    LOG = 14
    SQRT = 15
    RSQRT = 16
    RECIPROCAL = 17
    TANH = 18
    SIGMOID = 19
    ERF = 20
    GELU = 21
    GELU_TANH = 22
    POW = 23
    SIN = 24
    COS = 25
    FLOOR = 26
    CEIL = 27
    EQ = 28
    NE = 29
    LT = 30
    LE = 31
    GT = 32
    GE = 33
    AND = 34
    OR = 35
    XOR = 36
    NOT = 37
    WHERE = 38


class ReduceOp(enum.IntEnum):
    """Reductions. MAX and MIN propagate NaN."""

    SUM = 0
    MEAN = 1
    MAX = 2
    MIN = 3


class PoolMode(enum.IntEnum):
    """Window functions of POOL2D. ADAPTIVE_AVG derives each window from the input and output sizes."""

    MAX = 0
    AVG = 1
    ADAPTIVE_AVG = 2


class Status(enum.IntEnum):
    """Result of a command, on the device (ERR_CODE) and from a CPU kernel."""

    OK = 0
    BAD_OPCODE = 1
    BAD_VERSION = 2
    BAD_DTYPE = 3
    BAD_RANK = 4
    BAD_ADDRESS = 5
    UNALIGNED = 6
    INDEX = 7
    UNSUPPORTED = 8
    INTERNAL = 9
    BAD_QUEUE = 10
    BAD_REGISTER = 11
    BAD_SHAPE = 12


class OperandFlag(enum.IntFlag):
    """Bits of an operand's ``flags``. An operand that is all zero is absent."""

    PRESENT = 1


@dataclass(frozen=True)
class View:
    """A strided window on a tensor: what an operand of a command refers to.

    ``tensor`` is the id in the Program's tensor table and ``offset`` counts bytes from its start; after decoding
    from guest memory ``tensor`` is -1 and ``offset`` is the absolute address. ``strides`` count elements; 0
    broadcasts.
    """

    tensor: int
    dtype: DType
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    zero_point: int = 0

    @property
    def numel(self) -> int:
        """Elements of the iteration space (broadcast elements count every time)."""
        n = 1
        for d in self.dims:
            n *= d
        return n

    @property
    def distinct(self) -> int:
        """Elements that differ in address, assuming that non-zero strides do not overlap."""
        n = 1
        for d, s in zip(self.dims, self.strides, strict=True):
            n *= d if s else min(d, 1)
        return n

    @property
    def nbytes(self) -> int:
        """Bytes of the distinct elements: what a device that reads each once has to move."""
        return self.distinct * self.dtype.itemsize

    @property
    def extent(self) -> tuple[int, int]:
        """Half-open byte range ``[low, high)`` relative to the tensor; empty views give ``(offset, offset)``."""
        low = high = 0
        for d, s in zip(self.dims, self.strides, strict=True):
            if d == 0:
                return self.offset, self.offset
            if s < 0:
                low += (d - 1) * s
            else:
                high += (d - 1) * s
        size = self.dtype.itemsize
        return self.offset + low * size, self.offset + (high + 1) * size

    @property
    def is_contiguous(self) -> bool:
        return self.strides == contiguous_strides(self.dims) or self.numel <= 1


def contiguous_strides(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides: list[int] = []
    step = 1
    for d in reversed(dims):
        strides.append(step)
        step *= max(d, 1)
    return tuple(reversed(strides))


# --- field types: Annotated[python type, C layout] ---------------------------------------------------------------


@dataclass(frozen=True)
class Scalar:
    """A C scalar: its name in C and its ``struct`` format character."""

    c: str
    fmt: str


class Role(enum.Enum):
    """How a command uses an operand."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True)
class Operand:
    """An operand field; ``optional`` ones may be None."""

    role: Role
    optional: bool = False


@dataclass(frozen=True)
class Array:
    """A fixed number of slots, of which the field named ``count`` says how many are used (all, if it is empty)."""

    length: int
    count: str = ""


U8 = Annotated[int, Scalar("uint8_t", "B")]
U16 = Annotated[int, Scalar("uint16_t", "H")]
U32 = Annotated[int, Scalar("uint32_t", "I")]
U64 = Annotated[int, Scalar("uint64_t", "Q")]
I32 = Annotated[int, Scalar("int32_t", "i")]
I64 = Annotated[int, Scalar("int64_t", "q")]
F32 = Annotated[float, Scalar("float", "f")]
In = Annotated[View, Operand(Role.IN)]
Out = Annotated[View, Operand(Role.OUT)]
OptionalIn = Annotated[View | None, Operand(Role.IN, optional=True)]
OptionalOut = Annotated[View | None, Operand(Role.OUT, optional=True)]

_OPERAND = struct.Struct("<QBBHi6q6q")
OPERAND_SIZE = _OPERAND.size


@dataclass(frozen=True)
class FieldLayout:
    """One field of a struct: its place in memory and how its value is encoded."""

    name: str
    offset: int
    length: int  # 0: a single item
    count: str  # name of the field that holds how many items are used
    stride: int  # bytes of one item
    kind: Scalar | Operand | type[Struct]
    enum: type[enum.IntEnum] | None


class Struct:
    """Base of the ABI's structs. Fields are naturally aligned; ``sizeof`` is rounded up to ``alignment``."""

    c_name: ClassVar[str]
    alignment: ClassVar[int] = 8

    @classmethod
    @functools.cache
    def layout(cls) -> tuple[FieldLayout, ...]:
        """Fields in order with their byte offsets."""
        hints = get_type_hints(cls, include_extras=True)
        fields: list[FieldLayout] = []
        offset = cls._base_size()
        for f in dataclasses.fields(cls):  # type: ignore[arg-type]  # only dataclasses derive from Struct
            if f.metadata.get("host_only"):
                continue
            kind, array, enumeration = _field_kind(hints[f.name])
            if isinstance(kind, Scalar):
                stride = align = struct.calcsize(kind.fmt)
            elif isinstance(kind, Operand):
                stride, align = OPERAND_SIZE, 8
            else:
                stride, align = kind.sizeof(), 8
            offset = -(-offset // align) * align
            fields.append(FieldLayout(f.name, offset, array.length, array.count, stride, kind, enumeration))
            offset += stride * max(array.length, 1)
        return tuple(fields)

    @classmethod
    def _base_size(cls) -> int:
        return 0

    @classmethod
    @functools.cache
    def sizeof(cls) -> int:
        """Bytes of the struct."""
        last = cls.layout()[-1] if cls.layout() else None
        end = last.offset + last.stride * max(last.length, 1) if last else cls._base_size()
        return -(-end // cls.alignment) * cls.alignment

    def encode_into(self, buffer: bytearray | memoryview, at: int = 0) -> None:
        """Write the fields at byte ``at``; operands hold their offset where the address will be relocated."""
        for f in self.layout():
            value = getattr(self, f.name)
            items = value if f.length else (value,)
            if f.length and len(items) > f.length:
                raise ValueError(f"{type(self).__name__}.{f.name}: {len(items)} items, at most {f.length} fit")
            for i, item in enumerate(items):
                _encode_item(f.kind, item, buffer, at + f.offset + i * f.stride)

    @classmethod
    def decode_from(cls, buffer: bytes | bytearray | memoryview, at: int = 0) -> Self:
        """Read the fields back; operands become views with ``tensor == -1`` and an absolute offset."""
        values: dict[str, Any] = {}
        for f in sorted(cls.layout(), key=lambda f: f.length):  # counts before the arrays that they count
            used = values[f.count] if f.count else max(f.length, 1)
            if used > max(f.length, 1):
                raise ValueError(f"{f.count} is {used}, at most {f.length} fit")
            items = [_decode_item(f, buffer, at + f.offset + i * f.stride) for i in range(used)]
            values[f.name] = tuple(items) if f.length else items[0]
        return cls(**values)


def _field_kind(hint: Any) -> tuple[Scalar | Operand | type[Struct], Array, type[enum.IntEnum] | None]:
    array = Array(0)
    enumeration: type[enum.IntEnum] | None = None
    kind: Scalar | Operand | type[Struct] | None = None
    while get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        for extra in extras:
            if isinstance(extra, Array):
                array = extra
            elif isinstance(extra, (Scalar, Operand)):
                kind = extra
        if array.length and get_origin(hint) is tuple:
            hint = get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        enumeration = hint
    if kind is None and isinstance(hint, type) and issubclass(hint, Struct):
        kind = hint
    if kind is None:
        raise TypeError(f"{hint!r} has no C layout: annotate it with Scalar or Operand")
    return kind, array, enumeration


def _encode_item(kind: Scalar | Operand | type[Struct], item: Any, buffer: bytearray | memoryview, at: int) -> None:
    if isinstance(kind, Scalar):
        struct.pack_into("<" + kind.fmt, buffer, at, item)
    elif isinstance(kind, Operand):
        _encode_view(item, buffer, at)
    else:
        item.encode_into(buffer, at)


def _encode_view(view: View | None, buffer: bytearray | memoryview, at: int) -> None:
    if view is None:
        return
    pad = (0,) * (MAX_RANK - len(view.dims))
    _OPERAND.pack_into(
        buffer,
        at,
        view.offset,
        view.dtype,
        len(view.dims),
        OperandFlag.PRESENT,
        view.zero_point,
        *(*view.dims, *pad),
        *(*view.strides, *pad),
    )


def _decode_item(f: FieldLayout, buffer: bytes | bytearray | memoryview, at: int) -> Any:
    if isinstance(f.kind, Scalar):
        (value,) = struct.unpack_from("<" + f.kind.fmt, buffer, at)
        return f.enum(value) if f.enum is not None else value
    if isinstance(f.kind, Operand):
        addr, dtype, rank, flags, zero_point, *rest = _OPERAND.unpack_from(buffer, at)
        if not flags & OperandFlag.PRESENT:
            return None
        dims, strides = tuple(rest[:rank]), tuple(rest[MAX_RANK : MAX_RANK + rank])
        return View(-1, DType(dtype), dims, strides, addr, zero_point)
    return f.kind.decode_from(buffer, at)


# --- the C side ---------------------------------------------------------------------------------------------------


def c_enum(enumeration: type[enum.IntEnum] | type[enum.IntFlag]) -> Iterator[str]:
    """The enumeration as C constants: ``ACAL_DTYPE_F32 = 8``."""
    prefix = f"ACAL_{enumeration.__name__.upper()}_"
    yield f"/* {(enumeration.__doc__ or '').splitlines()[0]} */"
    yield "enum {"
    yield from (f"    {prefix}{member.name} = {member.value}," for member in enumeration)
    yield "};\n"


OPERAND_DECLARATION = f"""typedef struct {{
    uint64_t addr;       /* guest physical address of the first element */
    uint8_t dtype;
    uint8_t rank;
    uint16_t flags;      /* 0: the operand is absent */
    int32_t zero_point;
    int64_t dims[{MAX_RANK}];
    int64_t strides[{MAX_RANK}]; /* in elements; 0 broadcasts */
}} acal_operand_t;
_Static_assert(sizeof(acal_operand_t) == {OPERAND_SIZE}, "operand layout");
"""


def c_struct(cls: type[Struct], first: str = "") -> Iterator[str]:
    """The struct as a C typedef whose size and offsets are asserted at compile time."""
    yield "/* " + inspect.cleandoc(cls.__doc__ or "").replace("\n", "\n * ") + " */"
    yield f"typedef struct {{{first}"
    for f in cls.layout():
        if isinstance(f.kind, Scalar):
            c_type = f.kind.c
        else:
            c_type = "acal_operand_t" if isinstance(f.kind, Operand) else f.kind.c_name
        yield f"    {c_type} {f.name}{f'[{f.length}]' if f.length else ''};"
    yield f"}} {cls.c_name};"
    yield f'_Static_assert(sizeof({cls.c_name}) == {cls.sizeof()}, "{cls.c_name}");'
    for f in cls.layout():
        yield f'_Static_assert(offsetof({cls.c_name}, {f.name}) == {f.offset}, "{cls.c_name}.{f.name}");'
    yield ""
