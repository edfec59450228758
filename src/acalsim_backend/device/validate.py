"""Decides whether bytes in guest memory are a command that can be executed without harm, before anything is executed.

Guest memory is not trusted: a command may be damaged or come from hand-written code. What passes here has operands
inside RAM, aligned, of agreeing shapes and of data types that the command takes, and needs bounded memory and time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from acalsim_backend.device.memory import Memory
from acalsim_backend.errors import ProgramError
from acalsim_backend.program.commands import (
    COMMANDS,
    HEADER,
    HEADER_SIZE,
    MAX_VECTOR_REGISTERS,
    Command,
    Conv2d,
    Copy,
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
    decode,
)
from acalsim_backend.program.enums import (
    ABI_VERSION,
    ALIGNMENT,
    MAX_RANK,
    Activation,
    DType,
    Opcode,
    OperandFlag,
    PoolMode,
    ReduceOp,
    ScanOp,
    ScatterOp,
    Status,
    VectorOp,
)
from acalsim_backend.program.layout import OPERAND_SIZE, Operand, Role
from acalsim_backend.program.view import View

MAX_COMMAND_BYTES = 1 << 20

_OPERAND_HEAD = struct.Struct("<QBBH")


class CommandError(Exception):
    """A command that cannot be executed: its ``status``, and the ``address`` if one is to blame (else 0)."""

    def __init__(self, status: Status, text: str, address: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.address = address


def read_command(memory: Memory, address: int) -> bytes:
    """The bytes of the command at ``address``.

    Raises:
        CommandError: header or size leave RAM, or the size cannot be one.
    """
    if address % 8:
        raise CommandError(Status.UNALIGNED, f"command at {address:#x}: not a multiple of 8", address)
    try:
        _, _, size, *_ = HEADER.unpack(memory.view(address, HEADER_SIZE).tobytes())
        if not HEADER_SIZE <= size <= MAX_COMMAND_BYTES or size % ALIGNMENT:
            raise CommandError(
                Status.BAD_SHAPE, f"command of {size} bytes: expected a multiple of {ALIGNMENT}", address
            )
        return memory.view(address, size).tobytes()
    except IndexError as error:
        raise CommandError(Status.BAD_ADDRESS, f"command at {address:#x}: {error}", address) from None


def validate(data: bytes, memory: Memory) -> Command:
    """Decode a command and check everything that its execution relies on.

    Raises:
        CommandError: with the status of the first rule that is broken.
    """
    command = _decode(data)
    for name, role, _, view in command.operands():
        _check_view(name, role, view, memory)
    check = _CHECKS.get(command.opcode)
    if check is not None:
        check(command, memory)
    return command


def _decode(data: bytes) -> Command:
    _check_head(data)
    try:
        command = decode(data)
        canonical = command.encode() == data
    except (ProgramError, ValueError, struct.error, OverflowError) as error:
        raise CommandError(Status.UNSUPPORTED, str(error)) from None
    for name, view in _required(command):
        if view is None:
            raise CommandError(Status.BAD_SHAPE, f"{name} is absent")
    if not canonical:
        raise CommandError(Status.UNSUPPORTED, "a reserved or unused byte is not 0")
    for dep in command.deps:
        if dep >= command.id:
            raise CommandError(Status.INDEX, f"depends on command {dep}, which does not come before it")
    return command


def _check_head(data: bytes) -> None:
    """What must be right for the bytes to be read as a command."""
    opcode, version, size, *_ = HEADER.unpack_from(data)
    if version != ABI_VERSION:
        raise CommandError(Status.BAD_VERSION, f"ABI version {version}, this device speaks {ABI_VERSION}")
    if opcode not in COMMANDS or opcode == Opcode.HOST:  # which the CPU hands to the host itself
        raise CommandError(Status.BAD_OPCODE, f"opcode {opcode} is not a command of this device")
    cls = COMMANDS[Opcode(opcode)]
    if size < cls.sizeof():
        raise CommandError(Status.BAD_SHAPE, f"{size} bytes do not hold a {Opcode(opcode).name}")
    for name, dtype, rank in _operand_heads(cls, data):
        if dtype >= len(DType):
            raise CommandError(Status.BAD_DTYPE, f"{name}: dtype {dtype} is not one of 0 to {len(DType) - 1}")
        if rank > MAX_RANK:
            raise CommandError(Status.BAD_RANK, f"{name}: rank {rank}, at most {MAX_RANK}")


def _operand_heads(cls: type[Command], data: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, dtype and rank of the operands that are present."""
    for f in cls.layout():
        if isinstance(f.kind, Operand):
            for i in range(max(f.length, 1)):
                _, dtype, rank, flags = _OPERAND_HEAD.unpack_from(data, f.offset + i * OPERAND_SIZE)
                if flags & OperandFlag.PRESENT:
                    yield f.name, dtype, rank


