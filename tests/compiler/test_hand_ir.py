"""Is IR that was written by hand what PyTorch would compute, and is every mistake in it named instead of computed?"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.codegen.riscv_codegen import RISCVCodeGenerator
from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.errors import AcalsimError, InputError, ProgramError
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ops import by_hand
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.run.executable import Executable
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import WeightCache

Function = Callable[..., torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Row:
    """An operation that is right: its inputs, its attributes, and PyTorch's function for it."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    attrs: dict[str, Any]
    function: Function
    dtype: str = "float32"

    def values(self) -> list[torch.Tensor]:
        torch.manual_seed(0)
        return [(torch.rand(shape) * 3 + 0.5).to(getattr(torch, self.dtype)) for shape in self.shapes]


ROWS = [
    Row("ADD", ((2, 3), (3,)), {"alpha": 2}, lambda x, y: torch.add(x, y, alpha=2)),
    Row("SUB", ((2, 3),), {"other": 2.5}, lambda x: x - 2.5),
    Row("MUL", ((3,), (2, 1)), {}, torch.mul, "int32"),
    Row("POW", ((3,),), {"exponent": 2}, lambda x: x**2),
    Row("POW", ((3,),), {"self": 2}, lambda x: 2**x),
    Row("GE", ((3,),), {"other": 1}, lambda x: x >= 1),
    Row("CLAMP", ((3,),), {"min": 1.0, "max": 2.0}, lambda x: x.clamp(1, 2)),
    Row("CAST", ((3,),), {"dtype": "int32"}, lambda x: x.to(torch.int32)),
    Row("RELU", ((3,),), {}, torch.relu),
    Row("GELU", ((3,),), {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    Row("MATMUL", ((2, 4), (4, 3)), {}, torch.mm),
    Row("MATMUL", ((2, 2, 4), (2, 4, 3)), {}, torch.bmm),
    Row("GEMM", ((3,), (2, 4), (4, 3)), {"alpha": 2}, lambda b, x, y: torch.addmm(b, x, y, alpha=2)),
    Row("CONV2D", ((1, 2, 4, 4), (3, 2, 3, 3)), {}, F.conv2d),
    Row(
        "CONV2D", ((1, 2, 4, 4), (3, 2, 3, 3), (3,)), {"padding": (1, 1)}, lambda x, w, b: F.conv2d(x, w, b, padding=1)
    ),
    Row("CONV2D", ((1, 2, 5), (3, 2, 2)), {"stride": (2,)}, lambda x, w: F.conv1d(x, w, stride=2)),
    Row("SOFTMAX", ((2, 3),), {"dim": 1}, lambda x: x.softmax(1)),
    Row("LOG_SOFTMAX", ((2, 3),), {"dim": -2}, lambda x: x.log_softmax(-2)),
    Row("LAYER_NORM", ((2, 3), (3,)), {"normalized_shape": (3,)}, lambda x, w: F.layer_norm(x, (3,), w)),
    Row(
        "BATCH_NORM", ((2, 3), (3,), (3,), (3,), (3,)), {}, lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b)
    ),
    Row("SUM", ((2, 3),), {"dim": (1,), "keepdim": True}, lambda x: x.sum(1, keepdim=True)),
    Row("SUM", ((2, 3),), {}, torch.sum, "int8"),
    Row("MEAN", ((2, 3, 2),), {"dim": (0, 2)}, lambda x: x.mean((0, 2))),
    Row("MAX", ((2, 3),), {"dim": (1,)}, lambda x: x.amax(1)),
    Row("MAX_POOL2D", ((1, 1, 4, 4),), {"kernel_size": (2, 2)}, lambda x: F.max_pool2d(x, 2)),
    Row("AVG_POOL2D", ((1, 1, 4, 4),), {"kernel_size": (2, 2)}, lambda x: F.avg_pool2d(x, 2)),
    Row("ADAPTIVE_AVG_POOL2D", ((1, 1, 4, 4),), {"output_size": (2, 2)}, lambda x: F.adaptive_avg_pool2d(x, 2)),
    Row("RESHAPE", ((2, 3),), {"shape": (3, 2)}, lambda x: x.reshape(3, 2)),
    Row("RESHAPE", ((2, 3),), {"size": (-1,)}, lambda x: x.view(-1)),
    Row("FLATTEN", ((2, 3, 4),), {"start_dim": 1}, lambda x: x.flatten(1)),
    Row("UNSQUEEZE", ((2, 3),), {"dim": 1}, lambda x: x.unsqueeze(1)),
    Row("SQUEEZE", ((2, 1),), {"dim": 1}, lambda x: x.squeeze(1)),
    Row("PERMUTE", ((2, 3, 4),), {"dims": (1, 2, 0)}, lambda x: x.permute(1, 2, 0)),
    Row("TRANSPOSE", ((2, 3),), {}, torch.t),
    Row("EXPAND", ((1, 3),), {"size": (2, 3)}, lambda x: x.expand(2, 3)),
    Row("SLICE", ((5,),), {"dim": 0, "start": 1, "end": 5, "step": 2}, lambda x: x[1:5:2]),
    Row("SELECT", ((3, 4),), {"dim": 0, "index": -1}, lambda x: x[-1]),
    Row("SPLIT", ((5, 2),), {"split_size": 3}, lambda x: x.split(3)[0]),
    Row("FLIP", ((2, 3),), {"dims": (1,)}, lambda x: x.flip(1)),
    Row("AS_STRIDED", ((3, 4),), {"size": (2, 2), "stride": (4, 1)}, lambda x: x.as_strided((2, 2), (4, 1))),
    Row("CAT", ((2, 3), (1, 3)), {}, lambda x, y: torch.cat([x, y])),
    Row("PAD", ((3,),), {"pad": (1, 1)}, lambda x: F.pad(x, (1, 1))),
    Row("FULL", (), {"size": (2,), "fill_value": 2.5, "dtype": "float32"}, lambda: torch.full((2,), 2.5)),
]
rows = pytest.mark.parametrize("row", ROWS, ids=[f"{i}_{row.kind}" for i, row in enumerate(ROWS)])


def ir_of(row: Row, **changes: Any) -> ACALSimIR:
    """The IR of one operation y = KIND(x0, x1, ...); ``changes`` are fields of the operation."""
    ir = ACALSimIR("hand")
    names = [f"x{i}" for i in range(len(row.shapes))]
    for name, shape in zip(names, row.shapes, strict=True):
        ir.add_tensor(TensorDesc(name, shape, row.dtype, is_input=True))
    y = row.function(*row.values())
    ir.add_tensor(TensorDesc("y", tuple(y.shape), str(y.dtype).removeprefix("torch."), is_output=True))
    op = ACALSimOp(ACALSimOpType[row.kind], f"{row.kind.lower()}_0", names, ["y"], dict(row.attrs))
    ir.add_op(dataclasses.replace(op, **changes))
    return ir


def run(ir: ACALSimIR, *args: Any) -> list[torch.Tensor]:
    target = Target()
    with Session(target.hardware, "native") as session:
        return Executable(compile_ir(ir, target).interface(), session, WeightCache(session)).run(args)[0]


@rows
def test_is_what_is_right_computed_as_pytorch_does(row: Row) -> None:
    (y,) = run(ir_of(row), *row.values())
    torch.testing.assert_close(y, row.function(*row.values()), rtol=1e-5, atol=1e-5)


@rows
def test_may_attributes_be_lists_and_numbers_of_numpy(row: Row) -> None:
    def loose(value: Any) -> Any:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return [*map(loose, value)] if isinstance(value, tuple) else np.asarray(value)[()] if number else value

    (y,) = run(ir_of(row, attrs={name: loose(value) for name, value in row.attrs.items()}), *row.values())
    torch.testing.assert_close(y, row.function(*row.values()), rtol=1e-5, atol=1e-5)


@rows
@pytest.mark.parametrize("change", ["dtype", "longer", "rank"])
def test_is_a_result_that_pytorch_does_not_have_named_with_both(row: Row, change: str) -> None:
    ir = ir_of(row)
    y = ir.tensors["y"]
    right = f"{y.shape} {y.dtype}"
    if change == "dtype":
        y.dtype = "int16"
    else:
        y.shape = (1, *y.shape) if change == "rank" else (*y.shape[:-1], 9)
    with pytest.raises(InputError) as error:
        compile_ir(ir, Target())
    for part in (f"= {row.kind}(", f"y is {y.shape} {y.dtype}", f"PyTorch's result is {right}"):
        assert part in str(error.value)


@rows
def test_is_an_attribute_that_the_operation_does_not_have_named(row: Row) -> None:
    with pytest.raises(InputError, match=r"has no negative_slope, only "):
        compile_ir(ir_of(row, attrs={**row.attrs, "negative_slope": 0.1}), Target())


@rows
@pytest.mark.parametrize(
    "value", ["nosuch", ("a", 0.5), object(), torch.ones(2)], ids=["text", "pair", "object", "tensor"]
)
def test_is_an_attribute_of_another_kind_refused(row: Row, value: Any) -> None:
    for name in row.attrs:
        with pytest.raises(InputError, match=rf"= {row.kind}\("):
            compile_ir(ir_of(row, attrs={**row.attrs, name: value}), Target())


@rows
def test_is_an_operation_without_inputs_or_with_too_many_named(row: Row) -> None:
    if row.shapes:
        with pytest.raises(InputError, match=r"needs |PyTorch refuses it"):
            compile_ir(ir_of(row, inputs=[]), Target())
    if row.kind != "CAT":
        ir = ir_of(row, inputs=["c"] * 9)
        ir.add_tensor(TensorDesc("c", ()))
        ir.constants["c"] = 0.5
        with pytest.raises(InputError, match=r"takes \d tensors, got 9 inputs"):
            compile_ir(ir, Target())


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=2), st.just(2**70),
    st.lists(st.integers(-3, 9), max_size=4), st.just(np.arange(3)), st.just(torch.ones(2)), st.just(torch.int8),
)  # fmt: skip


