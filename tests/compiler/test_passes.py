"""Do the passes fold, fuse and plan as they should, and is every Program that they make valid?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.errors import ProgramError, UnknownNameError, UnsupportedError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.models.resnet import resnet18
from acalsim_backend.ops.vector import compile_group
from acalsim_backend.passes import Compiled, Target, compile_ir
from acalsim_backend.passes.fuse_pointwise import FusePointwise
from acalsim_backend.program.commands import Gemm, Vector, decode
from acalsim_backend.program.dependencies import dependencies
from acalsim_backend.program.dump import dump
from acalsim_backend.program.enums import Opcode, Placement
from acalsim_backend.program.image import build_image
from acalsim_backend.program.program import Program, TensorKind
from acalsim_backend.program.verify import verify


def ir_of(function: Callable[..., Any], *args: Any, static: Sequence[int] = ()) -> ACALSimIR:
    """IR of a function of tensors; ``static`` marks the positions of weights."""
    graph = torch.fx.symbolic_trace(function) if isinstance(function, nn.Module) else function
    return ACALSimCompiler().compile(graph, list(args), "g", static)


def program_of(function: Callable[..., Any], *args: Any, static: Sequence[int] = (), **target: Any) -> Compiled:
    from acalsim_backend.front.trace import to_core_aten

    graph = to_core_aten(function, args)
    ir = ACALSimCompiler().compile(graph, list(args), "g", static)
    return compile_ir(ir, Target(**target))


def opcodes(compiled: Compiled) -> list[str]:
    return [c.opcode.name for c in compiled.program.commands]


x44 = torch.randn(4, 4)


def test_is_a_chain_of_pointwise_operations_one_vector_command() -> None:
    compiled = program_of(lambda x: torch.relu(x * 2 + 1) - x, x44)
    assert opcodes(compiled) == ["VECTOR"]
    assert [o.type for o in compiled.program.origins] == ["MUL", "ADD", "RELU", "SUB"]


def test_are_bias_and_activation_taken_into_the_product() -> None:
    w, b = torch.randn(4, 8), torch.randn(8)
    compiled = program_of(lambda x, w, b: F.gelu(x @ w + b), x44, w, b, static=(1, 2))
    assert opcodes(compiled) == ["GEMM"]
    (gemm,) = compiled.program.commands
    assert isinstance(gemm, Gemm)
    assert gemm.bias is not None
    assert gemm.activation.name == "GELU"
    assert gemm.bias.strides == (0, 1)
    assert gemm.origin == (0, 3)


def test_is_an_epilogue_fused_through_reshapes() -> None:
    w, b = torch.randn(4, 8), torch.randn(8)

    def linear3d(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.relu((x.reshape(6, 4) @ w).reshape(2, 3, 8) + b)

    assert opcodes(program_of(linear3d, torch.randn(2, 3, 4), w, b, static=(1, 2))) == ["GEMM"]


@pytest.mark.parametrize(
    "shaped", [lambda y: y.reshape(-1), lambda y: y.squeeze(1), lambda y: y.unsqueeze(0), lambda y: y.flatten()]
)
def test_is_an_epilogue_fused_through_whatever_keeps_the_order(shaped: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = program_of(lambda x, w: torch.sigmoid(shaped(x @ w)), x44, torch.randn(4, 1), static=(1,))
    assert opcodes(model) == ["GEMM"]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize(("function", "commands"), [(torch.relu, 1), (torch.sigmoid, 2), (torch.tanh, 2)])
def test_is_an_activation_that_makes_floats_of_integers_left_alone(
    function: Callable[[torch.Tensor], torch.Tensor], commands: int, dtype: torch.dtype
) -> None:
    x, w = torch.ones(2, 3, dtype=dtype), torch.ones(3, 4, dtype=dtype)
    compiled = program_of(lambda x, w: function((x @ w).reshape(-1)), x, w, static=(1,))
    assert opcodes(compiled) == ["GEMM", "VECTOR"][:commands]


def test_is_a_value_with_two_users_not_fused_away() -> None:
    w = torch.randn(4, 4)

    def shared(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x @ w
        return torch.relu(y), y

    assert opcodes(program_of(shared, x44, w, static=(1,))) == ["GEMM", "VECTOR"]


def test_is_a_bias_of_half_precision_left_alone_because_eager_rounds_in_between() -> None:
    w, b = torch.randn(4, 8).bfloat16(), torch.randn(8).bfloat16()
    assert opcodes(program_of(lambda x, w, b: x @ w + b, x44.bfloat16(), w, b, static=(1, 2))) == ["GEMM", "VECTOR"]


def test_does_an_accelerator_without_activations_get_none_fused() -> None:
    w = torch.randn(4, 4)
    hardware = HardwareConfig.load("gemm_only")
    compiled = program_of(lambda x, w: torch.relu(x @ w), x44, w, static=(1,), hardware=hardware)
    assert [(c.opcode.name, c.placement.name) for c in compiled.program.commands] == [
        ("GEMM", "ACCELERATOR"),
        ("VECTOR", "CPU"),
    ]


class ConvBn(nn.Module):
    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, bias=bias), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


@pytest.mark.parametrize("bias", [False, True])
def test_is_batch_norm_folded_into_the_convolution_by_a_prepare_program(bias: bool) -> None:
    model = ConvBn(bias).eval()
    ir = ACALSimCompiler().compile(torch.fx.symbolic_trace(model), [torch.randn(1, 3, 8, 8)])
    compiled = compile_ir(ir, Target())
    assert opcodes(compiled) == ["CONV2D"]
    assert compiled.prepare is not None
    assert {o.type for o in compiled.program.origins} == {"CONV2D", "BATCH_NORM", "RELU"}
    assert len(compiled.program.of_kind(TensorKind.PREPARED)) == 2
    raw = [t.name for t in compiled.program.of_kind(TensorKind.CONSTANT)]
    assert not raw, "the main Program must not carry weights that only the prepare Program reads"


def test_is_batch_norm_kept_when_somebody_else_sees_the_convolution() -> None:
    model = ConvBn().eval()

    def both(
        x: torch.Tensor, w: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        y = F.conv2d(x, w)
        return F.batch_norm(y, mean, var, gamma, beta), y

    state = model.state_dict()
    buffers = (state[name] for name in ("conv.weight", "bn.running_mean", "bn.running_var", "bn.weight", "bn.bias"))
    args = (torch.randn(1, 3, 8, 8), *buffers)
    assert opcodes(program_of(both, *args, static=(1, 2, 3, 4, 5))) == ["CONV2D", "VECTOR"]


def test_are_constants_computed_while_compiling() -> None:
    compiled = program_of(lambda x: x + torch.arange(4).float() * 2, x44)
    assert opcodes(compiled) == ["VECTOR"]
    (constant,) = compiled.program.of_kind(TensorKind.CONSTANT)
    assert constant.data is not None
    assert torch.equal(torch.frombuffer(bytearray(constant.data), dtype=torch.float32), torch.arange(4.0) * 2)


def test_are_random_operations_not_folded() -> None:
    compiled = program_of(lambda x: x + torch.rand(4), x44)
    assert opcodes(compiled) == ["HOST", "VECTOR"]


def test_are_dead_operations_dropped() -> None:
    assert opcodes(program_of(lambda x: (x.exp(), x + 1)[1], x44)) == ["VECTOR"]


def test_is_the_arena_of_resnet18_within_a_tenth_of_the_liveness_bound() -> None:
    ir = ACALSimCompiler().compile(torch.fx.symbolic_trace(resnet18().eval()), [torch.randn(1, 3, 224, 224)])
    lowered = compile_ir(ir, Target()).lowered
    assert lowered.arena_bound > 2**20
    assert lowered.arena_size <= 1.1 * lowered.arena_bound


def test_does_an_output_reuse_the_memory_of_an_input_that_dies() -> None:
    def chain(x: torch.Tensor) -> torch.Tensor:
        y = F.softmax(x, -1)
        z = torch.relu(y)
        return F.softmax(z, -1)

    lowered = program_of(chain, torch.randn(64, 64)).lowered
    assert lowered.arena_size == 64 * 64 * 4, "softmax's and relu's results should share one block"


def test_is_every_unsupported_operation_listed_at_once() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(torch.linalg.inv(x)).R + torch.igamma(x, x)

    with pytest.raises(UnsupportedError) as error:
        program_of(function, x44, fallback="error")
    for name in ("inv", "linalg_qr", "igamma"):
        assert name in str(error.value)


def test_does_place_accelerator_refuse_what_only_the_cpu_could_run() -> None:
    hardware = HardwareConfig.load("gemm_only")
    with pytest.raises(UnsupportedError, match=r"1 command.*does not execute: vector"):
        program_of(torch.relu, x44, hardware=hardware, place="accelerator")


def test_is_an_unknown_place_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean accelerator"):
        Target(place="acelerator")


def test_does_place_cpu_leave_the_accelerator_nothing() -> None:
    program = program_of(lambda x: F.softmax(x @ x, -1), x44, place="cpu").program
    assert {c.placement for c in program.commands} == {Placement.CPU}
    assert program.segments() == []


# --- Program ---


def two_products() -> Program:
    w = torch.randn(4, 4)
    return program_of(lambda x, w: F.softmax(x @ w, -1) @ w, x44, w, static=(1,)).program


def changed(program: Program, index: int, **changes: Any) -> Program:
    commands = list(program.commands)
    commands[index] = replace(commands[index], **changes)
    return replace(program, commands=tuple(commands))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: changed(p, 1, deps=()), "touches bytes of command 0 but does not depend on it"),
        (lambda p: changed(p, 1, deps=(2,)), "expected ids below its own"),
        (lambda p: changed(p, 0, id=5), "command 0 has id 5"),
        (lambda p: changed(p, 0, a=replace(p.commands[0].a, offset=4)), "reaches bytes 4 to 68 of .*, which has 64"),
        (lambda p: changed(p, 0, out=p.commands[0].b), "writes .*, which is a weight"),
        (lambda p: changed(p, 0, a=replace(p.commands[0].a, tensor=99)), "refers to tensor 99"),
        (lambda p: replace(p, arena_size=0), "of an arena of 0"),
        (lambda p: replace(p, commands=p.commands[1:]), "command 0 has id 1"),
    ],
)
def test_does_the_program_verifier_name_each_kind_of_mistake(change: Callable[..., Any], message: str) -> None:
    program = two_products()
    verify(program)
    with pytest.raises(ProgramError, match=message):
        verify(change(program))


def test_does_the_verifier_find_a_tensor_read_after_another_took_its_bytes() -> None:
    def three(x: torch.Tensor) -> torch.Tensor:
        a = F.softmax(x, -1)
        b = F.softmax(x, 0)
        return torch.cat([a @ b, b])

    program = program_of(three, x44).program
    arena = program.of_kind(TensorKind.ARENA)
    tensors = tuple(replace(t, offset=0) if t in arena else t for t in program.tensors)
    deps = dependencies(program.commands, tensors)
    commands = tuple(replace(c, deps=d) for c, d in zip(program.commands, deps, strict=True))
    with pytest.raises(ProgramError, match="has overwritten"):
        verify(replace(program, tensors=tensors, commands=commands))


def test_do_commands_survive_encoding_and_decoding() -> None:
    program = two_products()
    for command in program.commands:
        data = command.encode()
        assert len(data) % 64 == 0
        back = decode(data)
        unbound = back.map_views(lambda v: v)
        expected = command.map_views(lambda v: replace(v, tensor=-1))
        assert unbound == expected


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(0, 99, "opcode 99 is not one of"), (2, 7, "ABI version 7"), (4, 1, "does not hold a GEMM"), (12, 9, "9 is not")],
)
def test_is_a_damaged_command_refused(at: int, value: int, message: str) -> None:
    data = bytearray(two_products().commands[0].encode())
    data[at] = value
    with pytest.raises(ProgramError, match=message):
        decode(data)


def test_does_the_image_hold_every_command_and_a_relocation_per_operand() -> None:
    program = two_products()
    image = build_image(program)
    assert image.header.n_commands == 3
    assert image.header.n_relocations == sum(len(list(c.operands())) for c in program.commands)
    assert [decode(image.data, at).opcode for at in image.command_offsets] == [c.opcode for c in program.commands]
    assert image.header.queue_entries >= 3
    assert image.header.queue_entries & (image.header.queue_entries - 1) == 0


def test_can_a_person_read_the_dump() -> None:
    text = dump(two_products())
    assert "0: GEMM on accelerator" in text
    assert "1: SOFTMAX on accelerator after 0" in text
    assert "in a = %0[4, 4] f32" in text


def test_is_every_opcode_a_command_class() -> None:
    from acalsim_backend.program.commands import COMMANDS

    assert set(COMMANDS) == set(Opcode)


@given(st.data())
def test_does_a_program_with_more_pointwise_work_than_one_command_holds_still_verify(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 60))
    names = data.draw(st.lists(st.sampled_from(["add", "mul", "maximum", "sub"]), min_size=depth, max_size=depth))
    others = data.draw(st.lists(st.integers(0, 9), min_size=depth, max_size=depth))
    args = [torch.randn(3) for _ in range(10)]

    def chain(*inputs: torch.Tensor) -> torch.Tensor:
        values = [inputs[0]]
        for name, other in zip(names, others, strict=True):
            values.append(getattr(torch, name)(values[-1], inputs[other]))
        return values[-1]

    compiled = program_of(chain, *args)
    assert set(opcodes(compiled)) == {"VECTOR"}
    for command in compiled.program.commands:
        assert isinstance(command, Vector)
        assert command.n_inputs <= 8
        assert command.n_instructions <= 32


def random_graph(draw: Callable[..., Any]) -> ACALSimIR:
    """IR of pointwise sums, products and row sums of what came before, near by and far away."""
    ir = ACALSimIR("g", input_names=["x"], arguments={"x": 0, "w": 1})
    ir.add_tensor(TensorDesc("x", (4, 4), is_input=True))
    ir.add_tensor(TensorDesc("w", (4, 4), is_param=True))
    names = ["x"]
    for i in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(["ADD", "ADD", "MUL", "RELU", "MATMUL", "SOFTMAX"]))
        x, y = (names[draw(st.integers(0, len(names) - 1))] for _ in range(2))
        inputs, roles = {
            "ADD": ([x, y], "self other"),
            "MUL": ([x, y], "self other"),
            "MATMUL": ([x, "w"], "self mat2"),
        }.get(kind, ([x], "self"))
        attrs = {"dim": -1, "half_to_float": False} if kind == "SOFTMAX" else {}
        names.append(ir.add_tensor(TensorDesc(f"t_{i}", (4, 4))).name)
        ir.add_op(
            ACALSimOp(ACALSimOpType[kind], names[-1], inputs, [names[-1]], attrs, roles=roles.split(), results=[0])
        )
    ir.output_names = draw(st.lists(st.sampled_from(names[1:]), min_size=1, max_size=3, unique=True))
    return ir


@given(st.data())
def test_are_groups_free_of_cycles_and_as_large_as_a_producer_allows(data: st.DataObject) -> None:
    ir = random_graph(data.draw)
    fused = FusePointwise().apply(ir, Target())
    fused.verify()
    assert sorted(c for op in fused.ops for c in op.covers) == list(range(len(ir.ops)))
    for op in fused.ops:
        if op.body:
            assert compile_group(op.body, op.outputs, ir)[1] is not None
    pointwise = (ACALSimOpType.ADD, ACALSimOpType.MUL, ACALSimOpType.RELU)
    users = fused.users()
    for op in fused.ops:  # a pointwise operation alone whose only reader is another one alone would have been joined
        if op.op_type in pointwise and op.outputs[0] not in ir.output_names:
            readers = users[op.outputs[0]]
            assert not (
                len(readers) == 1 and readers[0].op_type in pointwise and set(readers[0].inputs) == set(op.outputs)
            )
