"""How does the time to compile grow with the number of commands? Processor seconds, all in one process.

First linking and verifying: graphs of 1,000 to 32,000 commands in the shapes that are hard for one step or another,
with what the passes before them take. Then whole models, from captured IR to verified Program, per command.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.front.trace import to_core_aten
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.models import load_target
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.passes import COMMAND_PASSES, IR_PASSES, Target, compile_ir
from acalsim_backend.passes.link import link
from acalsim_backend.program.image import build_image
from acalsim_backend.program.verify import verify

LIMITS = {4_000: 0.5, 32_000: 5.0}
"""Processor seconds in which so many commands have to be linked and verified."""


class Graph:
    """Builds IR without PyTorch; every tensor is [4, 16] f32 unless told otherwise."""

    def __init__(self) -> None:
        self.ir = ACALSimIR("g")
        self.x = self._argument("x", is_input=True)
        self.w = self._argument("w", (16, 16), is_param=True)

    def _argument(self, name: str, shape: tuple[int, ...] = (4, 16), **kind: Any) -> str:
        self.ir.arguments[name] = len(self.ir.arguments)
        if kind.get("is_input"):
            self.ir.input_names.append(name)
        return self.ir.add_tensor(TensorDesc(name, shape, **kind)).name

    def op(self, kind: str, *inputs: str, shape: tuple[int, ...] = (4, 16), roles: str = "self", **attrs: Any) -> str:
        name = self.ir.add_tensor(TensorDesc(f"t_{len(self.ir.tensors)}", shape)).name
        self.ir.add_op(
            ACALSimOp(ACALSimOpType[kind], name, list(inputs), [name], attrs, roles=roles.split(), results=[0])
        )
        return name

    def product(self, x: str) -> str:
        return self.op("MATMUL", x, self.w, roles="self mat2")

    def softmax(self, x: str) -> str:
        return self.op("SOFTMAX", x, dim=-1, half_to_float=False)

    def add(self, x: str, y: str) -> str:
        return self.op("ADD", x, y, roles="self other")

    def cat(self, *parts: str) -> str:
        rows = sum(self.ir.tensors[p].shape[0] for p in parts)
        roles = " ".join(f"tensors.{i}" for i in range(len(parts)))
        return self.op("CAT", *parts, shape=(rows, 16), roles=roles)

    def done(self, *outputs: str) -> ACALSimIR:
        self.ir.output_names = list(outputs)
        for name in outputs:
            self.ir.tensors[name].is_output = True
        return self.ir


def chain(n: int) -> ACALSimIR:
    """Every command waits for the one before it; all read one weight."""
    g = Graph()
    y = g.x
    for _ in range(n):
        y = g.product(y)
    return g.done(y)


def wide(n: int) -> ACALSimIR:
    """Nobody waits for anybody; every result is an output."""
    g = Graph()
    return g.done(*(g.softmax(g.x) for _ in range(n)))


def in_place(n: int) -> ACALSimIR:
    """Products and sums that take over their operands' memory, a tensor of the beginning among them."""
    g = Graph()
    first = y = g.softmax(g.x)
    for _ in range(n // 2):
        y = g.add(g.product(y), first)
    return g.done(y)


def skips(n: int) -> ACALSimIR:
    """Half of the results wait for the other half, last in first out: the arena holds n / 2 tensors at once."""
    g = Graph()
    kept = [g.x]
    for _ in range(n // 3):
        kept.append(g.product(kept[-1]))
    y = kept[-1]
    for x in reversed(kept):
        y = g.add(g.product(y), x)
    return g.done(y)


def towers(n: int) -> ACALSimIR:
    """Two chains, one after the other, then a sum of each pair of their results."""
    g = Graph()
    left, right = [g.x], [g.softmax(g.x)]
    for tower in (left, right):
        for _ in range(n // 4):
            tower.append(g.product(tower[-1]))
    return g.done(*(g.softmax(g.add(x, y)) for x, y in zip(left, right, strict=True)))


def windows(n: int) -> ACALSimIR:
    """One tensor is written in n parts, and read whole."""
    g = Graph()
    whole = g.cat(*[g.x] * n)
    return g.done(g.op("SOFTMAX", whole, shape=(4 * n, 16), dim=-1, half_to_float=False))


SHAPES: tuple[Callable[[int], ACALSimIR], ...] = (chain, wide, in_place, skips, towers, windows)


class Block(nn.Module):
    """A transformer block of small width, whose mask comes from the input."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = (
            y.reshape(b, t, self.heads, d // self.heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) * 0.35 + mask, -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """24 blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(24))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = x[0, :, :1] * 0
        for block in self.blocks:
            x = block(x, mask)
        return x


def pointwise_and_products(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """2,000 operations, most of which can be fused."""
    y = x
    for i in range(500):
        y = torch.tanh(y @ w if i % 5 == 0 else y * 0.5) + x
        y = torch.relu(y) - y.sum(-1, keepdim=True) if i % 7 == 0 else torch.relu(y) - x
    return y


def captured() -> dict[str, ACALSimIR]:
    """IR of the models."""
    models: dict[str, tuple[Any, list[torch.Tensor]]] = {
        "resnet18": (lambda m: (m[0].eval(), list(m[1])))(load_target("resnet18")),
        "transformer, 24 blocks": (Transformer().eval(), [torch.randn(1, 8, 16)]),
        "chain of 2,000 operations": (pointwise_and_products, [torch.randn(8, 8), torch.randn(8, 8)]),
    }
    graphs = {name: (to_core_aten(model, inputs), inputs) for name, (model, inputs) in models.items()}
    for graph, _ in graphs.values():
        for node in graph.graph.nodes:
            node.meta.setdefault("stack_trace", 'File "model.py", line 1')
    return {name: ACALSimCompiler().compile(graph, inputs) for name, (graph, inputs) in graphs.items()}


def seconds(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Processor time of this thread, and what ``call`` returned."""
    start = time.thread_time()
    result = call(*arguments)
    return time.thread_time() - start, result


def compiled_in_steps(ir: ACALSimIR) -> dict[str, Any]:
    """Processor seconds of every step, and the number of commands."""
    captured_ops, target = tuple(ir.ops), Target()
    row: dict[str, Any] = {}
    row["fuse"], ir = seconds(IR_PASSES[-1].apply, ir, target)
    row["lower"], lowered = seconds(Lowering(ir, captured_ops).run)
    row["plan"] = 0.0
    for command_pass in COMMAND_PASSES:
        taken, lowered = seconds(command_pass.apply, lowered, target)
        row["plan"] += taken
    row["link"], program = seconds(link, lowered, None)
    row["verify"], _ = seconds(verify, program)
    row["both"] = row["link"] + row["verify"]
    row["image"], _ = seconds(build_image, program)
    return {"commands": len(program.commands)} | row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=32_000, help="commands of the largest graphs")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    steps = ("fuse", "lower", "plan", "link", "verify", "both", "image")
    print(f"{'shape':10}{'commands':>9}" + "".join(f"{step:>8}" for step in steps) + f"{'limit of both':>15}")
    for shape in SHAPES:
        for n in (1_000, 2_000, 4_000, 8_000, 16_000, 32_000):
            if n <= arguments.most:
                ir = shape(n)
                gc.collect()
                gc.freeze()  # what is not part of this compilation is not searched for garbage during it
                row = compiled_in_steps(ir)
                rows.append({"shape": shape.__name__} | row)
                limit = f"{LIMITS[n]:15.1f}" if n in LIMITS else ""
                times = "".join(f"{row[step]:8.3f}" for step in steps)
                print(f"{shape.__name__:10}{row['commands']:9,}{times}{limit}", flush=True)
    print()
    for name, ir in captured().items():
        total, compiled = seconds(compile_ir, ir, Target())
        count = len(compiled.program.commands)
        each = total / count * 1e6
        rows.append({"model": name, "commands": count, "compile_ir": total})
        print(f"{name:28}{len(ir.ops):6,} operations{count:6,} commands{total:8.3f} s{each:8.0f} us a command")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
