"""Can the IR be read back from its text, and be written by hand?"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.errors import InputError
from acalsim_backend.front.trace import to_core_aten
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ir_text import parse, print_whole
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.run.executable import Executable
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import WeightCache

HAND_WRITTEN = """\
=== ACALSim IR: by_hand ===

Tensors:
  x: (2, 3) float32 [input]  # {'argument': 0}
  w: (3, 4) float32 [input]  # {'argument': 1}
  c: (4,) float32 = [1.0, -2.5, Infinity, 0.0]
  t: (2, 4) float32
  y: (2, 4) float32 [output]

Operations:
  0: t = MATMUL(x, w)
  1: y = ADD(t, c)

Inputs: ['x', 'w']
Outputs: ['y']
"""


def run(ir: ACALSimIR, *args: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of an IR on the machine native."""
    target = Target()
    with Session(target.hardware, "native") as session:
        return Executable(compile_ir(ir, target).interface(), session, WeightCache(session)).run(args)[0]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = F.relu(self.norm(self.conv(x))).mean((2, 3))
        z = self.linear(y)
        return torch.softmax(z, -1)[:, 1:], torch.cumsum(z, 0), y.half() * 0.5, F.max_pool2d(x, 2), z.clamp(min=0.1)


@pytest.fixture(scope="module")
def captured() -> ACALSimIR:
    return ACALSimCompiler().compile(Net().eval(), [torch.randn(2, 3, 8, 8)], "g")


def equal(a: Any, b: Any) -> None:
    for f in dataclasses.fields(a):
        if f.name == "constants":
            assert a.constants.keys() == b.constants.keys()
            assert all(
                torch.equal(torch.as_tensor(a.constants[n]), torch.as_tensor(b.constants[n])) for n in a.constants
            )
        elif f.name == "prepare":
            assert (a.prepare is None) == (b.prepare is None)
            if a.prepare is not None:
                equal(a.prepare, b.prepare)
        elif f.compare and f.name != "examples":
            assert getattr(a, f.name) == getattr(b, f.name)


def test_is_a_captured_ir_read_back_whole(captured: ACALSimIR) -> None:
    text = print_whole(captured)
    equal(parse(text), captured)
    assert print_whole(parse(text)) == text


def test_is_an_optimised_ir_read_back_with_its_prepare_part(captured: ACALSimIR) -> None:
    optimised = compile_ir(captured, Target()).ir
    assert optimised.prepare is not None
    equal(parse(print_whole(optimised)), optimised)
    assert str(parse(str(optimised))) == str(optimised)


def test_does_what_was_read_back_compute_the_same() -> None:
    model, x = nn.Sequential(nn.Linear(8, 4), nn.GELU(), nn.LayerNorm(4)).eval(), torch.randn(2, 8)
    ir = ACALSimCompiler().compile(model, [x], "g")
    assert torch.equal(run(parse(print_whole(ir)), x)[0], run(ir, x)[0])


def test_may_an_ir_be_written_by_hand() -> None:
    x, w = torch.randn(2, 3), torch.randn(3, 4)
    (y,) = run(parse(HAND_WRITTEN), x, w)
    torch.testing.assert_close(y, x @ w + torch.tensor([1.0, -2.5, float("inf"), 0.0]), rtol=1e-5, atol=1e-6)


def test_may_an_ir_be_built_by_hand_as_the_tutorial_builds_it() -> None:
    ir = ACALSimIR("built")
    for name, shape, mark in (
        ("a", (4, 4), "is_input"),
        ("b", (4, 4), "is_input"),
        ("c", (4, 4), ""),
        ("d", (4, 4), "is_output"),
    ):
        ir.add_tensor(TensorDesc(name, shape, "float32", is_input=mark == "is_input", is_output=mark == "is_output"))
    ir.input_names, ir.output_names, ir.arguments = ["a", "b"], ["d"], {"a": 0, "b": 1}
    ir.add_op(ACALSimOp(ACALSimOpType.MATMUL, "matmul_0", ["a", "b"], ["c"], compute_cycles=128))
    ir.add_op(ACALSimOp(op_type=ACALSimOpType.RELU, name="relu_0", inputs=["c"], outputs=["d"]))
    ir.verify()
    a, b = torch.randn(4, 4), torch.randn(4, 4)
    torch.testing.assert_close(run(ir, a, b)[0], (a @ b).relu(), rtol=1e-5, atol=1e-6)


