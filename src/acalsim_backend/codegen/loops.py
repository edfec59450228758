"""Commands as the loops that the tutorial prints, for reading: products and arithmetic of f32."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from acalsim_backend.codegen.literals import float32
from acalsim_backend.program.commands import Command, Gemm, Vector, VectorInstruction
from acalsim_backend.program.enums import Activation, DType, VectorOp
from acalsim_backend.program.view import View, contiguous_strides

_EXPRESSIONS: dict[VectorOp, str] = {
    VectorOp.ADD: "{0} + {1}",
    VectorOp.SUB: "{0} - {1}",
    VectorOp.MUL: "{0} * {1}",
    VectorOp.DIV: "{0} / {1}",
    VectorOp.NEG: "-{0}",
    VectorOp.ABS: "__builtin_fabsf({0})",
    VectorOp.SQRT: "__builtin_sqrtf({0})",
    VectorOp.RECIPROCAL: "1.0f / {0}",
    VectorOp.RELU: "{0} < 0.0f ? 0.0f : {0}",
    VectorOp.MAX: "{0} > {1} || {0} != {0} ? {0} : {1}",
    VectorOp.MIN: "{0} < {1} || {0} != {0} ? {0} : {1}",
}
"""Rounding to f32 after each, as the compiler does without contraction; NaN goes through as in the kernels."""


def has_loop(command: Command) -> bool:
    """Whether ``loop`` prints the command."""
    if any(view.dtype is not DType.F32 for view in (*command.reads(), *command.writes())):
        return False
    if isinstance(command, Gemm):
        return command.activation in (Activation.NONE, Activation.RELU)
    known = {VectorOp.LOAD, VectorOp.STORE, VectorOp.CONST, *_EXPRESSIONS}
    return isinstance(command, Vector) and all(i.op in known and i.dtype is DType.F32 for i in command.instructions)


def loop(command: Command, name: Callable[[View], str]) -> Iterator[str]:
    """Lines of C; ``name`` is the ``float *`` to the tensor of a view."""
    if isinstance(command, Gemm):
        yield from _product(command, name)
    elif isinstance(command, Vector):
        yield from _elementwise(command, name)


class _Nest:
    """Opens and closes loops with their indentation."""

    def __init__(self, views: Sequence[View]) -> None:
        reach = max((view.extent[1] for view in views), default=0)
        self._type = "int" if reach < 1 << 31 else "int64_t"
        self._depth = 1

    def open(self, variable: str, extent: int) -> str:
        text = self.line(f"for ({self._type} {variable} = 0; {variable} < {extent}; {variable}++) {{")
        self._depth += 1
        return text

    def close(self) -> str:
        self._depth -= 1
        return self.line("}")

    def line(self, text: str) -> str:
        return "    " * self._depth + text


def _element(view: View, name: Callable[[View], str], variables: Sequence[str]) -> str:
    terms = [
        variable if stride == 1 else f"{variable} * {stride}"
        for variable, stride, extent in zip(variables, view.strides, view.dims, strict=True)
        if stride and extent != 1
    ]
    if view.offset:
        terms.append(str(view.offset // view.dtype.itemsize))
    return f"{name(view)}[{' + '.join(terms) or '0'}]"


def _shape(view: View) -> str:
    return "[" + "x".join(map(str, view.dims)) + "]"


def _product(command: Gemm, name: Callable[[View], str]) -> Iterator[str]:
    a, b, out = command.a, command.b, command.out
    batch = [f"b{i}" for i in range(len(out.dims) - 2)]
    nest = _Nest([*command.reads(), *command.writes()])
    yield nest.line(f"// MATMUL: {_shape(a)} @ {_shape(b)} -> {_shape(out)}")
    loops = [*batch, "m", "n"]
    for variable, extent in zip(loops, out.dims, strict=True):
        yield nest.open(variable, extent)
    yield nest.line("float sum = 0.0f;")
    if command.alpha:  # what is times 0 is left out, be it infinite or NaN
        yield nest.open("k", a.dims[-1])
        yield nest.line(f"sum += {_element(a, name, [*batch, 'm', 'k'])} * {_element(b, name, [*batch, 'k', 'n'])};")
        yield nest.close()
    result = "sum" if command.alpha in (0, 1) else f"{float32(command.alpha)} * sum"
    if command.bias is not None and command.beta:
        bias = _element(command.bias, name, loops)
        result += f" + {bias}" if command.beta == 1 else f" + {float32(command.beta)} * {bias}"
    if command.activation is Activation.RELU:
        yield nest.line(f"sum = {result};")
        result = "sum < 0.0f ? 0.0f : sum"
    yield nest.line(f"{_element(out, name, loops)} = {result};")
    for _ in loops:
        yield nest.close()


def _elementwise(command: Vector, name: Callable[[View], str]) -> Iterator[str]:
    views = [*command.inputs, *command.outputs]
    dims = command.outputs[0].dims
    repeats = [_repeats(view) for view in views]
    nest = _Nest(views)
    if None in repeats:
        variables = [f"i{axis}" for axis in range(len(dims))]
        loops = list(zip(variables, dims, strict=True))
        places = [_element(view, name, variables) for view in views]
    else:
        numel = command.outputs[0].numel
        loops = [("i", numel)]
        places = [_flat(view, name, period, numel) for view, period in zip(views, repeats, strict=True)]
    for variable, extent in loops:
        yield nest.open(variable, extent)
    yield from map(nest.line, _statements(command.instructions, places, len(command.inputs)))
    for _ in loops:
        yield nest.close()


def _repeats(view: View) -> int | None:
    """After how many elements in row-major order a view begins again; None if its elements are no such sequence."""
    axis = next(
        (i for i, (d, s) in enumerate(zip(view.dims, view.strides, strict=True)) if s and d != 1), len(view.dims)
    )
    inner = View(view.tensor, view.dtype, view.dims[axis:], view.strides[axis:])
    dense = zip(inner.dims, inner.strides, contiguous_strides(inner.dims), strict=True)
    return inner.numel if all(d == 1 or own == step for d, own, step in dense) else None


def _flat(view: View, name: Callable[[View], str], period: int | None, numel: int) -> str:
    index = "i" if period == numel else "0" if period == 1 else f"i % {period}"
    start = view.offset // view.dtype.itemsize
    return f"{name(view)}[{index}{f' + {start}' if start else ''}]"


def _statements(code: Sequence[VectorInstruction], places: Sequence[str], n_inputs: int) -> Iterator[str]:
    """Assignments; a value that is read once stands inside the expression that reads it.

    With several outputs all loads come first, for an output may lie where an input does.
    """
    loads_first = len(places) - n_inputs > 1
    registers: dict[int, tuple[str, bool]] = {}  # text, and whether it needs no brackets
    for position, instruction in enumerate(code):
        operands = [registers[r] for r in instruction.reads]
        if instruction.op is VectorOp.STORE:
            yield f"{places[n_inputs + instruction.dst]} = {operands[0][0]};"
            continue
        if instruction.op is VectorOp.LOAD:
            text, stays = places[instruction.a], not loads_first
        elif instruction.op is VectorOp.CONST:
            text, stays = float32(struct.unpack("<d", struct.pack("<Q", instruction.imm))[0]), True
        else:
            template = _EXPRESSIONS[instruction.op]
            text, stays = template.format(*(t if plain else f"({t})" for t, plain in operands)), False
            stays = _uses(code, position) <= 1
        if not stays:
            yield f"float v{position} = {text};"
            text = f"v{position}"
        registers[instruction.dst] = (text, not stays or (instruction.op in _PLAIN and not text.startswith("-")))


_PLAIN = (VectorOp.LOAD, VectorOp.CONST)


def _uses(code: Sequence[VectorInstruction], position: int) -> int:
    """How often the text of a value would stand in expressions."""
    register, count = code[position].dst, 0
    for later in code[position + 1 :]:
        for i, read in enumerate(later.reads):
            if read == register:
                count += _EXPRESSIONS.get(later.op, "{0}").count(f"{{{i}}}")
        if later.op is not VectorOp.STORE and later.dst == register:
            break
    return count
