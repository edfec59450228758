"""Enumerations and constants of the ABI: numbers that Python, C and C++ share.

Nothing here needs more than the standard library, because the C header is generated while the package is being built.
"""

from __future__ import annotations

import enum

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