@given(st.floats(), st.floats(width=32), st.booleans(), st.text(max_size=8))
@example(0.0, 0.0, False, "'\"")
@example(0.0, 0.0, False, "\\")
@example(0.0, 0.0, False, "x  # {'a': 1}")
@example(0.0, 0.0, False, " }; {(")
def test_does_every_attribute_survive(number: float, bound: float, flag: bool, text: str) -> None:
    attrs: dict[str, Any] = {
        "a": number,
        "b": (bound, -1) if abs(bound) < float("inf") else bound,
        "c": flag,
        "d": text,
        "e": [],
        "f": None,
    }
    if any(c in text for c in "\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):
        attrs["d"] = "line"
    ir = ACALSimIR("g", {"x": TensorDesc("x", (1,), is_input=True), "y": TensorDesc("y", (1,), is_output=True)})
    ir.input_names, ir.output_names = ["x"], ["y"]
    ir.add_op(ACALSimOp(ACALSimOpType.HOST, "h", ["x"], ["y"], attrs, target="aten.sin.default"))
    assert repr(parse(print_whole(ir)).ops[0].attrs) == repr(attrs)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("MATMUL(x, w)", "MATMAL(x, w)", "line 11: .* there is no operation MATMAL"),
        ("t = MATMUL", "t MATMUL", "line 11: .* expected OUTPUTS = TYPE"),
        ("(2, 3) float32", "[2, 3] float32", "line 4: .* expected NAME: "),
        ("=== ACALSim IR: by_hand ===", "by_hand", "line 1: .* first"),
        ("  x: (2, 3)", "  w: (2, 3)", "line 5: .*defined twice"),
        ("ADD(t, c)", "ADD(t, c) {alpha}", "line 12: .*'alpha' is not KEY=VALUE"),
    ],
)
def test_is_a_line_that_cannot_be_read_named(before: str, after: str, message: str) -> None:
    assert before in HAND_WRITTEN
    with pytest.raises(InputError, match=message):
        parse(HAND_WRITTEN.replace(before, after))


@pytest.mark.parametrize(
    ("line", "message"),
    [("y = ADD(t, c, x)", "takes 2 tensors, got 3 inputs"), ("y = HOST(t)", "needs target=")],
)
def test_is_an_operation_that_cannot_be_completed_named(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compile_ir(parse(HAND_WRITTEN.replace("y = ADD(t, c)", line)), Target())


def test_is_a_function_read_back_as_it_was_captured() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.where(x > 0, x * float("inf"), x.sum(0, keepdim=True)), x.to(torch.int32) // 3

    x = torch.randn(3, 4)
    ir = ACALSimCompiler().compile(to_core_aten(function, [x]), [x], "f")
    equal(parse(print_whole(ir)), ir)


@given(st.text(max_size=12))
@example("a; b }  # {}")
def test_does_an_attribute_inside_a_fused_group_survive(text: str) -> None:
    ir = ACALSimIR("g", {"x": TensorDesc("x", (1,), is_input=True), "y": TensorDesc("y", (1,), is_output=True)})
    ir.input_names, ir.output_names = ["x"], ["y"]
    body = (
        ACALSimOp(ACALSimOpType.EXP, "e", ["x"], ["t"], {"a": text}),
        ACALSimOp(ACALSimOpType.NEG, "n", ["t"], ["y"]),
    )
    ir.add_op(ACALSimOp(ACALSimOpType.VECTOR, "v", ["x"], ["y"], body=body))
    assert parse(print_whole(ir)).ops[0].body == body
