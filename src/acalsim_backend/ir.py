"""ACALSim IR: a flat list of named tensors and operations, printed as the tutorial prints it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from acalsim_backend.errors import ProgramError
from acalsim_backend.program.enums import DType

DTYPES: dict[str, DType] = {dtype.long_name: dtype for dtype in DType}
"""PyTorch's names of the element types that guest memory can hold."""


class ACALSimOpType(Enum):
    """Operations of the IR. VECTOR is a fused group of pointwise operations, HOST any ATen operator run by PyTorch.

    LOAD and STORE are other names of COPY, CUSTOM is one of HOST. ALLOC is memory with zeros in it; SYNC ends all that
    stands before it before anything behind it begins.
    """

    ADD = auto()
    SUB = auto()
    MUL = auto()
    DIV = auto()
    NEG = auto()
    ABS = auto()
    MINIMUM = auto()
    MAXIMUM = auto()
    CLAMP = auto()
    POW = auto()
    EXP = auto()
    LOG = auto()
    SQRT = auto()
    RSQRT = auto()
    RECIPROCAL = auto()
    SIN = auto()
    COS = auto()
    ERF = auto()
    FLOOR = auto()
    CEIL = auto()
    EQ = auto()
    NE = auto()
    LT = auto()
    LE = auto()
    GT = auto()
    GE = auto()
    LOGICAL_AND = auto()
    LOGICAL_OR = auto()
    LOGICAL_XOR = auto()
    LOGICAL_NOT = auto()
    BITWISE_AND = auto()
    BITWISE_OR = auto()
    BITWISE_XOR = auto()
    BITWISE_NOT = auto()
    WHERE = auto()
    TRUNC = auto()
    ROUND = auto()
    SIGN = auto()
    SIGNBIT = auto()
    ISNAN = auto()
    ISINF = auto()
    FMOD = auto()
    REMAINDER = auto()
    FMIN = auto()
    FMAX = auto()
    SHIFT_LEFT = auto()
    SHIFT_RIGHT = auto()
    GCD = auto()
    COPYSIGN = auto()
    NEXTAFTER = auto()
    HYPOT = auto()
    EXP2 = auto()
    EXPM1 = auto()
    LOG2 = auto()
    LOG10 = auto()
    LOG1P = auto()
    TAN = auto()
    ASIN = auto()
    ACOS = auto()
    ATAN = auto()
    SINH = auto()
    COSH = auto()
    ASINH = auto()
    ACOSH = auto()
    ATANH = auto()
    ERFC = auto()
    ERFCX = auto()
    ERFINV = auto()
    LGAMMA = auto()
    DIGAMMA = auto()
    I0 = auto()
    I0E = auto()
    I1 = auto()
    I1E = auto()
    ATAN2 = auto()
    CAST = auto()
    RELU = auto()
    SIGMOID = auto()
    TANH = auto()
    GELU = auto()
    MATMUL = auto()
    GEMM = auto()
    GROUPED_MATMUL = auto()
    CONV2D = auto()
    SOFTMAX = auto()
    LOG_SOFTMAX = auto()
    BATCH_NORM = auto()
    LAYER_NORM = auto()
    SUM = auto()
    MEAN = auto()
    MAX = auto()
    MIN = auto()
    PROD = auto()
    ANY = auto()
    ARGMAX = auto()
    ARGMIN = auto()
    CUMSUM = auto()
    CUMPROD = auto()
    CUMMAX = auto()
    CUMMIN = auto()
    LOGCUMSUMEXP = auto()
    SORT = auto()
    TOPK = auto()
    MAX_POOL2D = auto()
    AVG_POOL2D = auto()
    ADAPTIVE_AVG_POOL2D = auto()
    RESHAPE = auto()
    FLATTEN = auto()
    UNSQUEEZE = auto()
    SQUEEZE = auto()
    PERMUTE = auto()
    TRANSPOSE = auto()
    EXPAND = auto()
    SLICE = auto()
    SELECT = auto()
    DIAGONAL = auto()
    UNFOLD = auto()
    SPLIT = auto()
    FLIP = auto()
    AS_STRIDED = auto()
    AS_STRIDED_SCATTER = auto()
    EMBEDDING = auto()
    INDEX = auto()
    INDEX_SELECT = auto()
    INDEX_PUT = auto()
    INDEX_REDUCE = auto()
    GATHER = auto()
    SCATTER = auto()
    SLICE_SCATTER = auto()
    DIAGONAL_SCATTER = auto()
    COPY = auto()
    LOAD = COPY
    STORE = COPY  # noqa: PIE796  # two names of one thing
    CAT = auto()
    REPEAT = auto()
    PAD = auto()
    FULL = auto()
    ALLOC = auto()
    NOP = auto()
    SYNC = auto()
    VECTOR = auto()
    HOST = auto()
    CUSTOM = HOST


