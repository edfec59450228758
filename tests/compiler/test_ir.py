"""Does the IR say what was captured, as the tutorial prints it, and does its verifier notice mistakes?"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.errors import InputError, ProgramError
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.models.basic import MatMulModel
from acalsim_backend.ops import check_shapes

TUTORIAL = """\
=== ACALSim IR: graph_0 ===

Tensors:
  input_0: (8, 16) float32 [input]
  param_1: (16, 8) float32 [param]
  t_2: (8, 8) float32
  param_3: (8,) float32 [param]
  t_4: (8, 8) float32 [output]

Operations:
  0: t_2 = MATMUL(input_0, param_1)
  1: t_4 = ADD(t_2, param_3)

Inputs: ['input_0']
Outputs: ['t_4']"""


def compile_once(model: Callable[..., Any], *inputs: Any, **options: Any) -> ACALSimBackend:
    torch._dynamo.reset()
    backend = ACALSimBackend(mode="compile", **options)
    with torch.no_grad():
        torch.compile(model, backend=backend)(*inputs)
    return backend


def test_is_the_tutorials_text_printed_to_the_letter() -> None:
    ir = compile_once(MatMulModel(), torch.randn(8, 16)).get_compiled_ir("graph_0")
    assert str(ir) == TUTORIAL


def test_does_verbose_print_the_ir(capsys: pytest.CaptureFixture[str]) -> None:
    compile_once(MatMulModel(), torch.randn(8, 16), verbose=True)
    assert TUTORIAL in capsys.readouterr().out


def test_are_ir_files_written_before_and_after_the_passes(tmp_path: Path) -> None:
    compile_once(MatMulModel(), torch.randn(8, 16), output_dir=str(tmp_path))
    assert (tmp_path / "graph_0.ir").read_text().strip() == TUTORIAL
    assert "t_4 = MATMUL(input_0, param_1, param_3)" in (tmp_path / "graph_0.opt.ir").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph_0.ir", "graph_0.opt.ir"]


def test_are_all_irs_kept_by_name() -> None:
    backend = compile_once(MatMulModel(), torch.randn(8, 16))
    torch._dynamo.reset()
    torch.compile(torch.nn.ReLU(), backend=backend)(torch.randn(3))
    assert list(backend.get_all_compiled_irs()) == ["graph_0", "graph_1"]
    assert backend.get_compiled_ir("graph_7") is None


def test_does_trace_mode_print_the_captured_graph_and_run_eagerly(capsys: pytest.CaptureFixture[str]) -> None:
    torch._dynamo.reset()
    model, x = MatMulModel(), torch.randn(8, 16)
    with torch.no_grad():
        out = torch.compile(model, backend=ACALSimBackend(mode="trace"))(x)
        assert torch.equal(out, model(x))
    text = capsys.readouterr().out
    assert re.search(r"placeholder: l_x_ -> L_x_", text)
    assert "torch.matmul" in text


def test_does_the_compiler_take_a_symbolically_traced_module_and_keep_its_weights() -> None:
    model = MatMulModel()
    ir = ACALSimCompiler().compile(torch.fx.symbolic_trace(model), [torch.randn(8, 16)], "graph_0")
    assert [op.op_type for op in ir.ops] == [ACALSimOpType.MATMUL, ACALSimOpType.ADD]
    assert [t.name for t in ir.tensors.values() if t.is_param] == ["param_1", "param_3"]
    assert torch.equal(ir.constants["param_1"], model.weight)


def test_do_modules_and_source_lines_reach_the_operations() -> None:
    class Outer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Sequential(torch.nn.Linear(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.inner(x))

    ir = compile_once(Outer(), torch.randn(2, 4)).get_compiled_ir("graph_0")
    assert ir
    gemm = next(op for op in ir.ops if op.op_type is ACALSimOpType.GEMM)
    tanh = next(op for op in ir.ops if op.op_type is ACALSimOpType.TANH)
    assert "inner" in gemm.module
    assert re.search(r"test_ir\.py:\d+$", tanh.source)


def test_is_a_complex_tensor_refused_with_its_type() -> None:
    with pytest.raises(InputError, match="complex64 has no place in guest memory"):
        ACALSimCompiler().compile(torch.fx.symbolic_trace(torch.nn.Identity()), [torch.randn(2, dtype=torch.complex64)])


def broken(change: Callable[[ACALSimIR], object]) -> ACALSimIR:
    ir = ACALSimIR("g")
    for name in ("a", "b", "c"):
        ir.add_tensor(TensorDesc(name, (2,), is_input=name == "a"))
    ir.add_op(ACALSimOp(ACALSimOpType.RELU, "r", ["a"], ["b"], roles=["self"], results=[0]))
    ir.input_names, ir.output_names = ["a"], ["b"]
    ir.verify()
    change(ir)
    return ir


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ir: ir.ops[0].inputs.__setitem__(0, "c"), "reads c, which nothing before it defines"),
        (lambda ir: ir.ops[0].outputs.__setitem__(0, "a"), "writes a, which is already defined"),
        (lambda ir: ir.ops[0].outputs.__setitem__(0, "z"), "writes z, which is not in the tensor table"),
        (lambda ir: ir.output_names.append("c"), "output c is never defined"),
        (lambda ir: ir.ops[0].roles.append("x"), "1 inputs with 2 roles"),
    ],
)
def test_does_the_verifier_name_each_kind_of_mistake(change: Callable[..., Any], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        broken(change).verify()


def test_can_a_tensor_be_defined_only_once() -> None:
    ir = ACALSimIR("g")
    ir.add_tensor(TensorDesc("a", ()))
    with pytest.raises(ProgramError, match="tensor a is defined twice"):
        ir.add_tensor(TensorDesc("a", ()))


def test_does_a_result_of_the_wrong_shape_break_its_operators_rule() -> None:
    ir = compile_once(MatMulModel(), torch.randn(8, 16)).get_compiled_ir("graph_0")
    assert ir
    check_shapes(ir)
    ir.tensors["t_2"].shape = (8, 9)
    with pytest.raises(ProgramError, match=r"MATMUL.* has results .*8, 9.*rule says .*8, 8"):
        check_shapes(ir)
