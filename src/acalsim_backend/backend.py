"""The torch.compile backend: its options, its modes, and the machine that its models share."""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._inductor.debug  # AOTAutograd imports it inside its first compilation, a quarter of a second
from torch import fx
from torch._functorch._aot_autograd.utils import make_boxed_func

from acalsim_backend import files
from acalsim_backend.choices import Build, Mode
from acalsim_backend.codegen.generated import GeneratedProgram
from acalsim_backend.codegen.riscv_codegen import RISCVCodeGenerator
from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.errors import InputError, UnknownNameError, UnsupportedError, UsageError
from acalsim_backend.front import watch
from acalsim_backend.front.captured import no_modes
from acalsim_backend.front.dynamo import AotGraph, static_inputs, through_aot_autograd
from acalsim_backend.graphs import PROGRAM_CACHE_BYTES, Graph, ProgramCache, Shape, compile_captured
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import ACALSimIR
from acalsim_backend.locks import Rank, make_lock
from acalsim_backend.machine.base import check_machine
from acalsim_backend.machine.qemu import QemuConfig
from acalsim_backend.passes import Target
from acalsim_backend.program.program import Program
from acalsim_backend.report.history import History
from acalsim_backend.report.model import RunReport
from acalsim_backend.run.executable import Executable
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import WeightCache

log = logging.getLogger(__name__)

