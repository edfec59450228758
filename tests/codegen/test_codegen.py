"""Does the generated C hold the image's commands, build with both compilers, and give its outputs and device cycles?"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from codegen_support import GCC, capture, compilers, make, needs_gcc
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from acalsim_backend import ACALSimBackend, RISCVCodeGenerator, simulate
from acalsim_backend.codegen.build import build
from acalsim_backend.codegen.literals import literals
from acalsim_backend.device.registers import Register
from acalsim_backend.errors import InputError, UnsupportedError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import ACALSimIR
from acalsim_backend.machine.elf import Elf
from acalsim_backend.models import load_target
from acalsim_backend.models.basic import MatMulModel, TransformerBlock
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.program.enums import DType
from acalsim_backend.program.image import ImageHeader
from acalsim_backend.program.program import Program
from acalsim_backend.run.session import Session
from acalsim_backend.run.standalone import Standalone

FILES = ["Makefile", "acal", "graph_0.c", "graph_0.h", "graph_0.ld", "graph_0_weights.bin", "graph_0_weights.c"]


def program(ir: ACALSimIR, hardware: str = "edge") -> Program:
    return compile_ir(ir, Target(HardwareConfig.load(hardware), "auto", "error")).program


def standalone(elf: Path, ir: ACALSimIR, hardware: str = "edge") -> Standalone:
    p = program(ir, hardware)
    examples = {i: f"example_{p.tensors[i].name}" for i in p.inputs}
    return Standalone(elf, p, "graph_0_image", examples, HardwareConfig.load(hardware))


def run_elf(elf: Path, ir: ACALSimIR) -> tuple[torch.Tensor, int | None]:
    machine = standalone(elf, ir)
    result = machine.run()
    assert machine.devices[0]._word == 0xDEADBEEF  # what main tells the Echo device
    machine.close()
    (raw,) = result.outputs.values()
    return torch.from_numpy(raw).view(torch.float32), result.cycles_accelerator_busy


def run_image(ir: ACALSimIR, x: torch.Tensor) -> tuple[torch.Tensor, int | None]:
    """The image form, weights bound from the IR's constants."""
    p = program(ir)
    session = Session(HardwareConfig.load("edge"))
    result = session.run(session.load(p), {p.inputs[0]: x.numpy()})
    session.close()
    (raw,) = result.outputs.values()
    return torch.from_numpy(raw).view(torch.float32), result.cycles_accelerator_busy


def generate(tmp_path: Path) -> tuple[nn.Module, torch.Tensor, ACALSimIR]:
    model, x = MatMulModel(), torch.randn(8, 16)
    ir = capture(model, x)
    paths = RISCVCodeGenerator(tmp_path).generate(ir, "graph_0")
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    assert sorted(Path(p).name for p in paths) == [name for name in FILES if name != "acal"]
    return model, x, ir


@compilers
def test_does_make_build_what_gives_the_images_outputs_and_device_cycles(tmp_path: Path, cross: str) -> None:
    model, x, ir = generate(tmp_path)
    make(tmp_path, cross=cross)
    for end in (".elf", ".bin", ".dump"):
        assert (tmp_path / f"graph_0{end}").stat().st_size > 0
    assert "<graph_0_forward>" in (tmp_path / "graph_0.dump").read_text()
    outputs, cycles = run_elf(tmp_path / "graph_0.elf", ir)
    expected, image_cycles = run_image(ir, x)
    assert torch.equal(outputs, expected)
    assert cycles == image_cycles
    assert (cycles or 0) > 0
    torch.testing.assert_close(outputs.reshape(8, 8), model(x), rtol=1e-5, atol=1e-5)


@needs_gcc
def test_does_another_compiler_build_anew_and_the_same_one_nothing(tmp_path: Path) -> None:
    generate(tmp_path)
    make(tmp_path)
    zig = (tmp_path / "graph_0.elf").read_bytes()
    before = (tmp_path / "graph_0.elf").stat().st_mtime_ns
    make(tmp_path)
    assert (tmp_path / "graph_0.elf").stat().st_mtime_ns == before
    make(tmp_path, cross=GCC)
    assert (tmp_path / "graph_0.elf").read_bytes() != zig


