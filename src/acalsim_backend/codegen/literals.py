"""Values as C: element types, and constants that read back to the same bits."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from acalsim_backend.program.enums import DType
from acalsim_backend.program.layout import Scalar

C_TYPES = {
    DType.BOOL: "uint8_t",
    DType.U8: "uint8_t",
    DType.I8: "int8_t",
    DType.I16: "int16_t",
    DType.I32: "int32_t",
    DType.I64: "int64_t",
    DType.F16: "uint16_t",
    DType.BF16: "uint16_t",
    DType.F32: "float",
    DType.F64: "double",
}
_LINE = 100


def scalar(kind: Scalar, is_enum: bool, value: int | float) -> str:
    """A field of a command."""
    if is_enum:
        return f"ACAL_{type(value).__name__.upper()}_{value.name}"  # type: ignore[union-attr]  # an IntEnum
    if kind.c == "float":
        return float32(value)
    if kind.c == "double":
        return float64(value)
    return f"{value:#x}u" if kind.c == "uint64_t" else _integer(int(value))


def float32(value: float) -> str:
    """A number as an f32."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return _float(bits)


def float64(value: float) -> str:
    """A number as an f64."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    return _double(bits)


def _float(bits: int) -> str:
    value = np.uint32(bits).view(np.float32)
    sign = "-" if bits >> 31 else ""
    if np.isnan(value):
        quiet, payload = bits >> 22 & 1, bits & 0x3FFFFF
        return f'{sign}__builtin_nan{"" if quiet else "s"}f("{payload:#x}")'
    if np.isinf(value):
        return f"{sign}__builtin_inff()"
    return f"{value!s}f"


def _double(bits: int) -> str:
    value = np.uint64(bits).view(np.float64)
    sign = "-" if bits >> 63 else ""
    if np.isnan(value):
        return f'{sign}__builtin_nan("{bits & (1 << 51) - 1:#x}")'
    return f"{sign}__builtin_inf()" if np.isinf(value) else str(value)


def _integer(value: int) -> str:
    if value == -(1 << 63):
        return "INT64_MIN"
    return f"{value}LL" if abs(value) >= 1 << 31 else str(value)


def literals(data: bytes, dtype: DType) -> list[str]:
    """The elements as C constants, exact to the bit."""
    if not data:
        return ["0"]
    if dtype is DType.F32:
        return [_float(b) for b in np.frombuffer(data, np.uint32).tolist()]
    if dtype is DType.F64:
        return [_double(b) for b in np.frombuffer(data, np.uint64).tolist()]
    if dtype in (DType.F16, DType.BF16):
        return [f"{b:#06x}" for b in np.frombuffer(data, np.uint16).tolist()]
    kind = np.uint8 if dtype in (DType.BOOL, DType.U8) else np.dtype(f"i{dtype.itemsize}")
    return [_integer(v) for v in np.frombuffer(data, kind).tolist()]


def wrapped(items: Sequence[str]) -> Iterator[str]:
    """The items with a comma behind each, in lines."""
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > _LINE:
            yield line
            line = "   "
        line += f" {item},"
    yield line