IR_BYTES = 32 << 20
"""What the kept IRs of one backend may take."""
_SHARED_BACKENDS = 8


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
        qemu_config: settings of machine "qemu", a QemuConfig or a mapping of its fields.
        hardware: preset name, path of a hardware file, or a HardwareConfig.
        machine: "unicorn" or "qemu" (timed), or "native" (outputs only).
        fallback: "warn" lets unsupported operators run on the host with a warning each, "error" refuses them; C has no
            host beside it, and refuses them always.
        place: "auto", "cpu" or "accelerator".
        functional: the accelerator's functional model, "torch" or "native"; None takes torch where it is installed.
        build: "image" runs Programs with the generic firmware, "c" as generated and compiled C.
        trace_memory: with mode "simulate": a file for the accelerator's accesses to memory, one line each.
        inline_kernels: with mode "codegen": everything on the CPU, products and arithmetic of f32 as loops.

    One backend holds one machine session: its RAM, and the weights of all models compiled with it. The class itself is
    a backend, too: ``torch.compile(model, backend=ACALSimBackend)`` is the same as ``backend="acalsim"``.
    """

    __name__ = "acalsim"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A backend; called as one, with a graph, what :func:`acalsim_backend` returns."""
        if args and isinstance(args[0], fx.GraphModule):
            return acalsim_backend(*args, **kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        mode: str = "compile",
        verbose: bool = False,
        output_dir: str | None = None,
        qemu_config: QemuConfig | Mapping[str, Any] | None = None,
        *,
        hardware: str | Path | HardwareConfig = "edge",
        machine: str = "unicorn",
        fallback: str = "warn",
        place: str = "auto",
        functional: str | None = None,
        build: str = "image",
        inline_kernels: bool = False,
        trace_memory: str | Path | None = None,
    ) -> None:
        for name, value, choices in (("mode", mode, Mode), ("build", build, Build)):
            if value not in list(choices):
                raise UnknownNameError(name, value, list(choices))
        check_machine(machine)
        if qemu_config is not None and machine != "qemu":
            raise UsageError(f"qemu_config is for machine='qemu', got machine={machine!r}; leave it out")
        if inline_kernels and (mode != "codegen" or place == "accelerator"):
            raise UsageError(
                f"inline_kernels is for mode='codegen' and the CPU, got mode={mode!r}, place={place!r}; leave it out"
            )
        place = "cpu" if inline_kernels else place
        if trace_memory is not None and (mode != "simulate" or build == "c"):
            raise UsageError(
                f"trace_memory is for mode='simulate' and build='image', got {mode!r} and {build!r}; leave it out"
            )
        self.mode = mode
        self.verbose = verbose
        self.output_dir = None if output_dir is None else files.make_folder(output_dir, "choose another output_dir")
        self.machine = machine
        self.qemu_config = QemuConfig.of(qemu_config) if isinstance(qemu_config, Mapping) else qemu_config
        self.functional = functional
        self.build = build
        self.inline_kernels = inline_kernels
        self._trace_memory = trace_memory
        self._is_c_form = mode == "codegen" or build == "c"  # which no host stands beside
        self.target = Target(HardwareConfig.load(hardware), place, "error" if self._is_c_form else fallback)
        self.compiler = ACALSimCompiler(verbose=verbose)
        self.programs = ProgramCache(self.target)
        self.lock = make_lock(Rank.BACKEND)
        self._names = itertools.count()
        self._graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
        self._shapes: weakref.WeakValueDictionary[str, Shape] = weakref.WeakValueDictionary()
        self._irs: dict[str, ACALSimIR] = {}
        self._history = History()
        self._arguments = {"mode": mode, "verbose": verbose, "output_dir": output_dir, "qemu_config": qemu_config,
                           "hardware": self.target.hardware, "machine": machine, "fallback": fallback, "place": place,
                           "functional": functional, "build": build, "inline_kernels": inline_kernels,
                           "trace_memory": trace_memory}  # fmt: skip
        if mode == "simulate":
            _ = self.session  # a machine that cannot start says so here, not inside the first call of a model

    def __repr__(self) -> str:
        target = self.target
        return (
            f"ACALSimBackend(mode={self.mode!r}, hardware={target.hardware.name!r}, machine={self.machine!r}, "
            f"place={target.place!r}, fallback={target.fallback!r})"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> ACALSimBackend:
        """A backend is a handle of one machine, which copies of a model share."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it is unpickled, it is a new backend of the same arguments, with a machine of its own."""
        return _rebuilt, (self._arguments,)

    # --- what users ask for ---

    def get_compiled_ir(self, name: str) -> ACALSimIR | None:
        """The IR of graph ``name`` as captured, or None."""
        return self._irs.get(name)

    def get_all_compiled_irs(self) -> dict[str, ACALSimIR]:
        """IRs of the graphs by name, in order of capture; the oldest go when all of them take more than 32 MiB."""
        with self.lock:
            return dict(self._irs)

    def get_program(self, name: str) -> Program | None:
        """The Program of graph ``name``, or None; it is kept for as long as its compiled model."""
        shape = self._shapes.get(name)
        return None if shape is None else shape.linked.interface.program

    @property
    def reports(self) -> list[RunReport]:
        """Reports of the runs so far, oldest first; the oldest go when all of them take more than 64 MiB."""
        return self._history.reports

    @property
    def session(self) -> Session:
        """The machine with its RAM."""
        return self.weights.session

    @functools.cached_property
    def weights(self) -> WeightCache:
        """Weights resident in the session."""
        with self.lock:
            if "weights" in self.__dict__:  # another thread was faster
                return self.__dict__["weights"]  # type: ignore[no-any-return]
            session = Session(
                self.target.hardware,
                self.machine,
                functional=self.functional,
                settings=self.qemu_config,
                trace_memory=self._trace_memory,
            )
            session.register(self)
            cache = self.__dict__["weights"] = WeightCache(session)
            return cache

    def close(self) -> None:
        """End the machine; compiled models of this backend cannot run any more."""
        with self.lock:
            for shape in list(self._shapes.values()):
                if shape.executable is not None:
                    shape.executable.close()
            if "weights" in self.__dict__:
                self.weights.close()
                self.session.close()

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
        if self.mode == "codegen":
            generate = functools.partial(self._generate, values=tuple(example_inputs))
            with torch.no_grad():  # the graph of inference, without what a backward would need
                compiled = through_aot_autograd(gm, example_inputs, generate, generate)
            return _KeepsAlive(gm.forward, compiled)
        return through_aot_autograd(gm, example_inputs, self._compile_graph, _eager_backward)

    def _compile_graph(self, gm: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        return make_boxed_func(Graph(self, gm))

    def _generate(self, gm: fx.GraphModule, args: Sequence[Any], values: Sequence[Any]) -> Callable[..., Any]:
        """Write C for a graph whose arguments have ``values``."""
        graph = AotGraph(gm, static_inputs())
        with self.lock, no_modes():
            tokens = {i for i, example in enumerate(graph.examples) if example is None} if not graph.is_dynamic else ()
            rest = iter(values)
            values = [None if i in tokens else next(rest, None) for i in range(len(args))]
            captured = graph.at(values)
            if graph.is_dynamic:
                log.warning("the C is for the shapes of the first call")
            elif [_shape(a) for a in graph.examples] != [_shape(v) for v in values]:
                raise InputError("arguments that share memory and are written to; clone them before the call")
            for derive in captured.derived:
                values.append(derive(values))
            shape = compile_captured(self, captured, values)
            self.enter(None, shape)
            written = self._generator.generate(shape.ir, shape.name)
            parameters = (n for n in shape.ir.arguments if shape.ir.tensors[n].is_param)
            shape.ir.constants = {n: values[shape.ir.arguments[n]].detach() for n in parameters} | shape.ir.constants
            shape.ir.examples = ()
        if self.verbose:
            print("Generated files:", *written, sep="\n  ")
        return make_boxed_func(_KeepsAlive(gm.forward, shape))

    def watched(self) -> ACALSimBackend:
        """Who is told of the calls of a model that is compiled with this backend."""
        return self

    @staticmethod
    def shared(mode: str | None = None, options: Mapping[str, Any] | None = None) -> ACALSimBackend:
        """The backend of these options; the same one for equal options and equal hardware.

        Raises:
            UnknownNameError: an option that does not exist; the valid ones are listed.
        """
        given = dict(options or {})
        for name in given:
            if name not in _OPTIONS:
                raise UnknownNameError("option", name, _OPTIONS)
        given.setdefault("mode", mode or "simulate")
        given["hardware"] = HardwareConfig.load(given.get("hardware", "edge"))  # a file may have changed
        key = tuple(sorted((name, repr(value)) for name, value in given.items()))
        with _shared_lock:
            if key not in _shared:
                _shared[key] = ACALSimBackend(**given)
            _shared.move_to_end(key)
            while len(_shared) > _SHARED_BACKENDS:
                _shared.popitem(last=False)
            return _shared[key]

    def end_call(self, call: watch.Call, known: list[watch.Uncaptured]) -> None:
        """Name what Dynamo left to Python in one call of a compiled model.

        Raises:
            UnsupportedError: something was, and ``fallback="error"``.
        """
        if self.mode == "eager":
            return
        eager = [u for u in (*known, *call.new) if not (u.is_limit and call.runs)]
        if eager and self.target.fallback == "error":
            raise UnsupportedError(
                "PyTorch did not capture all of the model, and what it left out ran outside the machine:\n"
                + "\n".join(f"  {u}" for u in eager)
                + "\nrewrite these lines"
                + ("" if self._is_c_form else ', or allow them with fallback="warn"')
            )
        for u in call.new:
            text = f"{u} was not captured by PyTorch and ran eagerly, outside the machine; its time is not counted"
            _warn_at(u.source, text)
        if self.mode != "simulate":
            return
        rows = tuple({"op": f"{u.what}: {u.cause}", "source": u.source, "module": "", "share": 1.0} for u in eager)
        if rows and call.runs:
            self._history.replace(call.runs[-1], call.runs[-1].with_fallbacks(rows))
        elif rows:
            self.record(RunReport.of_nothing(self.target.hardware, self.machine, rows))

    # --- what graphs ask for ---

    def new_name(self) -> str:
        """A name for a graph that no other graph of this backend has."""
        return f"graph_{next(self._names)}"

    def load(self, shape: Shape) -> Executable:
        """Put a shape's Program on the session."""
        generated = None
        if self.build == "c":
            generated = GeneratedProgram(self.target.hardware, self.machine, self.functional)
        return Executable(shape.linked.interface, self.session, self.weights, generated)

    def enter(self, graph: Graph | None, shape: Shape) -> None:
        """Take a new shape into the books; others go when all Programs take more than their share of memory."""
        self._shapes[shape.name] = shape
        self._irs[shape.name] = shape.ir
        while sum(ir.nbytes for ir in self._irs.values()) > IR_BYTES and len(self._irs) > 1:
            del self._irs[next(iter(self._irs))]
        if graph is not None:
            self._graphs.add(graph)
        self.reclaim()
        by_age = sorted(
            ((s.used, key, g, s) for g in list(self._graphs) for key, s in list(g.shapes.items()) if s is not shape),
            key=lambda item: item[0],
        )
        total = shape.nbytes + sum(s.nbytes for *_, s in by_age)
        for _, key, owner, other in by_age:
            if total <= PROGRAM_CACHE_BYTES:
                break
            total -= other.nbytes
            owner.shapes.pop(key, None)  # a session that needs room may have dropped it

    def reclaim(self) -> None:
        """Give up the Programs of graphs that no compiled model can run any more; they come back when called."""
        if not self.lock.acquire(blocking=False):  # a session asks, whose lock comes after this one: whoever compiles
            return  # meanwhile does it next
        try:
            for graph in list(self._graphs):
                if graph.is_unused:
                    graph.shapes.clear()
        finally:
            self.lock.release()

    def record(self, report: RunReport) -> None:
        """Keep a report."""
        self._history.add(report)
        call = watch.current_call()
        if call is not None:
            call.runs.append(report)

    def warn_of_host_calls(self, fallbacks: Iterable[Mapping[str, Any]]) -> None:
        """One warning for each operator that ran on the host."""
        for f in fallbacks:
            place = f" ({f['source']})" if f["source"] else ""
            _warn_at(
                f["source"],
                f"{f['op']}{place} ran in PyTorch on the host, {f['share']:.0%} of the simulation's wall time and 0 "
                'device cycles: neither CPU nor accelerator has it; fallback="error" refuses such graphs',
            )

    @functools.cached_property
    def _generator(self) -> RISCVCodeGenerator:
        return RISCVCodeGenerator(
            self.output_dir or "acalsim_output",
            hardware=self.target.hardware,
            place=self.target.place,
            machine=self.machine,
            functional=self.functional,
            inline_kernels=self.inline_kernels,
        )


def _rebuilt(arguments: Mapping[str, Any]) -> ACALSimBackend:
    return ACALSimBackend(**arguments)


class _KeepsAlive:
    """A function that keeps something else alive with it."""

    def __init__(self, function: Callable[..., Any], other: object) -> None:
        self._function = function
        self._other = other

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def _warn_at(source: str, text: str) -> None:
    """Warn at a line of the user's code, "file:line", or at whoever called the model."""
    file, _, line = (source or watch.user_line()).rpartition(":")
    warnings.warn_explicit(text, FallbackWarning, file or "<unknown>", int(line or 0))


def _shape(value: Any) -> tuple[Any, ...] | None:
    return (tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else None


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


# --- other ways in ---


def make_acalsim_backend(mode: str = "compile", verbose: bool = False, output_dir: str | None = None) -> ACALSimBackend:
    """A backend object with the seed's three arguments."""
    return ACALSimBackend(mode=mode, verbose=verbose, output_dir=output_dir)


_OPTIONS = tuple(inspect.signature(ACALSimBackend.__init__).parameters)[1:]

_shared: OrderedDict[tuple[Any, ...], ACALSimBackend] = OrderedDict()
_shared_lock = make_lock(Rank.TABLE)


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
    return ACALSimBackend.shared(mode, options)(gm, example_inputs)


acalsim_backend.shared = ACALSimBackend.shared  # type: ignore[attr-defined]


def last_report() -> RunReport | None:
    """The report of the most recent run of any backend in this process."""
    return History.last
