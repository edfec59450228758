"""Enumerations and constants of the ABI: numbers that Python, C and C++ share.

Nothing here needs more than the standard library, because the C header is generated while the package is being built.
"""

from __future__ import annotations

import enum

ABI_VERSION = 1
MAX_RANK = 6
ALIGNMENT = 64
"""Bytes: commands, tables and tensors start at multiples of it."""
IMAGE_MAGIC = 0x4C414341  # "ACAL", little-endian


def aligned(nbytes: int) -> int:
    """Rounded up to ALIGNMENT."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


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
    def long_name(self) -> str:
        """The name that PyTorch and the IR have for it."""
        names = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
        return names[self]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return (1, 1, 1, 2, 4, 8, 2, 2, 4, 8)[self]

    @property
    def is_float(self) -> bool:
        return self >= DType.F16


class Opcode(enum.IntEnum):
    """Commands. 14 was RANDOM: values are inputs."""

    GEMM = 1
    CONV2D = 2
    VECTOR = 3
    REDUCE = 4
    SOFTMAX = 5
    NORM = 6
    POOL2D = 7
    COPY = 8
    GATHER = 9
    SCATTER = 10
    SCAN = 11
    SORT = 12
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


class VectorClass(enum.IntEnum):
    """What an operation of the vector unit costs; the hardware file has interval and latency of each."""

    ARITHMETIC = 0
    DIVIDE = 1
    ROOT = 2
    EXPONENTIAL = 3
    TRANSCENDENTAL = 4


class Domain(enum.Enum):
    """Element types for which a vector operation exists."""

    ANY = "all"
    NUMBERS = "all but BOOL"
    FLOATS = "floating point"
    INTEGERS = "integers and BOOL"
    TRUTHS = "BOOL, from any; it compares"


class VectorOp(enum.IntEnum):
    """Micro-instructions of a VECTOR command: ``dst = op(a, b, c)``, rounded to ``dtype``.

    LOAD reads input operand ``a``; STORE writes register ``a`` to output operand ``dst``; CONST takes ``imm``.
    Comparisons and CAST read registers of ``src_dtype``. NaN propagates through MIN, MAX and RELU as in PyTorch;
    of equal zeros, MIN and MAX give ``b``. ROUND gives the even one of two equally near integers. Integers that are
    divided by 0 end the command with status DIVISION. A shift below 0 or beyond the type gives what is left of the
    bits: 0, or the sign.

    ``arity`` is how many registers it reads, ``cost`` its class, ``domain`` the dtypes that it gives.
    """

    arity: int
    cost: VectorClass
    domain: Domain

    def __new__(cls, value: int, arity: int, cost: VectorClass, domain: Domain) -> VectorOp:
        member = int.__new__(cls, value)
        member._value_ = value
        member.arity, member.cost, member.domain = arity, cost, domain
        return member

    LOAD = 0, 0, VectorClass.ARITHMETIC, Domain.ANY
    STORE = 1, 1, VectorClass.ARITHMETIC, Domain.ANY
    CONST = 2, 0, VectorClass.ARITHMETIC, Domain.ANY
    CAST = 3, 1, VectorClass.ARITHMETIC, Domain.ANY
    ADD = 4, 2, VectorClass.ARITHMETIC, Domain.ANY
    SUB = 5, 2, VectorClass.ARITHMETIC, Domain.NUMBERS
    MUL = 6, 2, VectorClass.ARITHMETIC, Domain.ANY
    DIV = 7, 2, VectorClass.DIVIDE, Domain.FLOATS
    NEG = 8, 1, VectorClass.ARITHMETIC, Domain.NUMBERS
    ABS = 9, 1, VectorClass.ARITHMETIC, Domain.NUMBERS
    MIN = 10, 2, VectorClass.ARITHMETIC, Domain.ANY
    MAX = 11, 2, VectorClass.ARITHMETIC, Domain.ANY
    RELU = 12, 1, VectorClass.ARITHMETIC, Domain.NUMBERS
    EXP = 13, 1, VectorClass.EXPONENTIAL, Domain.FLOATS
    LOG = 14, 1, VectorClass.EXPONENTIAL, Domain.FLOATS
    SQRT = 15, 1, VectorClass.ROOT, Domain.FLOATS
    RSQRT = 16, 1, VectorClass.ROOT, Domain.FLOATS
    RECIPROCAL = 17, 1, VectorClass.DIVIDE, Domain.FLOATS
    TANH = 18, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    SIGMOID = 19, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ERF = 20, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    GELU = 21, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    GELU_TANH = 22, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    POW = 23, 2, VectorClass.TRANSCENDENTAL, Domain.NUMBERS
    SIN = 24, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    COS = 25, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    FLOOR = 26, 1, VectorClass.ARITHMETIC, Domain.NUMBERS
    CEIL = 27, 1, VectorClass.ARITHMETIC, Domain.NUMBERS
    EQ = 28, 2, VectorClass.ARITHMETIC, Domain.TRUTHS
    NE = 29, 2, VectorClass.ARITHMETIC, Domain.TRUTHS
    LT = 30, 2, VectorClass.ARITHMETIC, Domain.TRUTHS
    LE = 31, 2, VectorClass.ARITHMETIC, Domain.TRUTHS
    GT = 32, 2, VectorClass.ARITHMETIC, Domain.TRUTHS
    GE = 33, 2, VectorClass.ARITHMETIC, Domain.TRUTHS
    AND = 34, 2, VectorClass.ARITHMETIC, Domain.INTEGERS
    OR = 35, 2, VectorClass.ARITHMETIC, Domain.INTEGERS
    XOR = 36, 2, VectorClass.ARITHMETIC, Domain.INTEGERS
    NOT = 37, 1, VectorClass.ARITHMETIC, Domain.INTEGERS
    WHERE = 38, 3, VectorClass.ARITHMETIC, Domain.ANY
    TRUNC = 39, 1, VectorClass.ARITHMETIC, Domain.NUMBERS
    ROUND = 40, 1, VectorClass.ARITHMETIC, Domain.NUMBERS
    FMOD = 41, 2, VectorClass.DIVIDE, Domain.NUMBERS
    REMAINDER = 42, 2, VectorClass.DIVIDE, Domain.NUMBERS
    FLOOR_DIVIDE = 43, 2, VectorClass.DIVIDE, Domain.NUMBERS
    TRUNC_DIVIDE = 44, 2, VectorClass.DIVIDE, Domain.INTEGERS
    SHIFT_LEFT = 45, 2, VectorClass.ARITHMETIC, Domain.INTEGERS
    SHIFT_RIGHT = 46, 2, VectorClass.ARITHMETIC, Domain.INTEGERS
    GCD = 47, 2, VectorClass.DIVIDE, Domain.INTEGERS
    COPYSIGN = 48, 2, VectorClass.ARITHMETIC, Domain.FLOATS
    NEXTAFTER = 49, 2, VectorClass.ARITHMETIC, Domain.FLOATS
    HYPOT = 50, 2, VectorClass.ROOT, Domain.FLOATS
    EXP2 = 51, 1, VectorClass.EXPONENTIAL, Domain.FLOATS
    EXPM1 = 52, 1, VectorClass.EXPONENTIAL, Domain.FLOATS
    LOG2 = 53, 1, VectorClass.EXPONENTIAL, Domain.FLOATS
    LOG10 = 54, 1, VectorClass.EXPONENTIAL, Domain.FLOATS
    LOG1P = 55, 1, VectorClass.EXPONENTIAL, Domain.FLOATS
    TAN = 56, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ASIN = 57, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ACOS = 58, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ATAN = 59, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    SINH = 60, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    COSH = 61, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ASINH = 62, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ACOSH = 63, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ATANH = 64, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ERFC = 65, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ERFCX = 66, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ERFINV = 67, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    LGAMMA = 68, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    DIGAMMA = 69, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    I0 = 70, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    I0E = 71, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    I1 = 72, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    I1E = 73, 1, VectorClass.TRANSCENDENTAL, Domain.FLOATS
    ATAN2 = 74, 2, VectorClass.TRANSCENDENTAL, Domain.FLOATS

    @property
    def compares(self) -> bool:
        """Whether its operands are of ``src_dtype`` and its result is a truth."""
        return self.domain is Domain.TRUTHS

    def takes(self, dtype: DType) -> bool:
        """Whether it exists with results of ``dtype``."""
        match self.domain:
            case Domain.NUMBERS:
                return dtype is not DType.BOOL
            case Domain.FLOATS:
                return dtype.is_float
            case Domain.INTEGERS:
                return not dtype.is_float
            case Domain.TRUTHS:
                return dtype is DType.BOOL
        return True


class ReduceOp(enum.IntEnum):
    """Reductions. MAX and MIN propagate NaN."""

    SUM = 0
    MEAN = 1
    MAX = 2
    MIN = 3
    PROD = 4


class ScatterOp(enum.IntEnum):
    """What SCATTER makes of an element and what is put there. MAX and MIN propagate NaN."""

    SET = 0
    ADD = 1
    MUL = 2
    MAX = 3
    MIN = 4


class ScanOp(enum.IntEnum):
    """What SCAN makes of the elements so far and the next one. MAX and MIN keep a NaN, and of equal values the later;
    LOGADDEXP is log(exp(a) + exp(b))."""

    SUM = 0
    PROD = 1
    MAX = 2
    MIN = 3
    LOGADDEXP = 4


class PoolMode(enum.IntEnum):
    """Window functions of POOL2D. ADAPTIVE_AVG derives each window from the input and output sizes."""

    MAX = 0
    AVG = 1
    ADAPTIVE_AVG = 2


class Status(enum.IntEnum):
    """Result of a command, on the device (ERR_CODE) and from a CPU kernel.

    The address to blame is the index itself where GATHER or SCATTER end with INDEX.
    """

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
    DIVISION = 13


class OperandFlag(enum.IntFlag):
    """Bits of an operand's ``flags``. An operand that is all zero is absent."""

    PRESENT = 1


COMMAND_KINDS = tuple(o.name.lower() for o in Opcode if o not in (Opcode.BARRIER, Opcode.HOST))
"""Commands that compute, by the names that the hardware file gives them."""
ACTIVATIONS = tuple(a.name.lower() for a in Activation if a is not Activation.NONE)
"""Activations by the names that the hardware file gives them."""
