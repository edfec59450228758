"""Can IR be written with the names and in the way of the tutorial, sections 4.2 and 4.3, and does it run?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from acalsim_backend.errors import InputError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import FX_TO_ACALSIM_OP, ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc, get_acalsim_op_type
from acalsim_backend.ops.base import _BY_TARGET
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.run.executable import Executable
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import WeightCache

MEMBERS = (
    "LOAD STORE ALLOC ADD SUB MUL DIV NEG MATMUL GEMM CONV2D SUM MEAN MAX MIN RELU SIGMOID TANH SOFTMAX GELU RESHAPE "
    "TRANSPOSE PERMUTE FLATTEN UNSQUEEZE SQUEEZE BATCH_NORM LAYER_NORM NOP SYNC CUSTOM"
)


def run(ir: ACALSimIR, *args: torch.Tensor) -> tuple[list[torch.Tensor], list[str]]:
    """Outputs, and the commands of the Program."""
    compiled = compile_ir(ir, Target(HardwareConfig.load("edge"), "auto", "error"))
    with Session(HardwareConfig.load("edge")) as session:
        results, _ = Executable(compiled.interface(), session, WeightCache(session)).run(args)
        return list(results), [c.opcode.name for c in compiled.program.commands]


def graph(*tensors: tuple[str, tuple[int, ...]]) -> ACALSimIR:
    """An IR with tensors; x... are inputs, y... outputs, w... parameters."""
    ir = ACALSimIR("hand")
    for name, shape in tensors:
        ir.add_tensor(
            TensorDesc(name, shape, is_input=name[0] == "x", is_output=name[0] == "y", is_param=name[0] == "w")
        )
    return ir


@pytest.mark.parametrize("name", MEMBERS.split())
def test_is_the_operation_of_the_tutorial_there(name: str) -> None:
    assert name in ACALSimOpType.__members__


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add", "ADD"),
        ("aten.add", "ADD"),
        ("aten::matmul", "MATMUL"),
        ("add.Tensor", "ADD"),
        ("aten.relu.default", "RELU"),
        ("linear", "GEMM"),
        ("view", "RESHAPE"),
        ("unknown_op", "CUSTOM"),
    ],
)
def test_is_an_operator_name_given_its_type(name: str, expected: str) -> None:
    assert get_acalsim_op_type(name) is ACALSimOpType[expected]


def test_do_names_and_operator_classes_agree() -> None:
    """Of an overload the name may be unknown, for the table has short names only, and never of another type."""
    named = {t: get_acalsim_op_type(t) for t in _BY_TARGET if t.split(".")[1] in FX_TO_ACALSIM_OP}
    assert len(named) > 50
    assert named == {target: _BY_TARGET[target].op_type for target in named}


def test_does_an_ir_with_numpy_constants_and_nothing_but_the_documented_fields_run() -> None:
    ir = graph(("x", (8, 16)), ("w", (16, 8)), ("w_bias", (8,)), ("t", (8, 8)), ("y", (8, 8)))
    ir.constants["w"] = np.random.default_rng(0).standard_normal((16, 8), np.float32)
    ir.constants["w_bias"] = np.arange(8, dtype=np.float32)
    ir.add_op(ACALSimOp(op_type=ACALSimOpType.MATMUL, name="matmul_0", inputs=["x", "w"], outputs=["t"]))
    ir.add_op(ACALSimOp(op_type=ACALSimOpType.ADD, name="add_1", inputs=["t", "w_bias"], outputs=["y"]))
    x = torch.randn(8, 16)
    (y,), _ = run(ir, x)
    expected = x @ torch.from_numpy(ir.constants["w"]) + torch.from_numpy(ir.constants["w_bias"])
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "attrs", "shape", "function"),
    [
        ("TRANSPOSE", {"dim0": 0, "dim1": 2}, (4, 1, 2), lambda x: x.transpose(0, 2)),
        ("PERMUTE", {"dims": (1, 2, 0)}, (1, 4, 2), lambda x: x.permute(1, 2, 0)),
        ("FLATTEN", {}, (8,), torch.flatten),
        ("UNSQUEEZE", {"dim": 0}, (1, 2, 1, 4), lambda x: x.unsqueeze(0)),
        ("SQUEEZE", {"dim": 1}, (2, 4), lambda x: x.squeeze(1)),
        ("LOAD", {}, (2, 1, 4), lambda x: x),
        ("STORE", {}, (2, 1, 4), lambda x: x),
    ],
)
def test_does_a_shape_or_memory_operation_do_what_its_name_says(
    kind: str, attrs: dict[str, Any], shape: tuple[int, ...], function: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    ir = graph(("x", (2, 1, 4)), ("t", shape), ("y", shape))
    ir.add_op(ACALSimOp(ACALSimOpType[kind], f"{kind.lower()}_0", ["x"], ["t"], attrs))
    ir.add_op(ACALSimOp(ACALSimOpType.NEG, "neg_1", ["t"], ["y"]))
    x = torch.randn(2, 1, 4)
    (y,), _ = run(ir, x)
    assert torch.equal(y, -function(x))


def test_is_allocated_memory_zero() -> None:
    ir = graph(("x", (3,)), ("t", (3,)), ("y", (3,)))
    ir.add_op(ACALSimOp(ACALSimOpType.ALLOC, "alloc_0", [], ["t"]))
    ir.add_op(ACALSimOp(ACALSimOpType.MAXIMUM, "maximum_1", ["x", "t"], ["y"]))
    x = torch.randn(3)
    (y,), _ = run(ir, x)
    assert torch.equal(y, x.clamp_min(0))


@pytest.mark.parametrize("between", ["NOP", "SYNC"])
def test_does_sync_end_what_stands_before_it_and_nop_nothing(between: str) -> None:
    ir = graph(("x", (64,)), ("t", (64,)), ("y", (64,)))
    ir.add_op(ACALSimOp(ACALSimOpType.EXP, "exp_0", ["x"], ["t"]))
    ir.add_op(ACALSimOp(ACALSimOpType[between], f"{between.lower()}_1", [], []))
    ir.add_op(ACALSimOp(ACALSimOpType.NEG, "neg_2", ["t"], ["y"]))
    x = torch.randn(64)
    (y,), commands = run(ir, x)
    torch.testing.assert_close(y, -x.exp())
    assert commands == (["VECTOR"] if between == "NOP" else ["VECTOR", "BARRIER", "VECTOR"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ir: ir.constants.update(w=np.zeros((2,), np.float32)),
            r"constant w is \(2,\) float32, .* \(3,\) float32",
        ),
        (lambda ir: ir.constants.update(w=np.zeros(3)), r"constant w is \(3,\) float64"),
        (lambda ir: ir.constants.update(z=np.zeros(3)), "no tensor of that name"),
        (lambda ir: ir.arguments.update(w=0), "x: inputs without a position in arguments"),
        (lambda ir: ir.add_op(ACALSimOp(ACALSimOpType.SYNC, "s", ["x"], [])), "SYNC has no tensors"),
    ],
)
def test_is_a_mistake_in_an_ir_written_by_hand_named(change: Callable[[ACALSimIR], object], message: str) -> None:
    ir = graph(("x", (3,)), ("w", (3,)), ("y", (3,)))
    ir.add_op(ACALSimOp(ACALSimOpType.ADD, "add_0", ["x", "w"], ["y"]))
    change(ir)
    with pytest.raises(InputError, match=message):
        compile_ir(ir, Target(HardwareConfig.load("edge"), "auto", "error"))


def test_are_memory_and_cycles_estimated_from_the_fields() -> None:
    ir = ACALSimIR("sizes")
    ir.add_tensor(TensorDesc("a", (10,), "float32"))
    ir.add_tensor(TensorDesc("b", (3, 2), "bfloat16"))
    ir.add_op(ACALSimOp(ACALSimOpType.RELU, "relu_0", ["a"], ["b"], compute_cycles=100, memory_cycles=7))
    assert ir.tensors["a"].size_bytes == 40
    assert ir.get_tensor("a") is ir.tensors["a"]
    assert ir.get_tensor("c") is None
    assert ir.estimate_memory() == 40 + 12
    assert ir.estimate_cycles() == 107
    assert ir.print_ir() == str(ir)