FX_TO_ACALSIM_OP: dict[str, ACALSimOpType] = {
    **{name.lower(): member for name, member in ACALSimOpType.__members__.items()},
    "mm": ACALSimOpType.MATMUL,
    "bmm": ACALSimOpType.MATMUL,
    "linear": ACALSimOpType.GEMM,
    "addmm": ACALSimOpType.GEMM,
    "baddbmm": ACALSimOpType.GEMM,
    "view": ACALSimOpType.RESHAPE,
    "clone": ACALSimOpType.COPY,
}
"""Operator names of FX graphs, without namespace and overload; for overloads ask the classes in ``ops/``."""


def get_acalsim_op_type(fx_op_name: str) -> ACALSimOpType:
    """The type of "add", "aten.add", "aten::add" or "add.Tensor"; CUSTOM for what PyTorch itself has to run."""
    name = re.sub(r"^aten(\.|::)", "", fx_op_name).partition(".")[0]
    return FX_TO_ACALSIM_OP.get(name, ACALSimOpType.CUSTOM)


@dataclass
class TensorDesc:
    """A tensor of the IR. ``dtype`` is PyTorch's name; a tensor may be input and output at once.

    ``memory_addr`` is the guest address in generated C, of tensors that lie in memory there and not inside a fused
    command; code generation assigns it. ``strides`` are PyTorch's, in elements, where they are not those of dense
    row-major memory: what operators see that ask for memory instead of values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    is_input: bool = False
    is_output: bool = False
    is_param: bool = False
    memory_addr: int | None = None
    strides: tuple[int, ...] | None = None

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the elements, dense."""
        return self.numel * DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        mark = " [input]" if self.is_input else " [param]" if self.is_param else " [output]" if self.is_output else ""
        return f"{self.name}: {self.shape} {self.dtype}{mark}"


@dataclass
class ACALSimOp:
    """One operation.

    ``inputs`` are tensor names and ``roles`` the ATen argument that each one is ("self", "weight", "tensors.0");
    arguments that are not tensors stand in ``attrs`` under their ATen names, unless they are ATen's defaults.
    ``outputs`` are the results that somebody uses, ``results`` their positions in the ATen return. ``target`` is the
    ATen overload ("aten.add.Tensor"); ``compute`` the dtype to which PyTorch promotes the arguments of a pointwise
    operation. ``covers`` are the indices of the captured operations that this one stands for; ``body`` is a fused
    group's content. ``compute_cycles`` are its floating-point operations, the cycles of a machine that does one in a
    cycle, and ``memory_cycles`` what the caller adds for memory; what a real machine takes is the engine's to say.
    """

    op_type: ACALSimOpType
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    compute_cycles: int = 0
    memory_cycles: int = 0
    roles: list[str] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    target: str = ""
    compute: str = ""
    module: str = ""
    source: str = ""
    covers: tuple[int, ...] = ()
    body: tuple[ACALSimOp, ...] = ()

    def input(self, role: str) -> str | None:
        """The tensor that plays ``role``, or None."""
        return self.inputs[self.roles.index(role)] if role in self.roles else None

    def output(self, result: int = 0) -> str | None:
        """The tensor of ATen result ``result``, or None if nobody uses it."""
        return self.outputs[self.results.index(result)] if result in self.results else None

    def rename(self, names: dict[str, str]) -> ACALSimOp:
        """A copy with tensors renamed."""
        return replace(
            self,
            inputs=[names.get(n, n) for n in self.inputs],
            outputs=[names.get(n, n) for n in self.outputs],
            body=tuple(op.rename(names) for op in self.body),
        )

    def __str__(self) -> str:
        text = f"{', '.join(self.outputs)} = {self.op_type.name}({', '.join(self.inputs)})"
        if self.body:
            text += " { " + "; ".join(str(op) for op in self.body) + " }"
        if self.attrs:
            text += " {" + ", ".join(f"{k}={_shown(v)}" for k, v in self.attrs.items()) + "}"
        return text


def _shown(value: Any) -> str:
    """An attribute as text; a string without quotation marks where nothing else could be meant."""
    if isinstance(value, str) and (not value.isidentifier() or value in ("True", "False", "None", "inf", "nan")):
        return repr(value)
    return str(value)


