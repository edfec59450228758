"""May a tensor, an output or a graph be called anything, and is what cannot be a name refused?"""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from codegen_support import compilers, make
from hypothesis import given, settings
from hypothesis import strategies as st

from acalsim_backend import RISCVCodeGenerator
from acalsim_backend.codegen.build import build
from acalsim_backend.codegen.names import c_names, comment, macro_names
from acalsim_backend.errors import InputError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.run.standalone import Standalone

IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
EVERYDAY = ("a", "x", "out", "size", "index", "command", "header", "dims", "addr", "dtype", "rank", "h_t", "W")
SYSTEM = ("memmove", "memcmp", "INT64_MIN", "SIZE_MAX", "wchar_t", "__riscv", "_Bool", "_", "__bss_start", "__end")
ASSEMBLER = (
    "a0",
    "sp",
    "t0",
    "ra",
    "zero",
    "x5",
    "fa0",
    "gp",
    "pc",
    "cycle",
    "mstatus",
    "hi",
    "ALIGN",
    "SIZEOF",
    "RAM",
)


def rotation(i: int) -> npt.NDArray[np.float32]:
    """A matrix unlike the others, under which no value grows."""
    return np.array([[np.cos(i), np.sin(i)], [-np.sin(i), np.cos(i)]], dtype=np.float32)


def chain(names: list[str], graph: str = "graph_0") -> ACALSimIR:
    """``t = t @ weight + softmax(entry)`` again and again; a third of the names are weights, inputs and what softmax
    gives, each.
    """
    ir = ACALSimIR(graph)
    t = "first value"
    ir.add_tensor(TensorDesc(t, (2, 2), is_input=True))
    third = len(names) // 3
    for i, (weight, entry, result) in enumerate(
        zip(names[:third], names[third : 2 * third], names[2 * third : 3 * third], strict=True)
    ):
        ir.add_tensor(TensorDesc(weight, (2, 2), is_param=True))
        ir.constants[weight] = rotation(i)
        ir.add_tensor(TensorDesc(entry, (2, 2), is_input=True))
        ir.add_tensor(TensorDesc(result, (2, 2)))
        between = f"between {i}"
        ir.add_tensor(TensorDesc(between, (2, 2)))
        ir.add_op(ACALSimOp(ACALSimOpType.MATMUL, f"op_{i}", [t, weight], [between]))
        ir.add_op(ACALSimOp(ACALSimOpType.SOFTMAX, f"op_{i}", [entry], [result], {"dim": -1}))
        t = f"after {i}"
        ir.add_tensor(TensorDesc(t, (2, 2)))
        ir.add_op(ACALSimOp(ACALSimOpType.ADD, f"op_{i}", [between, result], [t]))
    ir.add_tensor(TensorDesc("end\nof\\", (2, 2), is_output=True))
    ir.add_op(ACALSimOp(ACALSimOpType.SOFTMAX, "last", [t], ["end\nof\\"], {"dim": -1}))
    return ir