def _required(command: Command) -> Iterator[tuple[str, View | None]]:
    for f in command.layout():
        if isinstance(f.kind, Operand) and not f.kind.optional:
            value = getattr(command, f.name)
            yield from ((f.name, v) for v in (value if f.length else (value,)))


def _check_view(name: str, role: Role, view: View, memory: Memory) -> None:
    if view.zero_point:
        raise CommandError(Status.UNSUPPORTED, f"{name}: zero point {view.zero_point}, expected 0")
    if any(d < 0 for d in view.dims):
        raise CommandError(Status.BAD_SHAPE, f"{name}: dims {view.dims} are negative")
    if view.offset % view.dtype.itemsize:
        raise CommandError(
            Status.UNALIGNED, f"{name} at {view.offset:#x} is not aligned to {view.dtype.itemsize} bytes", view.offset
        )
    low, high = view.extent
    piece = memory.piece(low, high)
    if piece is None:
        raise CommandError(
            Status.BAD_ADDRESS,
            f"{name} {view.dims} at {view.offset:#x} covers {low:#x} to {high:#x}, outside RAM {memory.base:#x} to "
            f"{memory.base + memory.size:#x}",
            view.offset,
        )
    if view.numel > max(memory.size, piece.size):
        raise CommandError(Status.BAD_SHAPE, f"{name}: {view.numel} elements, more than RAM has bytes")
    if role is Role.OUT:
        if _overlaps_itself(view):
            raise CommandError(Status.BAD_SHAPE, f"{name}: elements of {view.dims} by {view.strides} overlap")
        if low < high and memory.is_protected(low, high):
            raise CommandError(
                Status.BAD_ADDRESS, f"{name} at {view.offset:#x} would overwrite code or weights", view.offset
            )


def _overlaps_itself(view: View) -> bool:
    reach = 0
    for stride, dim in sorted((abs(s), d) for s, d in zip(view.strides, view.dims, strict=True) if d > 1):
        if stride <= reach:
            return True
        reach += (dim - 1) * stride
    return False


def _shape(condition: bool, text: str) -> None:
    if not condition:
        raise CommandError(Status.BAD_SHAPE, text)


def _dtype(condition: bool, text: str) -> None:
    if not condition:
        raise CommandError(Status.BAD_DTYPE, text)


def _check_products(command: Gemm | Conv2d, a: View, b: View, bias: View | None, out: View) -> None:
    """Data types of what multiplies and accumulates."""
    narrow = {DType.U8, DType.I8}
    same = a.dtype == b.dtype or {a.dtype, b.dtype} <= narrow
    used = [v.dtype for v in (a, b, out, bias) if v is not None]
    kinds = {d.is_float for d in used}
    _dtype(same and len(kinds) == 1 and DType.BOOL not in used, f"{', '.join(d.name for d in used)} do not go together")
    _dtype(
        a.dtype.is_float or command.activation in (Activation.NONE, Activation.RELU),
        f"{command.activation.name} of integers",
    )


