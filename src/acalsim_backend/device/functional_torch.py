"""Commands as PyTorch operations on zero-copy views of guest RAM."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as nn
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from acalsim_backend.device.functional import Task
from acalsim_backend.device.memory import Memory
from acalsim_backend.device.validate import arguments
from acalsim_backend.device.vector_plan import Into, Over, Storage, distinct_dims, plan_storage
from acalsim_backend.program.abi import Activation, DType, Opcode, PoolMode, ReduceOp, VectorOp, View
from acalsim_backend.program.commands import (
    Barrier,
    Command,
    Conv2d,
    Copy,
    Fill,
    Gemm,
    Norm,
    Pool2d,
    Reduce,
    Softmax,
    Vector,
    VectorInstruction,
)

TORCH_DTYPES: dict[DType, torch.dtype] = {
    DType.BOOL: torch.bool,
    DType.U8: torch.uint8,
    DType.I8: torch.int8,
    DType.I16: torch.int16,
    DType.I32: torch.int32,
    DType.I64: torch.int64,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.F32: torch.float32,
    DType.F64: torch.float64,
}

# Private in PyTorch's Python API, but the only names of these functions that take ``out``.
_gelu: Callable[..., Tensor] = torch._C._nn.gelu
_max_pool2d: Callable[..., Any] = torch._C._nn.max_pool2d_with_indices
_avg_pool2d: Callable[..., Tensor] = torch._C._nn.avg_pool2d
_adaptive_avg_pool2d: Callable[..., Tensor] = torch._C._nn.adaptive_avg_pool2d


def _relu(value: Tensor, *, out: Tensor | None = None) -> Tensor:
    return torch.clamp_min(value, 0, out=out)


def _gelu_erf(value: Tensor, *, out: Tensor | None = None) -> Tensor:
    return _gelu(value, approximate="none", out=out)


def _gelu_tanh(value: Tensor, *, out: Tensor | None = None) -> Tensor:
    return _gelu(value, approximate="tanh", out=out)


def _minimum(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The second of equal zeros: torch.minimum gives either, depending on how many elements there are."""
    return torch.minimum(a, b, out=out) if a.dim() or a.dtype is torch.bool else torch.clamp_max(b, a.item(), out=out)


