"""Which status and address does a kernel give for a command that it cannot run?"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch
from command_cases import CASES, Case, Micro, elementwise, make
from hypothesis import given
from hypothesis import strategies as st
from kernel_bench import KernelBench

from acalsim_backend.program.commands import (
    HEADER_SIZE,
    Command,
    Conv2d,
    Gather,
    Gemm,
    Norm,
    Pool2d,
    Reduce,
    Scan,
    Scatter,
    Softmax,
    Sort,
    Vector,
)
from acalsim_backend.program.enums import IMAGE_MAGIC, Activation, DType, Placement, ReduceOp, ScanOp, Status, VectorOp
from acalsim_backend.program.image import ImageHeader, build_image
from acalsim_backend.program.layout import OPERAND_SIZE, Operand
from acalsim_backend.program.view import View

BENCH = KernelBench()


def failure(bench: KernelBench, command: Command) -> tuple[Status, int]:
    return bench.execute(command.encode())


def laid_out(bench: KernelBench, name: str) -> Any:
    """The first command of a good case, ready to be damaged."""
    _, commands = bench.lay_out(make(name))
    return commands[0]


@pytest.mark.parametrize(
    ("offset", "fmt", "value", "status"),
    [
        (0, "<H", 0, Status.BAD_OPCODE),
        (0, "<H", 14, Status.BAD_OPCODE),
        (0, "<H", 16, Status.BAD_OPCODE),  # HOST is the walker's business
        (0, "<H", 999, Status.BAD_OPCODE),
        (2, "<H", 2, Status.BAD_VERSION),
        (4, "<I", 64, Status.BAD_SHAPE),
        (HEADER_SIZE + 8, "<B", 10, Status.BAD_DTYPE),
        (HEADER_SIZE + 9, "<B", 7, Status.BAD_RANK),
        (HEADER_SIZE + 9, "<B", 3, Status.BAD_RANK),
        (HEADER_SIZE + 10, "<H", 0, Status.BAD_ADDRESS),
        (HEADER_SIZE + 12, "<i", 1, Status.UNSUPPORTED),
        (HEADER_SIZE + 16, "<q", -1, Status.BAD_SHAPE),
        (HEADER_SIZE + 16, "<q", 14, Status.BAD_SHAPE),
        (HEADER_SIZE + 16, "<q", 1 << 62, Status.BAD_SHAPE),
        (HEADER_SIZE + 64, "<q", 1 << 62, Status.BAD_ADDRESS),
        (HEADER_SIZE + 64, "<q", -(1 << 40), Status.BAD_ADDRESS),
        (HEADER_SIZE + 4 * OPERAND_SIZE + 8, "<I", 6, Status.UNSUPPORTED),
    ],
)
def test_damaged_fields(bench: KernelBench, offset: int, fmt: str, value: int, status: Status) -> None:
    data = bytearray(laid_out(bench, "gemm_plain").encode())
    struct.pack_into(fmt, data, offset, value)
    assert bench.execute(bytes(data))[0] is status


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("barrier")])
def test_is_every_operand_kept_inside_ram(bench: KernelBench, name: str) -> None:
    _, commands = bench.lay_out(make(name))
    beyond = bench.ram.base + bench.ram.size
    for command in commands:
        for _, _, at, view in command.operands():
            if view.numel == 0:
                continue
            data = bytearray(command.encode())
            struct.pack_into("<Q", data, at, beyond)
            assert bench.execute(bytes(data)) == (Status.BAD_ADDRESS, beyond)
            struct.pack_into("<Q", data, at, 0)
            assert bench.execute(bytes(data)) == (Status.BAD_ADDRESS, 0)
            if view.dtype.itemsize > 1:
                struct.pack_into("<Q", data, at, bench.ram.base + 1)
                assert bench.execute(bytes(data)) == (Status.UNALIGNED, bench.ram.base + 1)


def with_operand(field: str, **changes: Any) -> Callable[[Any], Command]:
    return lambda command: dataclasses.replace(
        command, **{field: dataclasses.replace(getattr(command, field), **changes)}
    )


def with_fields(**changes: Any) -> Callable[[Any], Command]:
    return lambda command: dataclasses.replace(command, **changes)


@pytest.mark.parametrize(
    ("name", "damage", "status"),
    [
        ("gemm_plain", with_operand("a", dtype=DType.I32), Status.BAD_DTYPE),
        ("gemm_plain", with_operand("out", dims=(13, 17)), Status.BAD_SHAPE),
        ("gemm_int8_to_int32", with_fields(activation=Activation.GELU), Status.UNSUPPORTED),
        ("gemm_int8_to_int32", with_fields(alpha=0.5), Status.UNSUPPORTED),
        ("gemm_int8_to_int32", with_fields(beta=float("nan")), Status.UNSUPPORTED),
        ("gemm_float64", with_fields(activation=Activation.TANH), Status.UNSUPPORTED),
        ("conv2d_strided", with_fields(groups=0), Status.BAD_SHAPE),
        ("conv2d_strided", with_fields(groups=2), Status.BAD_SHAPE),
        ("conv2d_strided", with_fields(stride=(0, 1)), Status.BAD_SHAPE),
        ("conv2d_strided", with_fields(dilation=(1, 0)), Status.BAD_SHAPE),
        ("conv2d_strided", with_fields(padding=(-1, 0)), Status.BAD_SHAPE),
        ("conv2d_strided", with_operand("weight", dtype=DType.I32), Status.BAD_DTYPE),
        ("conv2d_strided", with_operand("weight", dims=(8, 3, 49), strides=(147, 49, 1)), Status.BAD_RANK),
        ("reduce_bfloat16", with_operand("out", dtype=DType.I16), Status.BAD_DTYPE),
        ("reduce_bfloat16", with_fields(axes=1 << 5), Status.BAD_RANK),
        ("reduce_finds_the_first_extreme", with_fields(op=ReduceOp.SUM), Status.UNSUPPORTED),
        ("reduce_finds_the_first_extreme", with_operand("indices", dtype=DType.F64), Status.BAD_DTYPE),
        ("softmax_rows", with_operand("x", dtype=DType.I32), Status.BAD_DTYPE),
        ("norm_plain", with_operand("x", dtype=DType.I32), Status.BAD_DTYPE),
        ("pool2d_average", with_operand("x", dtype=DType.I32), Status.BAD_DTYPE),
        ("pool2d_max_with_indices", with_fields(stride=(0, 0)), Status.BAD_SHAPE),
        ("copy_permuted", with_operand("x", dims=(1, 1, 1)), Status.BAD_SHAPE),
        ("gather_rows", with_operand("out", dims=(2, 2, 300)), Status.BAD_SHAPE),
        ("gather_rows", with_operand("out", dtype=DType.I32), Status.BAD_DTYPE),
        ("gather_rows", with_fields(batch=3), Status.BAD_RANK),
        ("gather_elements_along_an_axis", with_operand("x", dims=(4, 2, 6)), Status.BAD_SHAPE),
        ("gather_by_two_indices_from_the_end", with_fields(wrap=0), Status.INDEX),
        ("scatter_sets_every_row", with_operand("out", dims=(4, 40)), Status.INDEX),
        ("scatter_sets_every_row", with_operand("x", dims=(5, 39)), Status.BAD_SHAPE),
        ("scan_sums_and_products", with_fields(axis=3), Status.BAD_RANK),
        ("scan_sums_and_products", with_operand("out", dims=(2, 5, 2)), Status.BAD_SHAPE),
        ("scan_sums_and_products", with_operand("out", dtype=DType.I32), Status.BAD_DTYPE),
        ("scan_finds_the_last_extreme", with_fields(op=ScanOp.SUM), Status.UNSUPPORTED),
        ("scan_finds_the_last_extreme", with_operand("indices", dtype=DType.I32), Status.BAD_DTYPE),
        ("sort_rows", with_fields(axis=3), Status.BAD_RANK),
        ("sort_rows", with_operand("work", dims=(147,)), Status.BAD_SHAPE),
        ("sort_rows", with_operand("work", dtype=DType.F64), Status.BAD_DTYPE),
        ("sort_rows", with_operand("values", dims=(2, 38, 3)), Status.BAD_SHAPE),
        ("sort_rows", with_operand("values", dims=(2, 36, 3)), Status.BAD_SHAPE),
        ("sort_rows", with_operand("values", dtype=DType.I32), Status.BAD_DTYPE),
        ("sort_rows", with_fields(values=None, indices=None), Status.BAD_SHAPE),
    ],
)
def test_operands_that_do_not_fit(
    bench: KernelBench, name: str, damage: Callable[[Any], Command], status: Status
) -> None:
    assert failure(bench, damage(laid_out(bench, name)))[0] is status


def one_operation(bench: KernelBench, op: VectorOp, dtype: torch.dtype, arguments: int = 1) -> Vector:
    case = Case(op.name)
    tensors = [case.rand(4, dtype=dtype) for _ in range(arguments)]
    elementwise(case, op, *tensors, expected=tensors[0])
    _, (command,) = bench.lay_out(case)
    assert isinstance(command, Vector)
    return command


@pytest.mark.parametrize("op", [VectorOp.EXP, VectorOp.LOG, VectorOp.TANH, VectorOp.ERF, VectorOp.SIN, VectorOp.GELU])
def test_functions_of_doubles_are_unsupported(bench: KernelBench, op: VectorOp) -> None:
    assert failure(bench, one_operation(bench, op, torch.float64))[0] is Status.UNSUPPORTED


def test_integers_are_not_divided(bench: KernelBench) -> None:
    assert failure(bench, one_operation(bench, VectorOp.DIV, torch.int32, 2))[0] is Status.UNSUPPORTED


def test_floats_have_no_bits(bench: KernelBench) -> None:
    assert failure(bench, one_operation(bench, VectorOp.XOR, torch.float32, 2))[0] is Status.UNSUPPORTED


@pytest.mark.parametrize(
    ("at", "changes", "status"),
    [
        (0, {"a": 2}, Status.INDEX),  # LOAD of an input that is not there
        (0, {"dtype": DType.F64}, Status.BAD_DTYPE),
        (2, {"a": 9}, Status.BAD_DTYPE),  # a register that nothing wrote
        (2, {"b": 16}, Status.INDEX),
        (2, {"dst": 16}, Status.INDEX),
        (2, {"dtype": DType.I64}, Status.BAD_DTYPE),
        (3, {"dst": 1}, Status.INDEX),  # STORE to an output that is not there
        (3, {"a": 5}, Status.BAD_DTYPE),
    ],
)
def test_micro_programs_that_make_no_sense(bench: KernelBench, at: int, changes: Any, status: Status) -> None:
    command = one_operation(bench, VectorOp.ADD, torch.float32, 2)
    code = list(command.instructions)
    code[at] = dataclasses.replace(code[at], **changes)
    assert failure(bench, dataclasses.replace(command, instructions=tuple(code)))[0] is status


def test_an_extreme_of_nothing(bench: KernelBench) -> None:
    case = Case("nothing")
    case.commands.append(Reduce(case.read(torch.zeros(3, 0)), case.write(torch.zeros(3, 1)), op=ReduceOp.MAX, axes=2))
    _, (command,) = bench.lay_out(case)
    assert failure(bench, command)[0] is Status.BAD_SHAPE


@given(st.sampled_from(sorted(CASES)), st.data())
def test_does_any_damage_to_the_attributes_end_in_a_status(name: str, data: st.DataObject) -> None:
    """Attributes and element types hold anything; addresses and dims stay, so that the work stays small."""
    blocks, (command, *_) = BENCH.lay_out(make(name))
    buffer = bytearray(command.encode())
    places = [
        byte
        for f in type(command).layout()
        if not isinstance(f.kind, Operand) and f.name not in ("kernel", "stride", "dilation", "padding")
        for byte in range(f.offset, f.offset + f.stride * max(f.length, 1))
    ]
    places += [at + 8 for _, _, at, _ in command.operands()]
    for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        buffer[place] = data.draw(st.integers(0, 255))
    status, _ = BENCH.execute(bytes(buffer))
    assert status in Status
    for block in blocks.values():
        BENCH.heap.free(block)


# --- the walker ---------------------------------------------------------------------------------------------------


class LoadedImage:
    """A case as an image in the bench's RAM."""

    def __init__(self, bench: KernelBench, case: Case, placement: Placement = Placement.CPU) -> None:
        self.bench = bench
        program = case.program(placement)
        image = build_image(program)
        self.header = image.header
        self.blocks = {t.id: bench.heap.allocate(max(t.nbytes, 1)) for t in program.tensors}
        for number, values in case.values.items():
            self.blocks[number].array[: len(values)] = values
        self.data = bytearray(image.data)
        for i, tensor in enumerate(program.tensors):
            struct.pack_into("<Q", self.data, image.header.bindings + 8 * i, self.blocks[tensor.id].address)
        self.block = bench.heap.allocate(len(self.data))

    def run(self, host_call: Callable[[int], int] = lambda _: Status.UNSUPPORTED) -> ImageHeader:
        self.block.array[: len(self.data)] = list(self.data)
        status = self.bench.kernels.run_image(self.block.address, host_call)
        header = ImageHeader.decode_from(self.block.array.tobytes())
        assert header.status == status
        return header