def _check_gemm(command: Gemm, _: Memory) -> None:
    a, b, out, bias = command.a, command.b, command.out, command.bias
    rank = len(out.dims)
    if rank < 2 or {len(v.dims) for v in (a, b, out)} != {rank}:
        raise CommandError(Status.BAD_RANK, f"ranks {len(a.dims)} @ {len(b.dims)} -> {rank}, expected one of 2 to 6")
    (*batch, m, n), k = out.dims, a.dims[-1]
    _shape(
        a.dims == (*batch, m, k) and b.dims == (*batch, k, n) and (bias is None or bias.dims == out.dims),
        f"{a.dims} @ {b.dims} -> {out.dims}",
    )
    _check_products(command, a, b, bias, out)


def _check_conv2d(command: Conv2d, memory: Memory) -> None:
    x, weight, out, bias = command.x, command.weight, command.out, command.bias
    if {len(v.dims) for v in (x, weight, out)} != {4} or (bias is not None and len(bias.dims) != 1):
        raise CommandError(Status.BAD_RANK, "x, weight and out have rank 4, bias has rank 1")
    n, c, *size = x.dims
    k, per_group, *kernel = weight.dims
    groups = command.groups
    _shape(
        groups >= 1
        and c == per_group * groups
        and k % groups == 0
        and out.dims[:2] == (n, k)
        and (bias is None or bias.dims == (k,)),
        f"{x.dims} * {weight.dims} in {groups} groups -> {out.dims}",
    )
    padded = n * c * x.dtype.itemsize
    for i in range(2):
        stride, dilation, padding = command.stride[i], command.dilation[i], command.padding[i]
        _shape(
            stride >= 1 and dilation >= 1 and padding >= 0 and kernel[i] >= 1,
            f"stride {stride}, dilation {dilation}, padding {padding}, kernel {kernel[i]}",
        )
        reach = (out.dims[2 + i] - 1) * stride + (kernel[i] - 1) * dilation + 1
        padded *= max(reach, size[i] + padding)
    _shape(padded <= memory.size, f"the padded input has {padded} bytes, more than RAM")
    _check_products(command, x, weight, bias, out)


def _check_vector(command: Vector, _: Memory) -> None:
    dims = {v.dims for v in command.inputs + command.outputs}
    _shape(len(dims) <= 1, f"operands of different dims: {sorted(dims)}")
    types: dict[int, DType] = {}
    stores = [i.op is VectorOp.STORE for i in command.instructions]
    _shape(stores == sorted(stores), "a STORE comes before another instruction")
    for number, i in enumerate(command.instructions):
        where = f"instruction {number} ({i.op.name})"
        read = i.reads
        for register in read:
            _shape(register in types, f"{where} reads register {register}, which nothing wrote")
        if i.op is VectorOp.STORE:
            _shape(i.dst < command.n_outputs, f"{where} stores to output {i.dst} of {command.n_outputs}")
            same = types[i.a] == i.dtype == command.outputs[i.dst].dtype
            _dtype(same, f"{where} of {types[i.a].name} as {i.dtype.name}")
            continue
        _shape(i.dst < MAX_VECTOR_REGISTERS, f"{where} writes register {i.dst} of {MAX_VECTOR_REGISTERS}")
        if i.op is VectorOp.LOAD:
            _shape(i.a < command.n_inputs, f"{where} loads input {i.a} of {command.n_inputs}")
            memory = command.inputs[i.a].dtype
            _dtype(memory == i.dtype, f"{where} of {memory.name} as {i.dtype.name}")
        elif i.op is not VectorOp.CONST:
            expected = _argument_types(i)
            got = tuple(types[r] for r in read)
            _dtype(
                got == expected and i.op.takes(i.dtype),
                f"{where} -> {i.dtype.name} of {', '.join(t.name for t in got)}",
            )
        types[i.dst] = i.dtype


def _argument_types(i: VectorInstruction) -> tuple[DType, ...]:
    if i.op is VectorOp.WHERE:
        return DType.BOOL, i.dtype, i.dtype
    source = i.src_dtype if i.op.compares or i.op is VectorOp.CAST else i.dtype
    return (source,) * i.op.arity


