"""Whole models without ``torch.compile`` in the user's code: run on a machine, or compiled to files."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from acalsim_backend import files
from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.choices import Build
from acalsim_backend.codegen.build import build as build_elf
from acalsim_backend.errors import AcalsimError, InputError, UnknownNameError
from acalsim_backend.front import watch
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.dump import dump
from acalsim_backend.program.image import build_image
from acalsim_backend.report.model import RunReport


def compile_model(
    model: torch.nn.Module, inputs: Sequence[torch.Tensor], output_dir: str | Path, build: str = "image", **options: Any
) -> list[Path]:
    """Compile ``model(*inputs)`` without running it on a machine; returns the files written to ``output_dir``.

    ``build`` "image" writes the IR before and after the passes, the Program as text (``{graph}.program``) and as it
    lies in guest RAM, without weights (``{graph}.image``); "c" the C sources, a Makefile and ``{graph}.elf``.

    Raises:
        InputError: the model runs no tensor operations, or the folder cannot be written.
    """
    folder = Path(output_dir)
    mode = {"image": "compile", "c": "codegen"}.get(build)
    if mode is None:
        raise UnknownNameError("build", build, list(Build))
    backend = ACALSimBackend(mode=mode, output_dir=str(folder), **options)
    compiled = torch.compile(_with_own_code(model), backend=backend, dynamic=False)
    _call(compiled, inputs)
    names = list(backend.get_all_compiled_irs())
    if not names:
        raise _nothing_captured(model)
    if build == "image":
        for name in names:
            program = backend.get_program(name)
            if program is not None:
                files.write(folder / f"{name}.program", f"{dump(program)}\n")
                files.write(folder / f"{name}.image", build_image(program).data)
        return [folder / f"{name}{end}" for name in names for end in (".ir", ".opt.ir", ".program", ".image")]
    for name in names:
        build_elf(folder, name)
    ends = (".c", ".h", "_weights.c", "_weights.bin", ".ld", ".elf")
    return [*(folder / f"{name}{end}" for name in names for end in ends), folder / "Makefile"]


def _nothing_captured(model: Callable[..., Any]) -> InputError:
    name = type(model).__name__ if isinstance(model, torch.nn.Module) else getattr(model, "__name__", repr(model))
    return InputError(f"{name}: nothing was captured; the model runs no tensor operations")


def _with_own_code(model: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls ``model``, with a code object and globals of its own.

    Dynamo keeps what it compiled at the code object, and all modules share one; it enters names in the globals. So
    nothing is left behind, and calls with other backends do not count towards a recompile limit.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return model(*args, **kwargs)

    space = {"__name__": __name__, "__builtins__": __builtins__}
    return types.FunctionType(call.__code__.replace(), space, call.__name__, None, call.__closure__)


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
    with contextlib.closing(ACALSimBackend(mode="simulate", hardware=hardware, machine=machine, **options)) as backend:
        compiled = torch.compile(_with_own_code(model), backend=backend, dynamic=False)
        arguments = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
        try:
            outputs = _call(compiled, arguments)
        finally:
            watch.forget(backend)
    if not backend.reports:
        raise _nothing_captured(model)
    return outputs, RunReport.concatenate(backend.reports)