def test_is_the_bin_what_the_elf_loads(tmp_path: Path) -> None:
    generate(tmp_path)
    make(tmp_path)
    data = (tmp_path / "graph_0.bin").read_bytes()
    for segment in Elf(tmp_path / "graph_0.elf").segments:
        if any(segment.data):
            at = segment.address - 0x8000_0000
            kept = segment.data[: max(len(data) - at, 0)]
            assert data[at : at + len(kept)] == kept


def test_are_the_commands_the_images_to_the_byte(tmp_path: Path) -> None:
    """Only addresses differ: those of the C are the symbols' that the operands name."""
    model, x = TransformerBlock(), torch.randn(1, 32, 64)
    ir = capture(model, x)
    RISCVCodeGenerator(tmp_path, hardware="gemm_only").generate(ir, "graph_0")
    elf = build(tmp_path, "graph_0")
    p = program(ir, "gemm_only")
    symbol = Elf(elf).symbols["graph_0_image"]
    with elf.open("rb") as file:
        (data, start) = next(
            (s.data(), symbol - s["sh_addr"]) for s in ELFFile(file).iter_sections() if s.name == ".commands"
        )
    header = ImageHeader.decode_from(data[start : start + ImageHeader.sizeof()])
    index = np.frombuffer(data, np.uint64, len(p.commands), start + header.index)
    bindings = np.frombuffer(data, np.uint64, len(p.tensors), start + header.bindings)
    assert header.n_commands == len(p.commands) > 10
    for command, offset in zip(p.commands, index.tolist(), strict=True):
        expected = bytearray(command.encode())
        for _, _, at, view in command.operands():
            expected[at : at + 8] = (int(bindings[view.tensor]) + view.offset).to_bytes(8, "little")
        assert data[start + offset : start + offset + len(expected)] == expected, p.describe(command)


@pytest.mark.parametrize("hardware", ["edge", "gemm_only"])
def test_does_build_c_give_the_images_outputs_and_device_cycles(hardware: str) -> None:
    check_build_c("attention", hardware)


@pytest.mark.slow
def test_does_build_c_run_resnet18() -> None:
    check_build_c("resnet18", "edge")


def check_build_c(name: str, hardware: str) -> None:
    model, inputs = load_target(name)
    outputs, report = simulate(model, inputs, hardware=hardware)
    torch._dynamo.reset()
    c_outputs, c_report = simulate(model, inputs, hardware=hardware, build="c")
    assert torch.equal(outputs, c_outputs)
    assert report.cycles.accelerator_busy == c_report.cycles.accelerator_busy
    spans, c_spans = ([r.cycles for r in x.ops if r.placement == "accelerator"] for x in (report, c_report))
    assert spans == c_spans
    assert (c_report.wall_s["build"] or 0) > 0


def test_does_build_c_see_other_inputs_and_changed_weights() -> None:
    model, x = MatMulModel(), torch.randn(8, 16)
    with torch.no_grad():
        compiled = torch.compile(model, backend=ACALSimBackend(mode="simulate", build="c"))
        torch.testing.assert_close(compiled(x), model(x))
        torch.testing.assert_close(compiled(-x), model(-x))
        model.weight.mul_(2)
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("no_grad", [False, True])
def test_does_mode_codegen_write_the_graph_of_inference_and_run_eagerly(tmp_path: Path, no_grad: bool) -> None:
    model, x = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10)), torch.randn(4, 16)
    backend = ACALSimBackend(mode="codegen", output_dir=str(tmp_path))
    with torch.set_grad_enabled(not no_grad):
        output = torch.compile(model, backend=backend)(x)
    assert output.requires_grad is not no_grad
    assert torch.equal(output, model(x))
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    assert "graph_0_forward(const float *inputs, float *outputs)" in (tmp_path / "graph_0.h").read_text()
    assert backend.get_compiled_ir("graph_0") is not None


def test_are_captured_operations_named_where_they_run(tmp_path: Path) -> None:
    generate(tmp_path)
    text = (tmp_path / "graph_0.c").read_text()
    body = text[text.index("graph_0_forward(") :]
    assert "// Op 0: t_2 = MATMUL(input_0, param_1)\n    // Op 1: t_4 = ADD(t_2, param_3)\n" in body
    for name in ("graph_0_init(void)", "graph_0_cleanup(void)", "0xDEADBEEF"):
        assert name in text


