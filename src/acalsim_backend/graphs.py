"""Captured graphs and their Programs, one for each set of argument shapes that was seen."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.autograd import forward_ad

from acalsim_backend import files
from acalsim_backend.errors import UnsupportedError
from acalsim_backend.front import watch
from acalsim_backend.front.captured import CapturedGraph, Output, OutputKind, no_modes
from acalsim_backend.front.draws import Draw
from acalsim_backend.front.dynamo import AotGraph, static_inputs
from acalsim_backend.ir import ACALSimIR
from acalsim_backend.ops.evaluate import evaluate, is_pytorchs
from acalsim_backend.ops.lowering import HostCallSite
from acalsim_backend.passes import Compiled, Target, compile_ir
from acalsim_backend.program.interface import Interface
from acalsim_backend.report.model import OpRow, RunReport
from acalsim_backend.run.executable import Executable
from acalsim_backend.run.host_call import HostCall
from acalsim_backend.run.timeline import CommandTiming
from acalsim_backend.tensors import laid_over, raw_bytes, with_strides

if TYPE_CHECKING:
    from acalsim_backend.backend import ACALSimBackend

log = logging.getLogger(__name__)

PROGRAM_CACHE_BYTES = 512 << 20
"""What the Programs of one backend may take; those of the shapes that were used longest ago go first."""
_BYTES_PER_COMMAND = 8 << 10  # of a Program's tables and IR on the host, measured on transformers


class Linked:
    """A compiled IR as something that runs: its Program calls PyTorch for the HOST commands."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.host_calls = tuple(map(_host_call, compiled.lowered.host_calls))
        interface = compiled.interface()
        program = replace(interface.program, host_calls=self.host_calls) if self.host_calls else interface.program
        self.interface: Interface = replace(interface, program=program)


class ProgramCache:
    """Programs by the content of their IR, so that equal graphs share one; each lives as long as a graph uses it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._linked: weakref.WeakValueDictionary[str, Linked] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._linked)

    def link(self, ir: ACALSimIR) -> Linked:
        """Compile an IR, or find the Program of an equal one.

        Raises:
            UnsupportedError: operators that the target's policy does not admit, all of them listed.
        """
        text = repr((ir.tensors, ir.ops, ir.input_names, ir.output_names, ir.arguments, ir.mutations))
        digest = hashlib.sha256(text.encode())
        for name in sorted(ir.constants):
            digest.update(name.encode() + raw_bytes(ir.constants[name]).tobytes())
        key = digest.hexdigest()
        linked = self._linked.get(key)
        if linked is None:
            linked = self._linked[key] = Linked(compile_ir(ir, self._target))
        return linked


@dataclass(eq=False)
class Shape:
    """A graph compiled for one set of argument shapes; ``executable`` is None where nothing is run on a machine."""

    name: str
    ir: ACALSimIR
    linked: Linked
    outputs: tuple[Output, ...]
    derived: tuple[Callable[[Sequence[Any]], torch.Tensor], ...] = ()
    executable: Executable | None = None
    compile_s: float = 0.0
    runs: int = 0
    reported: tuple[list[CommandTiming], tuple[OpRow, ...]] | None = field(default=None, repr=False)
    """Timings of the latest run and their rows in its report; a run with the same timings has the same rows."""
    used: int = field(default=0, repr=False)
    """When it was last used, counted by ``_clock``."""

    @property
    def nbytes(self) -> int:
        """What is given back when it goes, in bytes."""
        guest = self.executable.nbytes if self.executable is not None else 0
        return guest + _BYTES_PER_COMMAND * len(self.linked.interface.program.commands)


_clock = itertools.count()


class Graph:
    """A graph from AOTAutograd on a backend. Called with the graph's arguments, it returns the graph's results."""

    def __init__(self, backend: ACALSimBackend, gm: fx.GraphModule) -> None:
        self._backend = backend
        self._eager: Callable[..., Any] | None = gm.forward if backend.mode != "simulate" else None
        self.shapes: dict[tuple[Any, ...], Shape] = {}
        self._captured = AotGraph(gm, static_inputs())
        self._users: weakref.WeakSet[watch.Watcher] = weakref.WeakSet()
        self._has_users = False
        self._note_user()
        if not self._captured.is_dynamic:
            with backend.lock, no_modes():
                self._specialise(self._captured.examples)

    def _specialise(self, args: Sequence[Any]) -> Shape:
        """Compile for the shapes of ``args``; called under the backend's lock, with no torch mode active."""
        backend = self._backend
        start = time.perf_counter()
        shape = compile_captured(backend, self._captured.at(args, share_memory=backend.mode == "simulate"))
        if backend.mode == "simulate":
            shape.executable = backend.load(shape)
        shape.compile_s = time.perf_counter() - start
        self.shapes[self._captured.signature(args)] = shape
        backend.enter(self, shape)
        return shape

    @property
    def is_unused(self) -> bool:
        """Whether the compiled models that ran it are gone."""
        return self._has_users and not self._users

    def _note_user(self) -> None:
        call = watch.current_call()
        if call is not None:
            self._users.add(call.watcher)
            self._has_users = True

    def __call__(self, *args: Any) -> Any:
        """Run on the machine, or eagerly in mode "compile"; compiles first when these shapes are new."""
        inference = torch.is_inference_mode_enabled()
        if forward_ad._current_level >= 0:
            _check_no_tangents(args)
        with no_modes():
            shape = self._shape(args)
            if shape.executable is not None:
                return self._run(shape, shape.executable, args, inference)
        return self._eager(*args) if self._eager is not None else None

    def _shape(self, args: Sequence[Any]) -> Shape:
        with self._backend.lock:
            self._note_user()
            shape = self.shapes.get(self._captured.signature(args)) or self._specialise(args)
            shape.used = next(_clock)
            return shape

    def _run(self, shape: Shape, executable: Executable, args: Sequence[Any], inference: bool) -> list[Any]:
        start = time.perf_counter()
        for derive in shape.derived:
            args = (*args, derive(args))
        tensors, result = executable.run(args, inference)
        elapsed = time.perf_counter() - start
        is_first = shape.runs == 0
        shape.runs += 1
        wall = {"compile": shape.compile_s if is_first else 0.0, "simulate": elapsed}
        if executable.generated is not None:
            wall["build"] = executable.generated.build_s if is_first else 0.0
            wall["simulate"] -= wall["build"]
        fallbacks = [_fallback(call, elapsed) for call in shape.linked.host_calls]
        timings, rows = shape.reported or (None, None)
        report = RunReport.build(
            executable.program,
            result,
            self._backend.target.hardware,
            model=shape.name,
            machine=self._backend.machine,
            wall_s=wall,
            fallbacks=fallbacks,
            rows=rows if timings is result.timings else None,
            drawn=[
                {"op": str(d.target), "source": d.source, "module": d.module}
                for d in shape.derived
                if isinstance(d, Draw)
            ],
        )
        shape.reported = result.timings, report.ops
        self._backend.record(report)
        if is_first:
            self._backend.warn_of_host_calls(fallbacks)
        with torch.inference_mode(inference):
            return _arranged(shape.outputs, tensors, args)