def test_the_walker_runs_every_command(bench: KernelBench) -> None:
    case = make("vector_chain_of_rows")
    image = LoadedImage(bench, case)
    header = image.run()
    assert (header.status, header.runs, header.magic) == (Status.OK, 1, IMAGE_MAGIC)
    case.check({n: image.blocks[n].array[: case.tensors[n].nbytes] for n in case.expected})


@pytest.mark.parametrize("placement", [Placement.CPU, Placement.ACCELERATOR])
def test_the_walker_names_the_command_that_failed(bench: KernelBench, placement: Placement) -> None:
    case = make("barrier_between_commands")
    image = LoadedImage(bench, case, placement)
    last = len(case.commands) - 1
    (offset,) = struct.unpack_from("<Q", image.data, image.header.index + 8 * last)
    struct.pack_into("<H", image.data, offset, 99)
    header = image.run()
    assert (header.status, header.failed_command) == (Status.BAD_OPCODE, last)


def test_the_walker_tells_the_address_that_failed(bench: KernelBench) -> None:
    image = LoadedImage(bench, make("gemm_plain"))
    struct.pack_into("<Q", image.data, image.header.bindings + 8, 0x1000)
    header = image.run()
    assert (header.status, header.failed_command, header.failed_address) == (Status.BAD_ADDRESS, 0, 0x1000)


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("magic", 1, Status.BAD_VERSION),
        ("version", 7, Status.BAD_VERSION),
        ("n_commands", 1 << 30, Status.BAD_ADDRESS),
        ("n_relocations", 1 << 30, Status.BAD_ADDRESS),
        ("n_tensors", 0, Status.BAD_ADDRESS),
        ("relocations", 1 << 60, Status.BAD_ADDRESS),
    ],
)
def test_the_walker_refuses_a_damaged_image(bench: KernelBench, field: str, value: int, status: Status) -> None:
    image = LoadedImage(bench, make("gemm_plain"))
    dataclasses.replace(image.header, **{field: value}).encode_into(image.data)
    assert image.run().status == status