class Unsupported(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(torch.linalg.matrix_exp(torch.linalg.qr(x).R))


def test_does_codegen_refuse_host_operations_and_list_them_all(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot run on the CPU or the accelerator") as caught, torch.no_grad():
        torch.compile(Unsupported(), backend=ACALSimBackend(mode="codegen", output_dir=str(tmp_path)))(
            torch.randn(3, 3)
        )
    for target in ("aten.linalg_matrix_exp", "aten.linalg_qr", "aten.linalg_inv_ex"):
        assert target in str(caught.value)
    with pytest.raises(UnsupportedError, match=r"aten\.linalg_qr"):
        RISCVCodeGenerator(tmp_path).generate(capture(Unsupported(), torch.randn(3, 3)))
    assert list(tmp_path.iterdir()) == []


def test_are_stale_graphs_removed_and_foreign_files_kept(tmp_path: Path) -> None:
    _, _, ir = generate(tmp_path)
    for path in list(tmp_path.glob("graph_0*")):  # as an earlier process would have left a second graph
        text = path.read_bytes()
        (tmp_path / path.name.replace("graph_0", "graph_7")).write_bytes(text)
    (tmp_path / "graph_8.c").write_text("int mine;\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    RISCVCodeGenerator(tmp_path).generate(ir, "graph_0")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*FILES, "graph_8.c", "notes.txt"])


def test_is_a_foreign_makefile_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:\n")
    with pytest.raises(InputError, match="Makefile: is not a file that acalsim wrote"):
        RISCVCodeGenerator(tmp_path).generate(capture(MatMulModel(), torch.randn(8, 16)), "graph_0")
    assert [p.name for p in tmp_path.iterdir()] == ["Makefile"]


def test_does_one_makefile_build_two_graphs(tmp_path: Path) -> None:
    for name, rows in (("graph_0", 8), ("graph_1", 3)):
        RISCVCodeGenerator(tmp_path).generate(capture(MatMulModel(), torch.randn(rows, 16)), name)
    make(tmp_path)
    assert (tmp_path / "graph_0.elf").exists()
    assert (tmp_path / "graph_1.elf").exists()


class Mixed(nn.Module):
    """A view, an input and an integer among the outputs, on more than one input."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = x + y.float()
        return z.T, x, y * 2, z.bool()


def test_does_a_graph_with_views_and_mixed_dtypes_equal_eager() -> None:
    inputs = (torch.randn(3, 5), torch.randint(-9, 9, (3, 5)))
    outputs, _ = simulate(Mixed(), inputs, build="c")
    for got, expected in zip(outputs, Mixed()(*inputs), strict=True):
        assert torch.equal(got, expected)


def test_are_large_weights_taken_from_the_bin_file(tmp_path: Path) -> None:
    model, x = nn.Linear(700, 600), torch.randn(2, 700)
    ir = capture(model, x)
    RISCVCodeGenerator(tmp_path).generate(ir, "graph_0")
    assert ".incbin" in (tmp_path / "graph_0_weights.c").read_text()
    make(tmp_path)
    outputs, _ = run_elf(tmp_path / "graph_0.elf", ir)
    torch.testing.assert_close(outputs.reshape(2, 600), model(x), rtol=1e-4, atol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_do_literals_read_back_to_the_same_bits(bits: int) -> None:
    (text,) = literals(np.uint32(bits).tobytes(), DType.F32)
    if np.isnan(np.uint32(bits).view(np.float32)):
        assert re.fullmatch(r'-?__builtin_nans?f\("0x[0-9a-f]+"\)', text)
    elif np.isinf(np.uint32(bits).view(np.float32)):
        assert text.endswith("__builtin_inff()")
    else:
        assert np.float32(text.removesuffix("f")).tobytes() == np.uint32(bits).tobytes()


def test_does_a_program_that_fails_say_which_command(tmp_path: Path) -> None:
    """On hardware without the command that it was generated for."""
    _, _, ir = generate(tmp_path)
    p = program(ir)
    hardware = HardwareConfig.load("edge", {"accelerator.ops": '["vector"]'})
    machine = Standalone(build(tmp_path, "graph_0"), p, "graph_0_image", {}, hardware)
    with pytest.raises(Exception, match="MATMUL"):
        machine.run()
    assert machine.devices[1].read(Register.STATUS, 4) & 4