def _check_no_tangents(args: Sequence[Any]) -> None:
    unpack: Callable[[torch.Tensor], Any] = forward_ad.unpack_dual
    if any(isinstance(a, torch.Tensor) and unpack(a).tangent is not None for a in args):
        raise UnsupportedError(
            "forward-mode derivatives of what runs on the machine; call torch.func.jvp or jacfwd inside the compiled "
            "function, or use reverse mode"
        )


def compile_captured(backend: ACALSimBackend, captured: CapturedGraph, examples: Sequence[Any] = ()) -> Shape:
    """IR and Program of a captured graph, written out where the backend writes such things."""
    name = backend.new_name()
    ir = backend.compiler.convert(captured, name)
    ir.examples = tuple(examples)
    linked = backend.programs.link(ir)
    log.debug("%s", linked.compiled.ir)
    if backend.output_dir is not None and backend.mode != "codegen":
        files.write(backend.output_dir / f"{name}.ir", f"{ir}\n")
        files.write(backend.output_dir / f"{name}.opt.ir", f"{linked.compiled.ir}\n")
    return Shape(name, ir, linked, captured.outputs, captured.derived)


def _host_call(site: HostCallSite) -> HostCall:
    op = site.op

    def operation(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        results = evaluate(op, dict(zip(op.inputs, tensors, strict=True)))
        return [results[i] for i in op.results]

    may_keep = not is_pytorchs(op)
    return HostCall(operation, op.target, op.module, op.source, may_keep=may_keep, layouts=site.layouts)


def _fallback(call: HostCall, elapsed: float) -> dict[str, Any]:
    share = min(call.seconds / max(call.calls, 1) / elapsed, 1.0)
    return {"op": call.target, "source": call.source, "module": call.module, "share": share}


def _arranged(outputs: Sequence[Output], tensors: Sequence[torch.Tensor], args: Sequence[Any]) -> list[Any]:
    """The results in the graph's order, with the strides that PyTorch predicted and callers may rely on."""
    strides = {output.slot: output.strides for output in outputs if output.slot >= 0}
    laid_out = [_with_strides(tensor, strides[slot]) for slot, tensor in enumerate(tensors)]
    values: list[Any] = []
    for output in outputs:
        if output.kind is OutputKind.VALUE:
            values.append(output.value)
        else:
            value = laid_out[output.slot] if output.kind is OutputKind.TENSOR else args[output.value]
            values.append(functools.reduce(lambda seen, step: step(seen), output.steps, value))
    return values


def _with_strides(value: torch.Tensor, strides: tuple[int, ...] | None) -> torch.Tensor:
    if strides is None or value.stride() == strides or value.numel() == 0:
        return value
    if all(d == 1 or own == wanted for d, own, wanted in zip(value.shape, value.stride(), strides, strict=True)):
        return laid_over(value, value.dtype, value.shape, strides, value.storage_offset())
    return with_strides(value, strides)
