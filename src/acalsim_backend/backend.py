"""The torch.compile backend: captures graphs, compiles them, and runs them on a simulated machine."""

from __future__ import annotations

import functools
import hashlib
import logging
import time
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._inductor.debug  # AOTAutograd imports it inside its first compilation, a quarter of a second
from torch import fx
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._subclasses.fake_tensor import unset_fake_temporarily

from acalsim_backend.codegen.build import build as build_elf
from acalsim_backend.compiler import (
    ACALSimCompiler,
    decomposition_table,
    effect_tokens,
    to_core_aten,
    without_effect_tokens,
)
from acalsim_backend.errors import AcalsimError, InputError, UnknownNameError, UsageError
from acalsim_backend.generated import GeneratedProgram
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import ACALSimIR
from acalsim_backend.machine.base import check_machine
from acalsim_backend.machine.session import Session
from acalsim_backend.passes import Compiled, Target, compile_ir
from acalsim_backend.program.dump import dump
from acalsim_backend.program.image import build_image
from acalsim_backend.program.program import Program
from acalsim_backend.report import RunReport
from acalsim_backend.riscv_codegen import RISCVCodeGenerator
from acalsim_backend.runtime import Executable, OutputSpec
from acalsim_backend.weights import WeightCache

log = logging.getLogger(__name__)

MODES = ("trace", "compile", "codegen", "simulate", "eager")
BUILDS = ("image", "c")
MAX_SHAPES = 64
"""Programs kept per graph with dynamic shapes; the least recently used goes."""
MAX_REPORTS = 1000

_last_report: RunReport | None = None


class FallbackWarning(UserWarning):
    """An operator ran in PyTorch on the host, because neither accelerator nor CPU has it."""


