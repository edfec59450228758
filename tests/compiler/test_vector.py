"""Does a VECTOR micro-program with assigned registers compute what the fused operations mean?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.front.trace import to_core_aten
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.program.commands import MAX_VECTOR_REGISTERS, Fill, Vector
from acalsim_backend.program.enums import VectorOp

BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum}
BY_OP = {
    VectorOp.ADD: np.add,
    VectorOp.SUB: np.subtract,
    VectorOp.MUL: np.multiply,
    VectorOp.MAX: np.maximum,
    VectorOp.MIN: np.minimum,
}


def interpret(command: Vector, inputs: Any) -> list[Any]:
    """Runs integer micro-programs one register at a time; unwritten registers hold nothing."""
    registers: list[Any] = [None] * MAX_VECTOR_REGISTERS
    stored: dict[int, Any] = {}
    for code in command.instructions:
        if code.op is VectorOp.LOAD:
            registers[code.dst] = inputs[code.a]
        elif code.op is VectorOp.STORE:
            stored[code.dst] = registers[code.a]
        elif code.op is VectorOp.CONST:
            registers[code.dst] = np.int64(code.imm if code.imm < 2**63 else code.imm - 2**64)
        else:
            registers[code.dst] = BY_OP[code.op](registers[code.a], registers[code.b])
    return [stored[i] for i in range(command.n_outputs)]


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    """Random DAGs of binary operations over four inputs and small constants; some values are outputs."""
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 1 << 16), st.integers(-5, 1 << 16)),
            min_size=1,
            max_size=24,
        )
    )
    outputs = draw(st.sets(st.integers(0, len(steps) - 1), min_size=1, max_size=3))
    return steps, sorted(outputs)


@given(graphs())
def test_does_fusion_keep_every_value(graph: Any) -> None:
    steps, outputs = graph

    def run(inputs: Any, functions: Callable[..., Any], constant: Callable[..., Any]) -> list[Any]:
        values = list(inputs)
        for name, i, j in steps:
            other = constant(j) if j < 0 else values[j % len(values)]
            values.append(functions(name)(values[i % len(values)], other))
        return [values[len(inputs) + o] for o in outputs]

    def model(*inputs: Any) -> tuple[Any, ...]:
        return tuple(run(inputs, lambda n: getattr(torch, n), lambda c: torch.full((5,), c, dtype=torch.int64)))

    inputs = [np.arange(5) * k - 3 for k in range(1, 5)]
    args = [torch.from_numpy(i) for i in inputs]
    compiled = compile_ir(ACALSimCompiler().compile(to_core_aten(model, args), args, "g"), Target())
    memory = {
        t.id: inputs[int(compiled.ir.arguments[t.name])] for t in compiled.program.tensors if t.kind.value == "input"
    }
    for command in compiled.program.commands:
        if isinstance(command, Vector):
            results = interpret(command, [memory[v.tensor] for v in command.inputs])
            memory.update({v.tensor: np.broadcast_to(r, 5) for v, r in zip(command.outputs, results, strict=True)})
        else:
            assert isinstance(command, Fill)
            memory[command.out.tensor] = np.full(5, command.value, np.uint64).view(np.int64)
    expected = run(inputs, BINARY.__getitem__, lambda c: np.full(5, c))
    for view, value in zip(compiled.lowered.outputs, expected, strict=True):
        assert np.array_equal(memory[view.tensor], value)