def test_absent_operands_are_named_by_their_status(bench: KernelBench) -> None:
    """Every required operand: one whose PRESENT bit is not set cannot be used."""
    names: dict[type[Command], str] = {
        Gemm: "gemm_plain",
        Conv2d: "conv2d_strided",
        Softmax: "softmax_rows",
        Norm: "norm_plain",
        Pool2d: "pool2d_average",
        Gather: "gather_rows",
        Scatter: "scatter_sets_every_row",
        Scan: "scan_sums_and_products",
        Sort: "sort_rows",
    }
    for cls, name in names.items():
        command = laid_out(bench, name)
        for f in cls.layout():
            if isinstance(f.kind, Operand) and not f.kind.optional:
                data = bytearray(command.encode())
                struct.pack_into("<H", data, f.offset + 10, 0)
                assert bench.execute(bytes(data))[0] is Status.BAD_ADDRESS, (name, f.name)


def test_is_a_view_of_no_elements_never_touched(bench: KernelBench) -> None:
    case = Case("empty")
    micro = Micro()
    empty = View(case.read(torch.zeros(1)).tensor, DType.F32, (3, 0), (1, 1), 0)
    micro.store(micro.op(VectorOp.NEG, micro.load(empty)), empty)
    case.commands.append(micro.command())
    bench.run(case)