def _check_indices(indices: View | None, out: View, allowed: bool) -> None:
    if indices is not None:
        _shape(allowed and indices.dims == out.dims, f"indices {indices.dims} of an output {out.dims}")
        _dtype(indices.dtype is DType.I64, f"indices of {indices.dtype.name}, expected I64")


def _computed_as(dtype: DType) -> DType:
    """The type in which kernels compute with elements of a dtype."""
    if dtype is DType.F64:
        return dtype
    return DType.F32 if dtype.is_float else DType.I64


def _check_reduce(command: Reduce, _: Memory) -> None:
    x, out = command.x, command.out
    rank = len(x.dims)
    _shape(command.axes >> rank == 0, f"axes {command.axes:#b} of rank {rank}")
    reduced = [d for i, d in enumerate(x.dims) if command.axes >> i & 1]
    expected = tuple(1 if command.axes >> i & 1 else d for i, d in enumerate(x.dims))
    _shape(out.dims == expected, f"{x.dims} over axes {command.axes:#b} -> {out.dims}, expected {expected}")
    extreme = command.op in (ReduceOp.MAX, ReduceOp.MIN)
    _check_indices(command.indices, out, extreme and len(reduced) == 1)
    if extreme:
        _shape(0 not in reduced, "the extreme value of no elements")
        fits = x.dtype == out.dtype
    elif command.op is ReduceOp.MEAN:
        fits = x.dtype.is_float and _computed_as(x.dtype) == _computed_as(out.dtype)
    else:
        fits = _computed_as(x.dtype) == _computed_as(out.dtype) and out.dtype is not DType.BOOL
    _dtype(fits, f"{command.op.name} of {x.dtype.name} as {out.dtype.name}")


def _check_rows(command: Softmax | Norm, _: Memory) -> None:
    x, out = command.x, command.out
    if not x.dims:
        raise CommandError(Status.BAD_RANK, "rank 0, expected 1 to 6")
    _shape(x.dims == out.dims and x.dims[-1] > 0, f"{x.dims} -> {out.dims}")
    rows, columns = (*x.dims[:-1], 1), x.dims[-1:]
    if isinstance(command, Norm):
        for name in ("weight", "bias", "mean", "rstd"):
            view = getattr(command, name)
            expected = columns if name in ("weight", "bias") else rows
            _shape(view is None or view.dims == expected, f"{name} {view and view.dims}, expected {expected}")
    _dtype(all(v.dtype.is_float for v in command.reads() + command.writes()), "takes floating point alone")


def _check_pool2d(command: Pool2d, _: Memory) -> None:
    x, out = command.x, command.out
    if len(x.dims) != 4 or len(out.dims) != 4:
        raise CommandError(Status.BAD_RANK, "x and out have rank 4")
    _shape(x.dims[:2] == out.dims[:2] and 0 not in x.dims[2:], f"{x.dims} -> {out.dims}")
    is_max = command.mode is PoolMode.MAX
    _check_indices(command.indices, out, is_max)
    if command.mode is not PoolMode.ADAPTIVE_AVG:
        _shape(is_max or command.dilation == (1, 1), f"{command.mode.name} with dilation {command.dilation}")
        for i in range(2):
            _check_window(command, i)
    _dtype(
        x.dtype == out.dtype and x.dtype is not DType.BOOL if is_max else x.dtype.is_float and out.dtype.is_float,
        f"{command.mode.name} of {x.dtype.name} as {out.dtype.name}",
    )


def _check_window(command: Pool2d, axis: int) -> None:
    """Windows must start inside the input or its leading padding, and reach into the input."""
    size, count = command.x.dims[2 + axis], command.out.dims[2 + axis]
    kernel, stride = command.kernel[axis], command.stride[axis]
    padding, dilation = command.padding[axis], command.dilation[axis]
    positive = kernel >= 1 and stride >= 1 and dilation >= 1 and padding >= 0
    reach = (kernel - 1) * dilation
    _shape(
        positive
        and padding <= reach
        and reach < size + 2 * padding + stride
        and (count - 1) * stride < size + padding
        and command.divisor >= 0,
        f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation} on {size} -> {count}",
    )