@dataclass
class ACALSimIR:
    """A graph: tensors by name, operations in execution order, and the caller's view of its inputs and outputs.

    ``input_names`` and ``output_names`` are in the caller's order. ``constants`` are torch tensors or NumPy arrays.
    ``arguments`` maps inputs, and parameters and buffers whose values do not stand in ``constants``, to their positions
    among the graph's arguments. ``mutations`` pairs an input with the tensor that has to be written back to it after a
    run. ``prepare`` computes tensors named in ``prepared`` from parameters alone. ``examples`` are the graph's
    arguments at its capture, where their values are known: what generated C takes weights and example inputs from.
    ``is_complete`` says that every operation is as PyTorch has it: true of what was captured or completed, and not of
    what was written by hand, or added to since.
    """

    name: str
    tensors: dict[str, TensorDesc] = field(default_factory=dict)
    ops: list[ACALSimOp] = field(default_factory=list)
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, int] = field(default_factory=dict)
    mutations: list[tuple[str, str]] = field(default_factory=list)
    prepare: ACALSimIR | None = None
    prepared: tuple[str, ...] = ()
    examples: tuple[Any, ...] = field(default=(), repr=False)
    is_complete: bool = field(default=False, repr=False, compare=False)

    def add_tensor(self, desc: TensorDesc) -> TensorDesc:
        """Enter a tensor; its name must be new."""
        if desc.name in self.tensors:
            raise ProgramError(f"{self.name}: tensor {desc.name} is defined twice")
        self.tensors[desc.name] = desc
        return desc

    def add_op(self, op: ACALSimOp) -> ACALSimOp:
        """Append an operation whose tensors are known."""
        op.covers = op.covers or (len(self.ops),)
        self.ops.append(op)
        self.is_complete = False
        return op

    def get_tensor(self, name: str) -> TensorDesc | None:
        """The tensor of that name, or None."""
        return self.tensors.get(name)

    def estimate_cycles(self) -> int:
        """Sum of the operations' own estimates."""
        return sum(op.compute_cycles + op.memory_cycles for op in self.ops)

    def estimate_memory(self) -> int:
        """Bytes of all tensors, as if each had memory of its own."""
        return sum(desc.size_bytes for desc in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """About what it takes in memory, in bytes: constants, and some KiB per operation and its tensors."""
        return 4096 * len(self.ops) + sum(int(c.nbytes) for c in self.constants.values())

    def users(self) -> dict[str, list[ACALSimOp]]:
        """Operations that read each tensor."""
        users: dict[str, list[ACALSimOp]] = {name: [] for name in self.tensors}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                users[name].append(op)
        return users

    def producers(self) -> dict[str, ACALSimOp]:
        """The operation that writes each tensor."""
        return {name: op for op in self.ops for name in op.outputs}

    def escaping(self) -> set[str]:
        """Tensors that must exist after the run: outputs and the sources of mutations."""
        return {*self.output_names, *(value for _, value in self.mutations)}

    def fresh(self, prefix: str, like: TensorDesc | None = None, **changes: Any) -> TensorDesc:
        """Enter a tensor with an unused name, shaped like another one unless told otherwise."""
        number = len(self.tensors)
        while f"{prefix}_{number}" in self.tensors:
            number += 1
        base = like or TensorDesc("", ())
        plain = {"is_input": False, "is_output": False, "is_param": False, "memory_addr": None, "strides": None}
        return self.add_tensor(replace(base, **{**plain, **changes, "name": f"{prefix}_{number}"}))

    def verify(self) -> None:
        """Check that names resolve, that values are defined before use and defined once.

        Raises:
            ProgramError: the first rule that is broken, with the operation's text.
        """
        defined = {n for n, t in self.tensors.items() if t.is_input or t.is_param} | set(self.constants)
        defined |= set(self.prepared)
        for op in self.ops:
            for name in op.inputs:
                if name not in defined:
                    raise ProgramError(f"{self.name}: {op} reads {name}, which nothing before it defines")
            for name in op.outputs:
                if name not in self.tensors:
                    raise ProgramError(f"{self.name}: {op} writes {name}, which is not in the tensor table")
                if name in defined:
                    raise ProgramError(f"{self.name}: {op} writes {name}, which is already defined")
                defined.add(name)
            if len(op.roles) not in (0, len(op.inputs)) or len(op.results) not in (0, len(op.outputs)):
                raise ProgramError(f"{self.name}: {op} has {len(op.inputs)} inputs with {len(op.roles)} roles")
        for name in self.escaping():
            if name not in defined:
                raise ProgramError(f"{self.name}: output {name} is never defined")

    def lines(self) -> Iterator[str]:
        """The text form."""
        yield f"=== ACALSim IR: {self.name} ===\n"
        yield "Tensors:"
        yield from (f"  {t}" for t in self.tensors.values())
        yield "\nOperations:"
        yield from (f"  {i}: {op}" for i, op in enumerate(self.ops))
        yield f"\nInputs: {self.input_names}"
        yield f"Outputs: {self.output_names}"
        if self.mutations:
            yield f"Mutations: {self.mutations}"
        if self.prepare is not None:
            yield f"\nPrepared: {list(self.prepared)}"
            yield from self.prepare.lines()

    def print_ir(self) -> str:
        """The text form, as ``str(ir)``."""
        return "\n".join(self.lines())

    __str__ = print_ir
