"""From captured IR to Program: the passes, in the one order in which they run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from acalsim_backend.ir import ACALSimIR, ACALSimOp
from acalsim_backend.ops import check_shapes
from acalsim_backend.ops.defaults import check_values, complete
from acalsim_backend.ops.lowering import Lowered, Lowering
from acalsim_backend.passes.batch_norm import FoldBatchNorm
from acalsim_backend.passes.fold import FoldConstants, InlineScalars
from acalsim_backend.passes.fuse_epilogue import FuseEpilogue
from acalsim_backend.passes.fuse_pointwise import FusePointwise
from acalsim_backend.passes.hoist import Hoist
from acalsim_backend.passes.host import AssignHost
from acalsim_backend.passes.link import link
from acalsim_backend.passes.place import Place
from acalsim_backend.passes.plan_memory import PlanMemory
from acalsim_backend.passes.target import Target
from acalsim_backend.program.interface import Interface, Mutation, Result
from acalsim_backend.program.program import Prepare, Program
from acalsim_backend.program.verify import verify


class Pass(Protocol):
    """``after`` names the passes whose work it relies on."""

    @property
    def name(self) -> str: ...
    @property
    def after(self) -> tuple[str, ...]: ...


class IRPass(Pass, Protocol):
    """Rewrites IR; never in place."""

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR: ...


class CommandPass(Pass, Protocol):
    """Rewrites lowered commands; never in place."""

    def apply(self, lowered: Lowered, target: Target) -> Lowered: ...


P = TypeVar("P", bound=Pass)


def in_order(*passes: P) -> tuple[P, ...]:
    """The passes, if each comes after those that it relies on.

    Raises:
        ValueError: one does not.
    """
    done: set[str] = set()
    for one in passes:
        missing = [name for name in one.after if name not in done]
        if missing:
            raise ValueError(f"pass {one.name} relies on {', '.join(missing)}, expected before it")
        done.add(one.name)
    return passes


IR_PASSES: tuple[IRPass, ...] = in_order(
    FoldConstants(), AssignHost(), InlineScalars(), FoldBatchNorm(), Hoist(), FuseEpilogue(), FusePointwise()
)
COMMAND_PASSES: tuple[CommandPass, ...] = in_order(Place(), PlanMemory())


@dataclass(frozen=True)
class Compiled:
    """A Program with what the front end needs to bind and read it.

    ``ir`` is the optimised IR (``{graph}.opt.ir``); ``lowered`` tells where IR tensors and outputs lie; ``prepare`` is
    the same for the prepare Program.
    """

    program: Program
    ir: ACALSimIR
    lowered: Lowered
    prepare: Compiled | None = None

    def interface(self) -> Interface:
        """The Program as the caller of the captured graph sees it."""
        lowered, names = self.lowered, self.lowered.names
        labels = self.ir.output_names
        return Interface(
            self.program,
            {names[name]: position for name, position in self.ir.arguments.items() if name in names},
            tuple(Result(view, label) for view, label in zip(lowered.outputs, labels, strict=True)),
            tuple(
                Mutation(self.ir.arguments[name], Result(view, f"new value of {name},"))
                for name, view in lowered.mutations
            ),
            self.prepare.interface() if self.prepare else None,
        )


def compile_ir(ir: ACALSimIR, target: Target) -> Compiled:
    """Run every pass and verify the result.

    Raises:
        UnsupportedError: operators or commands that the target's policy does not admit, all of them listed.
        InputError: an IR that was written by hand and that PyTorch would not run, or a parameter without a value.
        ProgramError: a pass broke a rule, a bug in acalsim; or an IR that was written by hand breaks it.
    """
    ir = complete(ir)
    check_values(ir)
    captured = tuple(ir.ops)
    for ir_pass in IR_PASSES:
        ir = ir_pass.apply(ir, target)
        ir.verify()
        check_shapes(ir)
    return _finish(ir, captured, target)


def _finish(ir: ACALSimIR, captured: tuple[ACALSimOp, ...], target: Target) -> Compiled:
    prepare = None
    if ir.prepare is not None:
        prepare_ir = FusePointwise().apply(ir.prepare, target)
        prepare = _finish(prepare_ir, captured, target)
    lowered = Lowering(ir, captured).run()
    for command_pass in COMMAND_PASSES:
        lowered = command_pass.apply(lowered, target)
    program = link(lowered, _prepare_link(lowered, prepare))
    verify(program)
    return Compiled(program, replace(ir), lowered, prepare)


def _prepare_link(owner: Lowered, prepare: Compiled | None) -> Prepare | None:
    if prepare is None:
        return None
    inner = prepare.lowered
    results = tuple(
        (view.tensor, owner.names[name])
        for name, view in zip(prepare.ir.output_names, inner.outputs, strict=True)
        if name in owner.names
    )
    return Prepare(prepare.program, results)


__all__ = ["COMMAND_PASSES", "IR_PASSES", "Compiled", "Target", "compile_ir"]