def _check_copy(command: Copy, _: Memory) -> None:
    _shape(command.x.dims == command.out.dims, f"{command.x.dims} -> {command.out.dims}")


def _check_indexed(command: Gather | Scatter, _: Memory) -> None:
    table, rows = (command.x, command.out) if isinstance(command, Gather) else (command.out, command.x)
    _shape(command.n_indices >= 1, "no indices")
    places, batch, indexed = command.indices[0].dims, command.batch, command.batch + command.n_indices
    _shape(all(view.dims == places for view in command.indices), "indices of different dims")
    if not places or indexed > len(table.dims) or batch > len(places):
        raise CommandError(
            Status.BAD_RANK,
            f"{command.n_indices} indices behind {batch} axes of ranks {len(table.dims)}, {len(places)}",
        )
    _shape(
        table.dims[:batch] == places[:batch] and rows.dims == (*places, *table.dims[indexed:]),
        f"{table.dims} at {places} of axes {batch} to {indexed - 1}: {rows.dims}",
    )
    _dtype(all(v.dtype in (DType.I32, DType.I64) for v in command.indices), "indices are not I32 or I64")
    reduces = isinstance(command, Scatter) and command.op is not ScatterOp.SET
    _dtype(
        table.dtype == rows.dtype and not (reduces and table.dtype is DType.BOOL),
        f"{command.x.dtype.name} into {command.out.dtype.name}",
    )


def _check_axis(x: View, axis: int) -> None:
    if axis >= len(x.dims):
        raise CommandError(Status.BAD_RANK, f"axis {axis} of rank {len(x.dims)}")


def _check_scan(command: Scan, _: Memory) -> None:
    x, out = command.x, command.out
    _check_axis(x, command.axis)
    _shape(x.dims == out.dims, f"{x.dims} -> {out.dims}")
    extreme = command.op in (ScanOp.MAX, ScanOp.MIN)
    _check_indices(command.indices, out, extreme)
    if extreme:
        fits = x.dtype == out.dtype
    else:
        fits = _computed_as(x.dtype) == _computed_as(out.dtype) and out.dtype is not DType.BOOL
        fits = fits and (out.dtype.is_float or command.op is not ScanOp.LOGADDEXP)
    _dtype(fits, f"{command.op.name} of {x.dtype.name} as {out.dtype.name}")


def _check_sort(command: Sort, _: Memory) -> None:
    x, work, axis = command.x, command.work, command.axis
    _check_axis(x, axis)
    results = [view for view in (command.values, command.indices) if view is not None]
    _shape(bool(results), "neither values nor indices")
    for out in results:
        first = tuple(min(n, d) if i == axis else d for i, (n, d) in enumerate(zip(out.dims, x.dims, strict=False)))
        _shape(out.dims == first and len(out.dims) == len(x.dims), f"{x.dims} -> {out.dims}")
        _shape(out.dims == results[0].dims, f"values {results[0].dims}, indices {out.dims}")
    _shape(work.dims == (4 * x.dims[axis],) and work.strides == (1,), f"work {work.dims} for rows of {x.dims[axis]}")
    _dtype(work.dtype is DType.I64, f"work of {work.dtype.name}, expected I64")
    _dtype(command.values is None or command.values.dtype is x.dtype, f"values of {x.dtype.name} in another type")
    _dtype(command.indices is None or command.indices.dtype is DType.I64, "indices are not I64")


_CHECKS: dict[Opcode, Callable[[Any, Memory], None]] = {
    Opcode.GEMM: _check_gemm,
    Opcode.CONV2D: _check_conv2d,
    Opcode.VECTOR: _check_vector,
    Opcode.REDUCE: _check_reduce,
    Opcode.SOFTMAX: _check_rows,
    Opcode.NORM: _check_rows,
    Opcode.POOL2D: _check_pool2d,
    Opcode.COPY: _check_copy,
    Opcode.GATHER: _check_indexed,
    Opcode.SCATTER: _check_indexed,
    Opcode.SCAN: _check_scan,
    Opcode.SORT: _check_sort,
}