@given(st.sampled_from(ROWS), st.data())
def test_is_whatever_is_wrong_an_error_of_ours(row: Row, data: st.DataObject) -> None:
    """An operation with random changes compiles, or one error names it."""
    names = st.lists(st.sampled_from([f"x{i}" for i in range(len(row.shapes))] or ["y"]), max_size=4)
    roles = st.lists(st.sampled_from(["self", "input", "other", "tensors.0", "tensors.a", "x"]), max_size=3)
    arguments = st.sampled_from(
        [*row.attrs, "dim", "dtype", "other", "self", "stride", "self.length", "tensors.length"]
    )
    fields = {
        "attrs": st.dictionaries(arguments, JUNK, max_size=3).map(lambda changed: {**row.attrs, **changed}),
        "inputs": names,
        "outputs": st.sampled_from([[], ["y"], ["y", "y"], ["x0"], ["nope"], "y", None]),
        "roles": roles,
        "results": st.lists(st.integers(-1, 3), max_size=2),
        "target": st.sampled_from(
            ["", "aten", "aten.nosuch.default", "aten.relu.default", "a.b.c", "..", "aten.add_.Tensor"]
        ),
        "compute": st.sampled_from(["", "float", "int8"]),
        "op_type": st.sampled_from([*ACALSimOpType, row.kind]),
    }
    changed = data.draw(st.sets(st.sampled_from(sorted(fields)), min_size=1, max_size=2))
    changes = {name: data.draw(fields[name]) for name in sorted(changed)}
    ir = ir_of(row, **changes)
    try:
        compile_ir(ir, Target(fallback="error"))
    except AcalsimError as error:
        assert "hand" in str(error)  # noqa: PT017  # there may be none


