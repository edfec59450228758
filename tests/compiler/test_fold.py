"""What is known while compiling: is it computed, does it stay small, and is every other operation left as it was?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.errors import ProgramError, UnsupportedError
from acalsim_backend.front.trace import to_core_aten
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ops.evaluate import evaluate
from acalsim_backend.passes import IR_PASSES, Target, compile_ir
from acalsim_backend.passes.fold import LARGEST, FoldConstants, InlineScalars
from acalsim_backend.passes.rewrite import Rewriter

x3 = torch.randn(3)


def captured(function: Callable[..., Any], *args: Any) -> ACALSimIR:
    return ACALSimCompiler().compile(to_core_aten(function, args), list(args), "g")


def folded(function: Callable[..., Any], *args: Any) -> ACALSimIR:
    """The IR after constants are folded and scalars are inlined."""
    ir = captured(function, *args)
    for fold in (FoldConstants(), InlineScalars()):
        ir = fold.apply(ir, Target())
        ir.verify()
    return ir


def kept_bytes(ir: ACALSimIR) -> int:
    return sum(c.untyped_storage().nbytes() for c in ir.constants.values())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + torch.ones(3) * 2, ["t = ADD(input) {other=2.0}"]),
        (lambda x: torch.zeros_like(x).bool(), ["t = FULL() {fill_value=0}"]),
        (lambda x: x * torch.zeros(2, 6).view(3, 4).t()[0, 0], ["t = MUL(input) {other=0.0}"]),
        (
            lambda x: torch.where(x > 0, torch.ones(3), torch.zeros(3)),
            ["t = GT(input) {other=0}", "t = WHERE(t) {self=1.0, other=0.0}"],
        ),
        (lambda x: torch.where(torch.ones(3).bool(), x, x), ["t = WHERE(input, input) {condition=1}"]),
        (lambda x: x + torch.full((3,), 0.5, dtype=torch.bool), ["t = ADD(input) {other=1}"]),
        (lambda x: torch.ones(3) - x, ["t = SUB(input) {self=1.0}"]),
        (lambda x: x + torch.arange(9)[3:].view(2, 3)[1, 2:].float(), ["t = ADD(input) {other=8.0}"]),
    ],
)
def test_is_one_value_everywhere_a_scalar_of_its_user(function: Callable[..., Any], expected: list[str]) -> None:
    ir = folded(function, x3)
    assert [re.sub(r"\b(t|input)_\d+", r"\1", str(op)) for op in ir.ops] == expected
    assert not ir.constants


@pytest.mark.parametrize(
    ("function", "args", "shape"),
    [
        (lambda x: x + torch.ones(5), (torch.tensor(2.0),), (5,)),
        (lambda x: x + torch.full((1, 1), 2.5), (x3,), (1, 3)),
        (lambda x: torch.ones(3) == x, (torch.tensor(1.0),), (3,)),
        (lambda x: torch.where(torch.ones(4, 3, dtype=torch.bool), x, 0.0), (x3,), (4, 3)),
        (lambda x: torch.logical_and(torch.ones(2, 1, dtype=torch.bool), x), (x3,), (2, 3)),
    ],
)
def test_is_a_splat_that_gives_the_result_its_shape_kept(
    function: Callable[..., Any], args: Any, shape: tuple[int, ...]
) -> None:
    ir = folded(function, *args)
    assert ir.ops[0].op_type.name == "FULL"
    assert ir.tensors[ir.output_names[0]].shape == shape
    compile_ir(captured(function, *args), Target())


def shifted_windows(x: torch.Tensor) -> torch.Tensor:
    mask, count = torch.zeros(8, 8), 0
    for rows in (slice(0, -4), slice(-4, -2), slice(-2, None)):
        for columns in (slice(0, -4), slice(-4, -2), slice(-2, None)):
            mask[rows, columns] = count
            count += 1
    mask = mask.view(2, 4, 2, 4).permute(0, 2, 1, 3).reshape(4, 16)
    mask = mask.unsqueeze(1) - mask.unsqueeze(2)
    return x + mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)


def test_is_a_mask_made_in_place_from_zeros_one_constant() -> None:
    x = torch.randn(4, 16, 16)
    before = captured(shifted_windows, x)
    assert len(before.ops) > 40
    ir = folded(shifted_windows, x)
    assert [op.op_type.name for op in ir.ops] == ["ADD"]
    (mask,) = ir.constants.values()
    assert torch.equal(mask, shifted_windows(torch.zeros(4, 16, 16)))


def test_may_a_mask_of_operators_without_command_stand_in_a_graph_that_refuses_the_host() -> None:
    compile_ir(captured(shifted_windows, torch.randn(4, 16, 16)), Target(fallback="error"))
    with pytest.raises(UnsupportedError, match="igamma"):
        compile_ir(captured(lambda x: torch.igamma(x, x), x3), Target(fallback="error"))


def test_does_a_huge_splat_take_no_memory() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        huge = torch.zeros(1 << 20, 1 << 20).logical_not().transpose(0, 1).flip(0)[:3, :1]
        return x * huge.expand(3, 1 << 19)[:, 7]

    ir = folded(function, x3)
    assert kept_bytes(ir) == 0
    assert [op.op_type.name for op in ir.ops] == ["MUL"]


def test_is_what_is_too_large_to_be_a_constant_left_to_the_machine() -> None:
    ir = folded(lambda x: x + torch.arange(LARGEST // 8 + 1).exp()[:3], x3)
    assert ir.ops[0].target == "aten.arange.start_step"
    assert kept_bytes(ir) == 0


def test_are_views_of_a_constant_not_copies() -> None:
    ir = folded(lambda x: x + torch.arange(1000.0).expand(500, 1000).t(), torch.randn(1000, 500))
    assert [op.op_type.name for op in ir.ops] == ["EXPAND", "PERMUTE", "ADD"]
    assert kept_bytes(ir) == 4000


def test_are_constants_given_back_that_nothing_reads_any_more() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        value = torch.arange(1000.0)
        for _ in range(50):
            value = value.cumsum(0) / 2
        return x + value[:3].sum()

    assert kept_bytes(folded(function, x3)) == 0


@pytest.mark.parametrize("function", [torch.rand_like, lambda x: torch.bernoulli(torch.full((3,), 0.5)) + x])
def test_are_random_operators_left_to_the_run(function: Callable[..., Any]) -> None:
    assert "HOST" in [op.op_type.name for op in folded(function, x3).ops]


def test_is_an_operator_that_fails_left_to_the_run() -> None:
    ir = folded(lambda x: x + torch.arange(3.0).index_select(0, torch.arange(5, 6)), x3)
    assert [op.target for op in ir.ops] == ["aten.full.default", "aten.index_select.default", "aten.add.Tensor"]


def test_is_a_scalar_exponent_not_made_of_a_tensor_of_exponents() -> None:
    ir = folded(lambda x: torch.pow(x, torch.full((3,), 0.5)), x3)
    assert [op.op_type.name for op in ir.ops] == ["FULL", "POW"]


def two_tensors() -> tuple[ACALSimIR, ACALSimOp]:
    ir = ACALSimIR("g")
    ir.add_tensor(TensorDesc("a", (3,), is_input=True))
    ir.add_tensor(TensorDesc("b", (1, 3)))
    return ir, ACALSimOp(ACALSimOpType.ADD, "add", ["a"], ["b"], {"other": 1.0}, roles=["self"], results=[0])


def test_is_a_rewrite_against_the_shape_rule_refused() -> None:
    ir, op = two_tensors()
    to = Rewriter(ir)
    assert not to.accepts(op)
    with pytest.raises(ProgramError, match=r"results \[\(\(1, 3\), 'float32'\)\], .* says \[\(\(3,\), 'float32'\)\]"):
        to.add(op)
    ir.tensors["b"] = replace(ir.tensors["b"], shape=(3,))
    assert Rewriter(ir).accepts(op)


def test_is_a_rewrite_that_cannot_be_lowered_refused() -> None:
    ir, op = two_tensors()
    ir.tensors["a"] = TensorDesc("a", (3,), "float64", is_input=True)
    ir.tensors["b"] = TensorDesc("b", (3,), "float64")
    assert not Rewriter(ir).accepts(replace(op, op_type=ACALSimOpType.EXP, attrs={}))


def test_is_an_operation_taken_back_without_a_search() -> None:
    ir, op = two_tensors()
    ir.tensors["b"] = replace(ir.tensors["b"], shape=(3,))
    to, twin = Rewriter(ir), replace(op)
    to.add(op)
    to.add(twin)  # equal, and not the same
    to.drop(twin)
    assert to.finish().ops == [op]
    assert to.finish().ops[0] is op


SHAPES = ((), (1,), (3,), (1, 3), (2, 3), (2, 1), (0,), (2, 0))
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool)
STEPS = (
    lambda v: v.bool(),
    lambda v: v.to(torch.bfloat16),
    lambda v: v + 1,
    lambda v: v * 0.3,
    lambda v: v == v.flatten()[:1].sum(),
    lambda v: v.unsqueeze(0).expand(2, *v.shape),
    lambda v: v.flip(0) if v.dim() else v,
    lambda v: v.reshape(-1),
    lambda v: torch.where(v > 0, v, v + v),
    lambda v: v.transpose(0, -1).contiguous() if v.dim() else v,
    lambda v: torch.cat([v.reshape(-1), v.reshape(-1)[:1]]),
    lambda v: v.logical_or(v.new_zeros(v.shape)),
    lambda v: v / 3,
    lambda v: v.float().abs(),
)


@settings(max_examples=25)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, -0.0, 1.0, 2.7, 100.25]),
    st.booleans(),
    st.lists(st.sampled_from(STEPS), max_size=5),
)
def test_is_what_is_computed_while_compiling_what_eager_computes(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    number: float,
    counted: bool,
    steps: list[Callable[[torch.Tensor], torch.Tensor]],
) -> None:
    def constant() -> torch.Tensor:
        value = torch.full(shape, number, dtype=dtype)
        if counted:
            value = value + torch.arange(value.numel()).view(shape).to(dtype)
        for step in steps:
            value = step(value)
        return value

    ir = captured(lambda x: (constant(), x + 1), x3)
    ir = FoldConstants().apply(ir, Target())
    name, expected = ir.output_names[0], constant()
    values = dict(ir.constants)
    for op in ir.ops[:-1]:
        if op.op_type is ACALSimOpType.FULL:
            desc = ir.tensors[op.outputs[0]]
            values[op.outputs[0]] = torch.full(desc.shape, op.attrs["fill_value"], dtype=getattr(torch, desc.dtype))
        else:  # views alone are left
            values[op.outputs[0]] = evaluate(op, {n: values[n] for n in op.inputs})[0]
    assert values[name].dtype == expected.dtype
    torch.testing.assert_close(values[name], expected, rtol=0, atol=0, equal_nan=True)


def test_do_the_passes_have_names_that_say_their_order() -> None:
    assert [p.name for p in IR_PASSES][:3] == ["fold_constants", "assign_host", "inline_scalars"]