def _maximum(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """As :func:`_minimum`."""
    return torch.maximum(a, b, out=out) if a.dim() or a.dtype is torch.bool else torch.clamp_min(b, a.item(), out=out)


_ACTIVATIONS: dict[Activation, Callable[..., Tensor]] = {
    Activation.RELU: _relu,
    Activation.GELU: _gelu_erf,
    Activation.GELU_TANH: _gelu_tanh,
    Activation.SIGMOID: torch.sigmoid,
    Activation.TANH: torch.tanh,
}

_VECTOR_FUNCTIONS: dict[VectorOp, Callable[..., Tensor]] = {
    VectorOp.ADD: torch.add,
    VectorOp.SUB: torch.sub,
    VectorOp.MUL: torch.mul,
    VectorOp.DIV: torch.div,
    VectorOp.NEG: torch.neg,
    VectorOp.ABS: torch.abs,
    VectorOp.MIN: _minimum,
    VectorOp.MAX: _maximum,
    VectorOp.RELU: _relu,
    VectorOp.EXP: torch.exp,
    VectorOp.LOG: torch.log,
    VectorOp.SQRT: torch.sqrt,
    VectorOp.RSQRT: torch.rsqrt,
    VectorOp.RECIPROCAL: torch.reciprocal,
    VectorOp.TANH: torch.tanh,
    VectorOp.SIGMOID: torch.sigmoid,
    VectorOp.ERF: torch.erf,
    VectorOp.GELU: _gelu_erf,
    VectorOp.GELU_TANH: _gelu_tanh,
    VectorOp.POW: torch.pow,
    VectorOp.SIN: torch.sin,
    VectorOp.COS: torch.cos,
    VectorOp.FLOOR: torch.floor,
    VectorOp.CEIL: torch.ceil,
    VectorOp.EQ: torch.eq,
    VectorOp.NE: torch.ne,
    VectorOp.LT: torch.lt,
    VectorOp.LE: torch.le,
    VectorOp.GT: torch.gt,
    VectorOp.GE: torch.ge,
    VectorOp.AND: torch.bitwise_and,
    VectorOp.OR: torch.bitwise_or,
    VectorOp.XOR: torch.bitwise_xor,
    VectorOp.NOT: torch.bitwise_not,
    VectorOp.WHERE: torch.where,
}


class TorchFunctional:
    """See :class:`acalsim_backend.device.functional.Functional`."""

    name = "torch"

    def __init__(self, memory: Memory) -> None:
        with self.scope():
            ram = torch.from_numpy(memory.array)
            self._flat = {dtype: ram.view(t) for dtype, t in TORCH_DTYPES.items()}
        self._base = memory.base

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """No autograd, and none of the dispatch modes that a compiler above may have entered."""
        with torch.no_grad(), _disable_current_modes():
            yield

    def prepare(self, command: Command, data: bytes) -> Task:
        """The task of a validated command."""
        del data
        if all(view.numel == 0 for view in command.writes()):
            return _nothing
        with self.scope():
            operands = _Operands(self._flat, self._base)
            return operands.wrap(_TASKS[command.opcode](command, operands))


def _nothing() -> None:
    pass


class _Operands:
    """Tensors on RAM for the views of one command.

    PyTorch has no negative strides: such operands go through a copy before or after the task, which ``wrap`` adds.
    """

    def __init__(self, flat: dict[DType, Tensor], base: int) -> None:
        self._flat = flat
        self._base = base
        self._before: list[Task] = []
        self._after: list[Task] = []

    def read(self, view: View) -> Tensor:
        """The operand as it is when the task runs."""
        tensor, flipped = self._ascending(view, view.dims)
        if not flipped:
            return tensor
        copy = torch.empty(view.dims, dtype=tensor.dtype)
        self._before.append(lambda: copy.copy_(tensor.flip(flipped)))
        return copy

    def read_distinct(self, view: View) -> Tensor:
        """The operand with broadcast axes of size 1, so that nothing is computed twice."""
        dims = distinct_dims(view)
        return self.read(View(view.tensor, view.dtype, dims, view.strides, view.offset))

    def write(self, view: View) -> Tensor:
        """A tensor that the task overwrites."""
        tensor, flipped = self._ascending(view, view.dims)
        if not flipped:
            return tensor
        copy = torch.empty(view.dims, dtype=tensor.dtype)
        self._after.append(lambda: tensor.copy_(copy.flip(flipped)))
        return copy

    def wrap(self, task: Task) -> Task:
        """The task with the copies around it."""
        return _sequence([*self._before, task, *self._after])

    def _ascending(self, view: View, dims: Sequence[int]) -> tuple[Tensor, list[int]]:
        """The elements with every stride made positive, and the axes along which that turned them round."""
        flipped = [i for i, (d, s) in enumerate(zip(dims, view.strides, strict=True)) if s < 0 and d > 1]
        first = (view.offset - self._base) // view.dtype.itemsize
        first += sum((dims[i] - 1) * view.strides[i] for i in flipped)
        strides = [abs(s) for s in view.strides]
        return torch.as_strided(self._flat[view.dtype], tuple(dims), strides, first), flipped


def _sequence(tasks: Sequence[Task]) -> Task:
    if len(tasks) == 1:
        return tasks[0]

    def run() -> None:
        for task in tasks:
            task()

    return run


# --- matrix products and convolutions -----------------------------------------------------------------------------


def _wide(*views: View) -> torch.dtype:
    """What operands of different data types are converted to, wide enough for exact products and long sums."""
    dtypes = {v.dtype for v in views}
    if views[0].dtype.is_float:
        return torch.float64 if DType.F64 in dtypes else torch.float32
    return torch.float64 if dtypes <= {DType.U8, DType.I8} else torch.int64


def _finish(value: Tensor, activation: Activation, out: Tensor) -> None:
    """Round to out's dtype (integers wrap around), then apply the activation."""
    if value.dtype != out.dtype:
        if value.is_floating_point() and not out.is_floating_point():
            value = value.to(torch.int64)
        value = value.to(out.dtype)
    if activation in _ACTIVATIONS:
        _ACTIVATIONS[activation](value, out=out)
    elif value is not out:
        out.copy_(value)


def _gemm(command: Gemm, operands: _Operands) -> Task:
    a, b, out = operands.read(command.a), operands.read(command.b), operands.write(command.out)
    bias = operands.read(command.bias) if command.bias else None
    alpha, beta, activation = command.alpha, command.beta, command.activation
    if out.is_floating_point() and len({t.dtype for t in (a, b, out, bias) if t is not None}) == 1:
        tasks = [_product(*operand, alpha, beta) for operand in _matrices(a, b, out, bias)]
        if activation in _ACTIVATIONS:
            function = _ACTIVATIONS[activation]
            tasks.append(lambda: function(out, out=out))
        return _sequence(tasks)
    wide = _wide(command.a, command.b)

    def run() -> None:
        value = torch.matmul(a.to(wide), b.to(wide))
        if alpha != 1:
            value = value * alpha
        if bias is not None:
            value = value + (bias.to(wide) if beta == 1 else bias.to(wide) * beta)
        _finish(value, activation, out)

    return run


def _product(a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None, alpha: float, beta: float) -> Task:
    """A product of matrices or of stacks of them, in one data type, straight into ``out``."""
    stacked = out.dim() == 3
    if bias is None and alpha == 1:
        multiply = torch.bmm if stacked else torch.mm
        return lambda: multiply(a, b, out=out)
    add: Callable[..., Tensor] = torch.baddbmm if stacked else torch.addmm
    start, scale = (out, 0.0) if bias is None else (bias, beta)
    return lambda: add(start, a, b, beta=scale, alpha=alpha, out=out)


def _matrices(
    a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """The batch split into as few products as strides allow: PyTorch takes one batch dimension and copies for more."""
    operands = [a, b, out] if bias is None else [a, b, out, bias]
    batch = [i for i in range(out.dim() - 2) if out.shape[i] > 1]
    dims = [out.shape[i] for i in batch]
    strides = [[t.stride(i) for i in batch] for t in operands]
    for i in reversed(range(len(dims) - 1)):  # merge what is contiguous in every operand
        if all(s[i] == s[i + 1] * dims[i + 1] for s in strides):
            dims[i : i + 2] = [dims[i] * dims[i + 1]]
            for s in strides:
                del s[i]
    outer = dims[:-1]
    shared = (
        bool(dims)
        and strides[1][-1] == 0
        and all(
            s[-1] == t.stride(-2) * t.shape[-2] or t.shape[-2] == 1
            for s, t in zip(strides, operands, strict=True)
            if t is not b
        )
    )

    def matrix(t: Tensor, s: list[int], index: tuple[int, ...]) -> Tensor:
        first = t.storage_offset() + sum(i * step for i, step in zip(index, s, strict=False))
        (rows, columns), (down, across) = t.shape[-2:], t.stride()[-2:]
        if shared and t is not b:  # one matrix b for all: the stack is one tall matrix
            return torch.as_strided(t, (dims[-1] * rows, columns), (s[-1] if rows == 1 else down, across), first)
        if dims and not shared:
            return torch.as_strided(t, (dims[-1], rows, columns), (s[-1], down, across), first)
        return torch.as_strided(t, (rows, columns), (down, across), first)

    for index in itertools.product(*(range(d) for d in outer)):
        pa, pb, po, *pbias = (matrix(t, s, index) for t, s in zip(operands, strides, strict=True))
        yield pa, pb, po, pbias[0] if pbias else None


def _conv2d(command: Conv2d, operands: _Operands) -> Task:
    x, weight, out = operands.read(command.x), operands.read(command.weight), operands.write(command.out)
    bias = operands.read(command.bias) if command.bias else None
    stride, dilation, groups, activation = command.stride, command.dilation, command.groups, command.activation
    padding: tuple[int, int] = command.padding
    kernel, size, result = weight.shape[2:], x.shape[2:], out.shape[2:]
    reach = [(result[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in (0, 1)]
    edges: list[int] = []  # explicit padding where bottom and right differ from top and left
    if any((size[i] + 2 * padding[i] - reach[i]) not in range(stride[i]) for i in (0, 1)):
        used = [max(min(reach[i] - padding[i], size[i]), 0) for i in (0, 1)]
        x = x[:, :, : used[0], : used[1]]
        top, left = (min(padding[i], reach[i]) for i in (0, 1))
        edges = [left, reach[1] - left - used[1], top, reach[0] - top - used[0]]
        padding = (0, 0)
    same = len({t.dtype for t in (x, weight, out, bias) if t is not None}) == 1
    wide = out.dtype if same and out.is_floating_point() else _wide(command.x, command.weight)

    def run() -> None:
        source, filters = x.to(wide), weight.to(wide)
        start = None if bias is None else bias.to(wide)
        if edges:
            source = nn.pad(source, edges)
        if wide is torch.int64:
            value = _integer_conv2d(source, filters, stride, padding, dilation, groups, (result[0], result[1]))
            value = value if start is None else value + start.view(-1, 1, 1)
        else:
            value = torch.conv2d(source, filters, start, stride, padding, dilation, groups)
        _finish(value, activation, out)

    return run


def _integer_conv2d(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    result: tuple[int, int],
) -> Tensor:
    """conv2d modulo 2^64, which PyTorch does not have."""
    n, k = x.shape[0], weight.shape[0]
    per_group, *kernel = weight.shape[1:]
    padded = nn.pad(x, (padding[1], padding[1], padding[0], padding[0])).contiguous()
    windows = _windows(padded, (kernel[0], kernel[1]), stride, dilation, result)  # [N, C, P, Q, R, S]
    columns = windows.reshape(n, groups, per_group, *result, -1).permute(0, 1, 2, 5, 3, 4)
    columns = columns.reshape(n, groups, per_group * kernel[0] * kernel[1], -1)
    return torch.matmul(weight.reshape(groups, k // groups, -1), columns).reshape(n, k, *result)


def _windows(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], result: tuple[int, int]
) -> Tensor:
    """All windows of x [N, C, H, W] as a view [N, C, P, Q, R, S]."""
    n, c, h, w = x.stride()
    strides = (n, c, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1])
    return torch.as_strided(x, (*x.shape[:2], *result, *kernel), strides, x.storage_offset())


# --- elementwise --------------------------------------------------------------------------------------------------


def _vector(command: Vector, operands: _Operands) -> Task:
    inputs = [operands.read_distinct(v) for v in command.inputs]
    outputs = [operands.write(v) for v in command.outputs]
    registers: dict[int, Tensor] = {}
    steps = [
        step
        for instruction, storage in zip(command.instructions, plan_storage(command), strict=True)
        if (step := _step(instruction, storage, registers, inputs, outputs)) is not None
    ]

    def run() -> None:
        for step in steps:
            step()
        registers.clear()

    return run


def _step(
    i: VectorInstruction,
    storage: Storage | None,
    registers: dict[int, Tensor],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> Task | None:
    """One micro-instruction over the whole iteration space; None where there is nothing to do."""
    dst = i.dst
    if i.op is VectorOp.LOAD or i.op is VectorOp.CONST:
        value = inputs[i.a] if i.op is VectorOp.LOAD else _scalar(i.imm, i.dtype)
        if storage is None:
            return lambda: registers.__setitem__(dst, value)
        return lambda: registers.__setitem__(dst, value.clone())
    if i.op is VectorOp.STORE:
        a, out = i.a, outputs[dst]
        return None if storage is None else lambda: out.copy_(registers[a])
    if i.op is VectorOp.CAST:
        return _cast_step(i, storage, registers, outputs)
    function, read = _VECTOR_FUNCTIONS[i.op], arguments(i)

    def run() -> None:
        out = None
        if isinstance(storage, Into):
            out = outputs[storage.output]
        elif isinstance(storage, Over):
            out = registers[storage.register]
        registers[dst] = function(*[registers[r] for r in read], out=out)

    return run


def _cast_step(
    i: VectorInstruction, storage: Storage | None, registers: dict[int, Tensor], outputs: Sequence[Tensor]
) -> Task:
    a, dst, dtype = i.a, i.dst, TORCH_DTYPES[i.dtype]
    if isinstance(storage, Into):
        out = outputs[storage.output]
        return lambda: registers.__setitem__(dst, out.copy_(registers[a]))
    return lambda: registers.__setitem__(dst, registers[a].to(dtype, copy=True))


def _scalar(bits: int, dtype: DType) -> Tensor:
    """A 0-dimensional tensor from the bits of an f64 or i64."""
    value = struct.unpack("<d" if dtype.is_float else "<q", bits.to_bytes(8, "little"))[0]
    return torch.tensor(value, dtype=torch.float64 if dtype.is_float else torch.int64).to(TORCH_DTYPES[dtype])


def _copy(command: Copy, operands: _Operands) -> Task:
    x, out = operands.read(command.x), operands.write(command.out)
    return lambda: out.copy_(x)


def _fill(command: Fill, operands: _Operands) -> Task:
    out, value = operands.write(command.out), _scalar(command.value, command.out.dtype)
    return lambda: out.copy_(value)


def _barrier(command: Barrier, operands: _Operands) -> Task:
    return _nothing


# --- rows ---------------------------------------------------------------------------------------------------------


def _reduce(command: Reduce, operands: _Operands) -> Task:
    x, out = operands.read(command.x), operands.write(command.out)
    axes = [i for i in range(x.dim()) if command.axes >> i & 1]
    if command.indices is not None:
        indices = operands.write(command.indices)
        extreme = torch.max if command.op is ReduceOp.MAX else torch.min
        return lambda: extreme(x, axes[0], keepdim=True, out=(out, indices))
    if not axes:
        return lambda: out.copy_(x)
    if command.op in (ReduceOp.SUM, ReduceOp.MEAN):
        function = torch.sum if command.op is ReduceOp.SUM else torch.mean
        if x.dtype == out.dtype:
            return lambda: function(x, axes, keepdim=True, out=out)
        wide = _wide(command.x, command.out) if x.is_floating_point() else torch.int64
        return lambda: out.copy_(function(x, axes, keepdim=True, dtype=wide))
    bound = torch.amax if command.op is ReduceOp.MAX else torch.amin
    return lambda: bound(x, axes, keepdim=True, out=out)


def _softmax(command: Softmax, operands: _Operands) -> Task:
    x, out = operands.read(command.x), operands.write(command.out)
    function: Callable[..., Tensor] = torch.log_softmax if command.log else torch.softmax
    if x.dtype == out.dtype:
        return lambda: function(x, -1, out=out)
    wide = _wide(command.x, command.out)
    return lambda: out.copy_(function(x.to(wide), -1))


def _norm(command: Norm, operands: _Operands) -> Task:
    x, out = operands.read(command.x), operands.write(command.out)
    weight, bias = (operands.read(v) if v else None for v in (command.weight, command.bias))
    statistics = [operands.write(v) if v else None for v in (command.mean, command.rstd)]
    shape, eps = x.shape[-1:], command.eps
    same = len({v.dtype for v in (command.x, command.weight, command.bias) if v is not None}) == 1
    wide = x.dtype if same else _wide(*command.reads())

    def run() -> None:
        w, b = (None if t is None else t.to(wide) for t in (weight, bias))
        value, *measured = torch.native_layer_norm(x.to(wide), shape, w, b, eps)
        out.copy_(value)
        for target, statistic in zip(statistics, measured, strict=True):
            if target is not None:
                target.copy_(statistic)

    return run


# --- windows ------------------------------------------------------------------------------------------------------


def _pool2d(command: Pool2d, operands: _Operands) -> Task:
    x, out = operands.read(command.x), operands.write(command.out)
    if command.mode is PoolMode.ADAPTIVE_AVG:
        return _into(x, out, lambda target: _adaptive_avg_pool2d(x, out.shape[2:], out=target))
    ceil = _rounding(command)
    if command.mode is PoolMode.MAX:
        indices = operands.write(command.indices) if command.indices else None
        return _max_pool(command, x, out, indices, ceil)
    if ceil is None or command.dilation != (1, 1):
        return lambda: out.copy_(_mean_of_windows(command, x))
    k, s, p, divisor = command.kernel, command.stride, command.padding, command.divisor or None
    include = bool(command.count_include_pad)
    return _into(x, out, lambda target: _avg_pool2d(x, k, s, p, ceil, include, divisor, out=target))


def _into(x: Tensor, out: Tensor, function: Callable[[Tensor | None], Tensor]) -> Task:
    """Write straight into ``out`` where PyTorch's pooling can: it ignores the strides of its ``out``."""
    if x.dtype == out.dtype and x.is_contiguous() and out.is_contiguous():
        return lambda: function(out)
    return lambda: out.copy_(function(None))


def _rounding(command: Pool2d) -> bool | None:
    """PyTorch's ``ceil_mode`` that gives the output's size; None where it has no such pooling."""
    for ceil in (False, True):
        if all(_pooled_size(command, i, ceil) == command.out.dims[2 + i] for i in (0, 1)):
            return ceil if all(command.padding[i] <= command.kernel[i] // 2 for i in (0, 1)) else None
    return None


def _pooled_size(command: Pool2d, axis: int, ceil: bool) -> int:
    size, stride, padding = command.x.dims[2 + axis], command.stride[axis], command.padding[axis]
    span = size + 2 * padding - command.dilation[axis] * (command.kernel[axis] - 1) - 1
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    return count - 1 if ceil and (count - 1) * stride >= size + padding else count


def _max_pool(command: Pool2d, x: Tensor, out: Tensor, indices: Tensor | None, ceil: bool | None) -> Task:
    k, s, p, d = command.kernel, command.stride, command.padding, command.dilation
    if ceil is None:
        return lambda: _max_of_windows(command, x, out, indices)

    direct = out.is_contiguous() and x.is_contiguous() and (indices is None or indices.is_contiguous())

    def run() -> None:
        if direct:
            where = torch.empty(out.shape, dtype=torch.int64) if indices is None else indices
            _max_pool2d(x, k, s, p, d, ceil, out=(out, where))
            return
        value, position = _max_pool2d(x, k, s, p, d, ceil)
        out.copy_(value)
        if indices is not None:
            indices.copy_(position)

    return run


def _padded_windows(command: Pool2d, plane: Tensor, padding: tuple[int, int], value: float) -> Tensor:
    """Windows [N, C, P, Q, R, S] on ``plane``, which has ``value`` all around; the first starts at -padding."""
    edges: list[int] = []
    for i in (1, 0):
        reach = (command.out.dims[2 + i] - 1) * command.stride[i] + (command.kernel[i] - 1) * command.dilation[i] + 1
        edges += [padding[i], max(reach - padding[i] - plane.shape[2 + i], 0)]
    padded = nn.pad(plane, edges, value=value).contiguous()
    p, q = command.out.dims[2:]
    return _windows(padded, command.kernel, command.stride, command.dilation, (p, q))


def _max_of_windows(command: Pool2d, x: Tensor, out: Tensor, indices: Tensor | None) -> None:
    lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    value, position = _padded_windows(command, x, command.padding, lowest).flatten(-2).max(-1)
    out.copy_(value)
    if indices is not None:
        p, q = torch.arange(out.shape[2]).view(-1, 1), torch.arange(out.shape[3])
        row = p * command.stride[0] - command.padding[0] + position // command.kernel[1] * command.dilation[0]
        column = q * command.stride[1] - command.padding[1] + position % command.kernel[1] * command.dilation[1]
        indices.copy_(row * x.shape[3] + column)


def _mean_of_windows(command: Pool2d, x: Tensor) -> Tensor:
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    total = _padded_windows(command, x.to(wide), command.padding, 0).sum((-2, -1))
    if command.divisor:
        return total / command.divisor
    (top, left), (h, w) = command.padding, x.shape[2:]
    if command.count_include_pad:  # all around the input, but not what windows reach beyond that
        counted = _padded_windows(command, torch.ones(1, 1, h + 2 * top, w + 2 * left, dtype=wide), (0, 0), 0)
    else:
        counted = _padded_windows(command, torch.ones(1, 1, h, w, dtype=wide), command.padding, 0)
    return total / counted.sum((-2, -1))


_TASKS: dict[Opcode, Callable[[Any, _Operands], Task]] = {
    Opcode.GEMM: _gemm,
    Opcode.CONV2D: _conv2d,
    Opcode.VECTOR: _vector,
    Opcode.REDUCE: _reduce,
    Opcode.SOFTMAX: _softmax,
    Opcode.NORM: _norm,
    Opcode.POOL2D: _pool2d,
    Opcode.COPY: _copy,
    Opcode.FILL: _fill,
    Opcode.BARRIER: _barrier,
}