def two() -> ACALSimIR:
    """y = x + w."""
    ir = ACALSimIR("hand")
    ir.add_tensor(TensorDesc("x", (3,), is_input=True))
    ir.add_tensor(TensorDesc("w", (3,), is_param=True))
    ir.add_tensor(TensorDesc("y", (3,), is_output=True))
    ir.constants["w"] = np.zeros(3, np.float32)
    ir.add_op(ACALSimOp(ACALSimOpType.ADD, "add_0", ["x", "w"], ["y"]))
    return ir


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ir: setattr(ir.tensors["x"], "dtype", "float"), "tensor x has dtype 'float', expected one of bool"),
        (lambda ir: setattr(ir.tensors["x"], "dtype", "complex64"), "x has dtype 'complex64', expected one of bool"),
        (lambda ir: setattr(ir.tensors["x"], "dtype", np.dtype("float32")), "expected one of bool"),
        (lambda ir: setattr(ir.tensors["x"], "shape", (-3,)), r"x has shape \(-3,\), expected a tuple of integers"),
        (lambda ir: setattr(ir.tensors["x"], "shape", (3.0,)), r"x has shape \(3.0,\), expected a tuple of integers"),
        (lambda ir: setattr(ir.tensors["x"], "shape", 3), "x has shape 3, expected a tuple of integers"),
        (lambda ir: setattr(ir.tensors["x"], "strides", (1, 1)), r"strides \(1, 1\), expected one for each of \(3,\)"),
        (lambda ir: setattr(ir.tensors["x"], "name", "z"), "tensor 'z' is entered as 'x'"),
        (lambda ir: setattr(ir.ops[0], "op_type", "RELU"), "add_0: op_type is 'RELU', expected a member"),
        (lambda ir: setattr(ir.ops[0], "attrs", None), "add_0: attrs is None, expected a dict"),
        (lambda ir: setattr(ir.ops[0], "inputs", "x"), "add_0: inputs is 'x', expected a list of names"),
        (lambda ir: setattr(ir.ops[0], "inputs", ["x", "q"]), r"y = ADD\(x, q\) reads q, which nothing before it"),
        (lambda ir: setattr(ir.ops[0], "target", "aten.neg.default"), "target is 'aten.neg.default', expected one of"),
        (lambda ir: setattr(ir, "input_names", ["z"]), r"input_names are \['z'\], .* inputs are \['x'\]"),
        (lambda ir: setattr(ir, "output_names", ["z"]), "output z is never defined"),
        (lambda ir: setattr(ir, "arguments", {"x": -1}), "arguments has 'x': -1, expected a tensor and its position"),
        (lambda ir: setattr(ir, "mutations", [("q", "y")]), "mutation of 'q', expected one of x"),
        (lambda ir: setattr(ir, "mutations", [("x", "q")]), "output q is never defined"),
        (lambda ir: ir.constants.clear(), "no values for the parameters w: put them into constants"),
        (lambda ir: ir.constants.update(x=np.zeros(3, np.float32)), "constant x is marked as an input"),
    ],
)  # fmt: skip
def test_is_a_mistake_in_the_tables_named(change: Callable[[ACALSimIR], object], message: str) -> None:
    ir = two()
    change(ir)
    with pytest.raises((InputError, ProgramError), match=f"hand: .*{message}"):
        compile_ir(ir, Target())


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("CUSTOM", {"target": "aten.nosuch.default"}, "PyTorch has no operator 'aten.nosuch.default'"),
        ("CUSTOM", {"target": "nosuch"}, "PyTorch has no operator 'nosuch', expected a name like 'aten.add.Tensor'"),
        ("CUSTOM", {"target": "aten.relu_.default"}, "writes to its arguments"),
        ("CUSTOM", {}, "a HOST operation needs target="),
        ("VECTOR", {}, "stands for the operations in its body, which is empty"),
        ("RELU", {"results": [1]}, "y is its result 1, PyTorch returns 1"),
        ("SELECT", {"attrs": {"dim": 0, "index": 7}}, "index 7 out of range"),
        ("SELECT", {"attrs": {"dim": 3, "index": 0}}, "Dimension out of range"),
        ("SLICE", {"attrs": {"dim": 0, "start": 1, "end": 6}}, r"PyTorch's result is \(2,\) float32"),
        ("AS_STRIDED", {"attrs": {"size": (3,), "stride": (2,)}}, "elements 0 to 4 of x, whose memory has 3"),
        ("CLAMP", {}, "both min and max"),
        ("LAYER_NORM", {}, "needs normalized_shape"),
        ("GEMM", {"inputs": ["x", "x"]}, "needs mat2, got self, mat1"),
        ("ADD", {"roles": ["self"], "attrs": {"self": 1, "other": 1}}, "given twice: self, self, other"),
        ("RELU", {"compute": "float"}, "compute is 'float', expected one of bool"),
    ],
)
def test_is_a_mistake_in_an_operation_named(kind: str, fields: dict[str, Any], message: str) -> None:
    ir = ACALSimIR("hand")
    ir.add_tensor(TensorDesc("x", (3,), is_input=True))
    ir.add_tensor(TensorDesc("y", (3,), is_output=True))
    op = ACALSimOp(ACALSimOpType[kind], "o", ["x"], ["y"])
    ir.add_op(dataclasses.replace(op, **fields))
    with pytest.raises(InputError, match=message):
        compile_ir(ir, Target())