class ACALSimBackend:
    """A backend for ``torch.compile(model, backend=ACALSimBackend(...))``.

    Args:
        mode: "trace" prints the captured graph, "compile" makes the IR and the Program; both then run eagerly.
            "codegen" writes C for the graph and its example inputs and runs eagerly, "simulate" runs on the
            machine, "eager" does nothing.
        verbose: print what is made.
        output_dir: folder for ``{graph}.ir`` and ``{graph}.opt.ir``, None writes nothing; with mode "codegen"
            the folder for the C files, None being ``acalsim_output``.
        qemu_config: a QemuConfig for machine "qemu".
        hardware: preset name, path of a hardware file, or a HardwareConfig.
        machine: "unicorn" or "qemu" (timed), or "native" (outputs only).
        fallback: "warn" lets unsupported operators run on the host with a warning each, "error" refuses them.
        place: "auto", "cpu" or "accelerator".
        build: "image" runs Programs with the generic firmware, "c" as generated and compiled C.

    One backend holds one machine session: its RAM, and the weights of all models compiled with it.
    """

    __name__ = "acalsim"

    def __init__(
        self,
        mode: str = "compile",
        verbose: bool = False,
        output_dir: str | None = None,
        qemu_config: object | None = None,
        *,
        hardware: str | Path | HardwareConfig = "edge",
        machine: str = "unicorn",
        fallback: str = "warn",
        place: str = "auto",
        functional: str | None = None,
        build: str = "image",
    ) -> None:
        if mode not in MODES:
            raise UnknownNameError("mode", mode, MODES)
        if build not in BUILDS:
            raise UnknownNameError("build", build, BUILDS)
        check_machine(machine)
        if qemu_config is not None and machine != "qemu":
            raise UsageError(f"qemu_config is for machine='qemu', got machine={machine!r}; leave it out")
        self.mode = mode
        self.verbose = verbose
        self.output_dir = None if output_dir is None else _writable(Path(output_dir))
        self.machine = machine
        self.qemu_config = qemu_config
        self.functional = functional
        self.build = build
        c_form = mode == "codegen" or build == "c"  # which no host stands beside
        self.target = Target(HardwareConfig.load(hardware), place, "error" if c_form else fallback)
        self.compiler = ACALSimCompiler(verbose=verbose)
        self._irs: dict[str, ACALSimIR] = {}
        self._programs: dict[str, Program] = {}
        self._executables: dict[str, Compiled] = {}
        self._graphs: weakref.WeakSet[_Graph] = weakref.WeakSet()
        self._reports: deque[RunReport] = deque(maxlen=MAX_REPORTS)
        self._decompositions = decomposition_table()
        if mode == "simulate":
            _ = self.session  # a machine that cannot start says so here, not inside the first call of a model

    # --- what users ask for ---

    def get_compiled_ir(self, name: str) -> ACALSimIR | None:
        """The IR of graph ``name`` as captured, or None."""
        return self._irs.get(name)

    def get_all_compiled_irs(self) -> dict[str, ACALSimIR]:
        """IRs of all graphs by name, in order of capture."""
        return dict(self._irs)

    @property
    def reports(self) -> list[RunReport]:
        """Reports of the runs so far, oldest first; the last 1000."""
        return list(self._reports)

    @functools.cached_property
    def session(self) -> Session:
        """The machine with its RAM."""
        return Session(self.target.hardware, self.machine, functional=self.functional, settings=self.qemu_config)

    @functools.cached_property
    def weights(self) -> WeightCache:
        """Weights resident in the session."""
        return WeightCache(self.session)

    # --- what torch.compile calls ---

    def __call__(self, gm: fx.GraphModule, example_inputs: Sequence[Any], **kwargs: Any) -> Callable[..., Any]:
        """Compile a graph that Dynamo captured."""
        if kwargs:
            raise UsageError(
                f"an ACALSimBackend takes its options in the constructor, got {', '.join(kwargs)}; "
                'use torch.compile(model, backend="acalsim", options={...}) instead'
            )
        if self.mode == "eager":
            return gm.forward
        if self.mode == "trace":
            print(_graph_text(gm))
            return gm.forward
        from torch._dynamo.backends.common import aot_autograd

        if self.mode == "codegen":
            generate = functools.partial(self._generate, values=tuple(example_inputs))
            with torch.no_grad():  # the graph of inference, without what a backward would need
                aot_autograd(
                    fw_compiler=generate,
                    inference_compiler=generate,
                    decompositions=self._decompositions,
                    keep_inference_input_mutations=True,
                )(gm, example_inputs)
            return gm.forward
        return aot_autograd(
            fw_compiler=self._compile_graph,
            bw_compiler=_eager_backward,
            inference_compiler=self._compile_graph,
            decompositions=self._decompositions,
            keep_inference_input_mutations=True,
        )(gm, example_inputs)

    def _compile_graph(self, gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        static = _static_inputs()
        graph = _Graph(self, gm, static, f"graph_{len(self._irs)}")
        if not _is_dynamic(example_inputs):
            tokens = effect_tokens(gm)
            with unset_fake_temporarily():  # constants are computed here, and have to be real
                graph.specialise(gm, [None if i in tokens else value for i, value in enumerate(example_inputs)])
        if self.mode == "compile":
            return make_boxed_func(gm.forward)
        return make_boxed_func(graph.run)

    def _generate(self, gm: fx.GraphModule, args: Sequence[Any], values: Sequence[Any]) -> Callable[..., Any]:
        """Write C for a graph whose arguments have ``values``."""
        static = _static_inputs()
        name = f"graph_{len(self._irs)}"
        tokens = effect_tokens(gm)
        rest = iter(values)
        values = [None if i in tokens else next(rest, None) for i in range(len(args))]
        args = [None if i in tokens else value for i, value in enumerate(args)]
        if _is_dynamic(args):
            log.warning("%s: the C is for the shapes of the first call", name)
            gm, args = to_core_aten(gm, values), values
        if [_shape(a) for a in args] != [_shape(v) for v in values]:
            raise InputError(f"{name}: arguments that share memory and are written to; clone them before the call")
        ir = self.compiler.compile(gm, args, name, static)
        ir.examples = tuple(values)
        self._irs[name] = ir
        with unset_fake_temporarily():
            files = self._generator.generate(ir, name)
        if self.verbose:
            print("Generated files:", *files, sep="\n  ")
        return make_boxed_func(gm.forward)

    @functools.cached_property
    def _generator(self) -> RISCVCodeGenerator:
        return RISCVCodeGenerator(
            self.output_dir or "acalsim_output",
            hardware=self.target.hardware,
            place=self.target.place,
            machine=self.machine,
            functional=self.functional,
        )

    def _compile_ir(self, ir: ACALSimIR) -> Compiled:
        """Compile an IR, or find the Program of an equal one."""
        text = repr((ir.tensors, ir.ops, ir.inputs, ir.outputs, ir.arguments, ir.mutations))
        digest = hashlib.sha256(text.encode())
        for name in sorted(ir.constants):
            digest.update(repr(ir.constants[name]).encode() + ir.constants[name].reshape(-1).numpy().tobytes())
        key = digest.hexdigest()
        if key not in self._executables:
            self._executables[key] = compile_ir(ir, self.target)
        return self._executables[key]

    def _release(self, shape: _Shape) -> None:
        """Give the memory of a shape's Program back, unless another graph runs it too."""
        if any(s.compiled is shape.compiled for graph in self._graphs for s in graph.shapes.values()):
            return
        self._executables = {k: c for k, c in self._executables.items() if c is not shape.compiled}
        if shape.executable is not None:
            shape.executable.unload()

    def _record(self, report: RunReport) -> None:
        global _last_report
        self._reports.append(report)
        _last_report = report


@dataclass
class _Shape:
    """A graph compiled for one set of argument shapes."""

    executable: Executable | None
    compiled: Compiled
    compile_s: float
    warned: bool = False


class _Graph:
    """A captured graph and its Programs, one for each concrete shape that was seen."""

    def __init__(self, backend: ACALSimBackend, gm: fx.GraphModule, static: Sequence[int], name: str) -> None:
        self.backend = backend
        self.gm = gm
        self.static = static
        self.name = name
        self.shapes: OrderedDict[tuple[Any, ...], _Shape] = OrderedDict()
        backend._graphs.add(self)

    def specialise(self, gm: fx.GraphModule, args: Sequence[Any]) -> _Shape:
        """Compile for the shapes of ``args``."""
        backend = self.backend
        start = time.perf_counter()
        name = self.name if not self.shapes else f"{self.name}_{len(self.shapes)}"
        ir = backend.compiler.compile(gm, args, name, self.static)
        backend._irs[name] = ir
        compiled = backend._compile_ir(ir)
        backend._programs[name] = compiled.program
        log.debug("%s", compiled.ir)
        if backend.output_dir is not None:
            _write(backend.output_dir / f"{name}.ir", str(ir))
            _write(backend.output_dir / f"{name}.opt.ir", str(compiled.ir))
        executable = None
        if backend.mode == "simulate":
            specs = _output_specs(gm, args)
            with unset_fake_temporarily():  # the machine's tensors over guest RAM have to be real ones
                executable = Executable(compiled, backend.session, backend.weights, specs)
                if backend.build == "c":
                    executable.generated = GeneratedProgram(
                        backend.target.hardware, backend.machine, backend.functional
                    )
        shape = _Shape(executable, compiled, time.perf_counter() - start)
        self.shapes[_signature(args)] = shape
        while len(self.shapes) > MAX_SHAPES:
            _, oldest = self.shapes.popitem(last=False)
            backend._release(oldest)
        return shape

    def run(self, *args: Any) -> list[Any]:
        """Run on the machine; compiles first when these shapes are new."""
        key = _signature(args)
        shape = self.shapes.get(key)
        first = shape is None
        if shape is None:
            shape = self.specialise(to_core_aten(self.gm, args), args)
        self.shapes.move_to_end(key)
        assert shape.executable is not None
        start = time.perf_counter()
        outputs, result = shape.executable.run(args)
        elapsed = time.perf_counter() - start
        wall = {"compile": shape.compile_s if first or not shape.warned else 0.0, "simulate": elapsed}
        if shape.executable.generated is not None:
            wall["build"] = 0.0 if shape.warned else shape.executable.generated.build_s
            wall["simulate"] -= wall["build"]
        fallbacks = _fallbacks(shape, elapsed)
        report = RunReport.build(
            shape.executable.program,
            result,
            self.backend.target.hardware,
            model=self.name,
            machine=self.backend.machine,
            wall_s=wall,
            fallbacks=fallbacks,
        )
        if not shape.warned:
            shape.warned = True
            _warn(fallbacks)
        self.backend._record(report)
        return outputs


def _fallbacks(shape: _Shape, elapsed: float) -> list[dict[str, Any]]:
    assert shape.executable is not None
    return [
        {
            "op": call.op.target,
            "source": call.op.source,
            "module": call.op.module,
            "share": min(call.seconds / max(call.calls, 1) / elapsed, 1.0),
        }
        for call in shape.executable.host_calls
    ]


def _warn(fallbacks: Sequence[Mapping[str, Any]]) -> None:
    for f in fallbacks:
        place = f" ({f['source']})" if f["source"] else ""
        warnings.warn(
            f"{f['op']}{place} ran in PyTorch on the host, {f['share']:.0%} of the simulation's wall time and 0 device "
            'cycles: neither CPU nor accelerator has it; fallback="error" refuses such graphs',
            FallbackWarning,
            stacklevel=4,
        )


def _shape(value: Any) -> tuple[Any, ...] | None:
    return (tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else None


def _signature(args: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((tuple(a.shape), a.dtype) if isinstance(a, torch.Tensor) else a for a in args)


def _is_dynamic(args: Sequence[Any]) -> bool:
    return any(
        isinstance(a, torch.SymInt)
        or (isinstance(a, torch.Tensor) and any(isinstance(s, torch.SymInt) for s in a.shape))
        for a in args
    )


def _static_inputs() -> list[int]:
    """Positions of parameters and buffers among the arguments of the graph that AOTAutograd is compiling."""
    context = torch._guards.TracingContext.try_get()
    metadata = context.fw_metadata if context else None
    return list(metadata.static_input_indices) if metadata else []


def _output_specs(gm: fx.GraphModule, args: Sequence[Any]) -> tuple[OutputSpec, ...]:
    gm = without_effect_tokens(gm)
    placeholders = {n: i for i, n in enumerate(gm.graph.nodes) if n.op == "placeholder"}
    (node,) = (n for n in gm.graph.nodes if n.op == "output")
    specs: list[OutputSpec] = []
    values = node.args[0] if isinstance(node.args[0], (list, tuple)) else (node.args[0],)
    for value in values:
        if not isinstance(value, fx.Node):
            specs.append(OutputSpec("value", value))
        elif value in placeholders and not isinstance(args[placeholders[value]], torch.Tensor):
            specs.append(OutputSpec("argument", placeholders[value]))
        else:
            specs.append(OutputSpec("tensor", strides=tuple(int(s) for s in value.meta["val"].stride())))
    return tuple(specs)


@functools.cache
def _note_backward() -> None:
    log.warning("the backward graph runs in PyTorch: training on the machine is not part of this version")


def _eager_backward(gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    _note_backward()
    return make_boxed_func(gm.forward)


def _graph_text(gm: fx.GraphModule) -> str:
    """The captured graph as the tutorial prints it."""
    lines = ["Graph nodes:"]
    for node in gm.graph.nodes:
        name = node.target if isinstance(node.target, str) else fx.node._get_qualified_name(node.target)
        lines.append(f"  {node.op}: {node.name} -> {name.replace('_operator.', 'operator.')}")
    return "\n".join(lines)


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".acalsim"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); choose another output_dir") from None
    return folder


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


# --- other ways in ---


def make_acalsim_backend(mode: str = "compile", verbose: bool = False, output_dir: str | None = None) -> ACALSimBackend:
    """A backend object with the seed's three arguments."""
    return ACALSimBackend(mode=mode, verbose=verbose, output_dir=output_dir)


_OPTIONS = (
    "mode",
    "verbose",
    "output_dir",
    "qemu_config",
    "hardware",
    "machine",
    "fallback",
    "place",
    "functional",
    "build",
)


@functools.cache
def _shared_backend(options: tuple[tuple[str, Any], ...]) -> ACALSimBackend:
    return ACALSimBackend(**dict(options))


def acalsim_backend(
    gm: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """The backend behind ``torch.compile(model, backend="acalsim")``: simulates unless ``mode`` says otherwise.

    ``options`` are the arguments of ACALSimBackend. Models compiled with equal options share one machine session.

    Raises:
        UnknownNameError: an option that does not exist; the valid ones are listed.
    """
    given = dict(options or {})
    for name in given:
        if name not in _OPTIONS:
            raise UnknownNameError("option", name, _OPTIONS)
    given.setdefault("mode", mode or "simulate")
    return _shared_backend(tuple(sorted(given.items())))(gm, example_inputs)


def last_report() -> RunReport | None:
    """The report of the most recent run of any backend in this process."""
    return _last_report


def compile_model(
    model: torch.nn.Module, inputs: Sequence[torch.Tensor], output_dir: str | Path, build: str = "image", **options: Any
) -> list[Path]:
    """Compile ``model(*inputs)`` without running it on a machine; returns the files written to ``output_dir``.

    ``build`` "image" writes the IR before and after the passes, the Program as text (``{graph}.program``) and as it
    lies in guest RAM, without weights (``{graph}.image``); "c" the C sources, a Makefile and ``{graph}.elf``.
    """
    folder = Path(output_dir)
    mode = {"image": "compile", "c": "codegen"}.get(build)
    if mode is None:
        raise UnknownNameError("build", build, BUILDS)
    backend = ACALSimBackend(mode=mode, output_dir=str(folder), **options)
    _call(torch.compile(model, backend=backend, dynamic=False), inputs)
    names = list(backend.get_all_compiled_irs())
    if build == "image":
        for name in names:
            program = backend._programs[name]
            _write(folder / f"{name}.program", dump(program))
            (folder / f"{name}.image").write_bytes(build_image(program).data)
        return [folder / f"{name}{end}" for name in names for end in (".ir", ".opt.ir", ".program", ".image")]
    for name in names:
        build_elf(folder, name)
    ends = (".c", ".h", "_weights.c", "_weights.bin", ".ld", ".elf")
    return [*(folder / f"{name}{end}" for name in names for end in ends), folder / "Makefile"]


def _call(compiled: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Call a compiled model without gradients; our errors come out as they are."""
    try:
        with torch.no_grad():
            return compiled(*arguments)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        if isinstance(error.inner_exception, AcalsimError):
            raise error.inner_exception from None
        raise


def simulate(
    model: torch.nn.Module,
    inputs: Sequence[torch.Tensor] | torch.Tensor,
    hardware: str | Path | HardwareConfig = "edge",
    machine: str = "unicorn",
    **options: Any,
) -> tuple[Any, RunReport]:
    """Run ``model(*inputs)`` once on a fresh machine, without gradients; returns its outputs and the report.

    ``options`` are further arguments of ACALSimBackend. A model that Dynamo cuts into several graphs gives one report
    with the rows of all of them.
    """
    backend = ACALSimBackend(mode="simulate", hardware=hardware, machine=machine, **options)
    compiled = torch.compile(model, backend=backend, dynamic=False)
    arguments = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    outputs = _call(compiled, arguments)
    if not backend.reports:
        raise InputError(f"{type(model).__name__}: nothing was captured; the model runs no tensor operations")
    return outputs, RunReport.concatenate(backend.reports)
