"""The struct codec of the ABI: the one place where a byte layout is decided.

A struct is a frozen dataclass that derives from :class:`Struct`; each field's annotation carries its C type. From
that one definition come the Python object, its little-endian bytes and the C declaration (``firmware/c_header.py``).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import struct
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

from acalsim_backend.program.enums import MAX_RANK, DType, OperandFlag
from acalsim_backend.program.view import View


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
F64 = Annotated[float, Scalar("double", "d")]
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