def test_is_a_mutation_by_another_shape_refused() -> None:
    ir = two()
    ir.add_tensor(TensorDesc("s", ()))
    ir.add_op(ACALSimOp(ACALSimOpType.SUM, "sum_1", ["x"], ["s"]))
    ir.mutations = [("x", "s")]
    with pytest.raises(InputError, match=r"x: \(3,\) float32 \[input\] cannot become s: \(\) float32"):
        compile_ir(ir, Target())


def test_is_a_group_that_was_written_by_hand_computed() -> None:
    ir = ACALSimIR("hand")
    for name in "xty":
        ir.add_tensor(TensorDesc(name, (3,), is_input=name == "x", is_output=name == "y"))
    body = (ACALSimOp(ACALSimOpType.EXP, "e", ["x"], ["t"]), ACALSimOp(ACALSimOpType.NEG, "n", ["t"], ["y"]))
    ir.add_op(ACALSimOp(ACALSimOpType.VECTOR, "v", ["x"], ["y"], body=body))
    x = torch.randn(3)
    assert [c.opcode.name for c in compile_ir(ir, Target()).program.commands] == ["VECTOR"]
    torch.testing.assert_close(run(ir, x)[0], -x.exp())


VALUES = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize(
    "value",
    [
        VALUES[::-2],
        VALUES[:3].astype(">f4"),
        np.broadcast_to(np.float32(2), (3,)),
        VALUES.reshape(2, 3).T[:, 1],
        [1.0, 2.0, 3.0],
        (1.0, 2.0, 3.0),
        torch.nn.Parameter(torch.ones(3)),
    ],
    ids=["reversed", "big-endian", "read-only", "strided", "list", "tuple", "parameter"],
)
def test_may_a_constant_be_any_array_or_list(value: Any) -> None:
    ir = two()
    ir.constants["w"] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (y,) = run(ir, torch.ones(3))
    expected = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value, np.float32)
    assert y.tolist() == (1 + expected).tolist()