@functools.cache
def identifiers() -> list[str]:
    """All words of the generated files and of the runtime beside them, and names that are somebody's elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        RISCVCodeGenerator(folder, inline_kernels=True).generate(chain(["w", "e", "r"]))
        texts = [p.read_text() for p in Path(folder).rglob("*") if p.suffix in (".c", ".h", ".S", ".ld")]
    words = {word for text in texts for word in re.findall(IDENTIFIER, text)}
    assert words > {"acal_begin", "graph_0_forward", "trap_entry", "wait_device_ready", "REG_STATUS", "uint32_t"}
    return sorted(words.union(EVERYDAY, SYSTEM, ASSEMBLER))


def check(folder: Path, names: list[str], *, inline_kernels: bool = False) -> None:
    """Generate, build and run the chain, and compare."""
    ir = chain(names)
    RISCVCodeGenerator(folder, inline_kernels=inline_kernels).generate(ir)
    hardware = HardwareConfig.load("edge")
    program = compile_ir(ir, Target(hardware, "cpu" if inline_kernels else "auto", "error")).program
    machine = Standalone(build(folder, "graph_0"), program, "graph_0_image", {}, hardware)
    (raw,) = machine.run().outputs.values()
    machine.close()
    x = ((torch.arange(4) % 10) / 10).reshape(2, 2)
    value = x
    for i in range(len(names) // 3):
        value = value @ torch.from_numpy(rotation(i)) + torch.softmax(x, -1)
    got = torch.from_numpy(raw).view(torch.float32).reshape(2, 2)
    torch.testing.assert_close(got, torch.softmax(value, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("turn", range(3))
def test_may_tensors_be_called_as_anything_in_the_generated_files(tmp_path: Path, turn: int) -> None:
    """Each word as a weight, as an input and as an intermediate result."""
    words = identifiers()
    third = len(words) // 3
    check(tmp_path, words[turn * third :] + words[: turn * third])


@given(names=st.data())
@settings(max_examples=3, deadline=None)
def test_may_tensors_of_loops_be_called_so(tmp_path_factory: pytest.TempPathFactory, names: st.DataObject) -> None:
    drawn = names.draw(st.lists(st.sampled_from(identifiers()), min_size=60, max_size=60, unique=True))
    check(tmp_path_factory.mktemp("loops"), drawn, inline_kernels=True)


@compilers
def test_do_such_names_build_by_make_without_a_warning(tmp_path: Path, cross: str) -> None:
    names = [
        *EVERYDAY,
        *SYSTEM,
        *ASSEMBLER,
        "memcpy",
        "uint8_t",
        "example_w",
        "w",
        "graph_0_image",
        "main_input_0",
        "reg",
    ]
    RISCVCodeGenerator(tmp_path).generate(chain([*names, *names[:2], "last one"][: len(names) // 3 * 3]))
    assert "warning" not in make(tmp_path, "graph_0.elf", cross=cross)


@compilers
def test_may_weights_in_the_bin_file_be_called_as_registers(tmp_path: Path, cross: str) -> None:
    ir = ACALSimIR("graph_0")
    t = "in"
    ir.add_tensor(TensorDesc(t, (2, 200), is_input=True))
    for weight in ASSEMBLER:
        ir.add_tensor(TensorDesc(weight, (200, 200), is_param=True))
        ir.constants[weight] = np.ones((200, 200), dtype=np.float32)
        last, t = t, f"after {weight}"
        ir.add_tensor(TensorDesc(t, (2, 200), is_output=weight == ASSEMBLER[-1]))
        ir.add_op(ACALSimOp(ACALSimOpType.MATMUL, "op", [last, weight], [t]))
    RISCVCodeGenerator(tmp_path).generate(ir)
    assert "STORED(a0," in (tmp_path / "graph_0_weights.c").read_text()
    make(tmp_path, "graph_0.elf", cross=cross)


@given(st.lists(st.text(max_size=6), max_size=12))
@settings(max_examples=200)
def test_are_c_names_identifiers_and_different(names: list[str]) -> None:
    found = c_names([*names, "int", "x.1", "x_1", "k", "v3", "memcpy", "g_image", "_x"], "g")
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(IDENTIFIER, name) and not name.startswith("_") for name in found)
    assert not {"int", "k", "v3", "memcpy", "g_image"}.intersection(found)
    plain = ["t_0", "param_1", "input_2", "bias", "h_t", "size", "a"]
    assert c_names(plain, "g") == plain


def test_do_weights_that_differ_in_case_have_dimensions_of_their_own() -> None:
    assert macro_names(["w", "W", "reg"]) == {"w": "W", "W": "W_", "reg": "REG_"}


@given(st.text(alphabet=st.sampled_from("?/\\ \n\r\x0b\x0c\u2028\u202e\0\ud800aß*"), max_size=12))
@settings(max_examples=500)
def test_does_a_comment_end_with_its_line(text: str) -> None:
    shown = comment(text)
    assert len(f"// {shown}".splitlines()) == 1
    assert shown.isprintable()
    assert not shown.replace("??/", "\\").endswith("\\")
    shown.encode()


def test_is_the_name_of_an_output_shown_on_one_line(tmp_path: Path) -> None:
    RISCVCodeGenerator(tmp_path).generate(chain(["w", "e", "r"]))
    assert "//   0: end of [2, 2], f32\n" in (tmp_path / "graph_0.h").read_text()


@pytest.mark.parametrize(
    "name", ["", "a-b", "graph 1", "../up", "1st", "größe", "acal", "ACAL", "acal_abi", "stddef", "Stdint", "__global"]
)
def test_is_a_graph_name_that_c_cannot_have_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"names functions and files of C.*expected"):
        RISCVCodeGenerator(tmp_path).generate(chain(["w", "e", "r"], name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["main", "int", "_", "acalibrated"])
def test_may_any_other_identifier_be_a_graph_name(tmp_path: Path, name: str) -> None:
    RISCVCodeGenerator(tmp_path).generate(chain(["x_init", "x_image", "X_H"], name))
    build(tmp_path, name)