@pytest.mark.parametrize(
    "value", [None, "abc", np.array([1, None]), np.zeros(3, [("a", "f4")]), np.array(["a"]), [[1.0], [1.0, 2.0]], {}]
)
def test_is_a_constant_that_is_no_tensor_named(value: Any) -> None:
    ir = two()
    ir.constants["w"] = value
    with pytest.raises(InputError, match=r"hand: constant w is a .*, expected a tensor, a NumPy array or numbers"):
        compile_ir(ir, Target())


WRONG_ARGUMENTS = pytest.mark.parametrize(
    ("value", "got"),
    [
        (torch.ones(3, dtype=torch.int32), r"\(3,\) torch.int32"),
        (torch.ones(4), r"\(4,\) torch.float32"),
        (torch.ones(1, 3), r"\(1, 3\) torch.float32"),
    ],
)


@WRONG_ARGUMENTS
def test_is_an_argument_of_another_kind_refused(value: torch.Tensor, got: str, tmp_path: Path) -> None:
    message = rf"argument 0, x: got {got}, expected a tensor of \(3,\) torch.float32"
    with pytest.raises(InputError, match=message):
        run(two(), value)
    with pytest.raises(InputError, match=message):
        RISCVCodeGenerator(tmp_path).generate(two(), "g", [value])


@pytest.mark.parametrize(("args", "got"), [((), "none"), (([1.0] * 3,), "list"), ((np.ones(3),), "ndarray")])
def test_is_an_argument_that_is_no_tensor_refused(args: tuple[Any, ...], got: str) -> None:
    with pytest.raises(InputError, match=f"argument 0, x: got {got}, expected a tensor"):
        run(two(), *args)


def test_may_example_inputs_be_arrays(tmp_path: Path) -> None:
    array = np.array([0.5, 1.5, 2.5], np.float32)
    for folder, value in (("array", array[::-1]), ("tensor", torch.from_numpy(array[::-1].copy()))):
        RISCVCodeGenerator(tmp_path / folder).generate(two(), "g", [value])
    texts = [(tmp_path / folder / "g_weights.c").read_text() for folder in ("array", "tensor")]
    assert texts[0] == texts[1]


def test_is_captured_ir_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ir = ACALSimCompiler().compile(lambda x: torch.relu(x).sum(), [torch.ones(3)])
    monkeypatch.setattr(by_hand, "evaluate", lambda *_: pytest.fail("PyTorch was asked"))
    compile_ir(ir, Target())


def test_is_what_was_added_to_captured_ir_by_hand_compared() -> None:
    ir = ACALSimCompiler().compile(lambda x: torch.relu(x), [torch.ones(3)])
    ir.add_tensor(TensorDesc("more", (4,)))
    ir.add_op(ACALSimOp(ACALSimOpType.NEG, "neg_1", [ir.output_names[0]], ["more"]))
    with pytest.raises(InputError, match=r"more is \(4,\) float32, PyTorch's result is \(3,\) float32"):
        compile_ir(ir, Target())


def test_does_every_element_type_have_a_place() -> None:
    for dtype in DTYPES:
        ir = ir_of(Row("LOAD", ((3,),), {}, torch.clone, dtype))
        x = torch.ones(3).to(getattr(torch, dtype))
        assert torch.equal(run(ir, x)[0], x)
