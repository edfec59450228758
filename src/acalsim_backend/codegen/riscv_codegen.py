"""IR -> bare-metal C: compiles the IR to a Program and prints it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acalsim_backend.codegen.files import remove_stale, write_files
from acalsim_backend.errors import InputError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import ACALSimIR
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.run.executable import Executable
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import WeightCache

_written: dict[Path, set[str]] = {}
"""Graphs of this process by folder; others that we find there are of an earlier run."""


class RISCVCodeGenerator:
    """Writes ``{name}.c``, ``.h``, ``_weights.c``, ``_weights.bin``, ``.ld`` and a Makefile into ``output_dir``.

    ``hardware`` decides which commands the accelerator takes. What depends on weights alone is computed at generation,
    on ``machine``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        hardware: str | Path | HardwareConfig = "edge",
        place: str = "auto",
        machine: str = "unicorn",
        functional: str | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.target = Target(HardwareConfig.load(hardware), place, "error")
        self.machine = machine
        self.functional = functional

    def generate(self, ir: ACALSimIR, name: str | None = None, arguments: Sequence[Any] | None = None) -> list[str]:
        """Write the files of a graph and return their paths.

        ``arguments`` are the captured graph's arguments, weights included; by default those that the IR was captured
        with.

        Raises:
            UnsupportedError: operations that neither CPU nor accelerator has, all of them listed.
            InputError: the values of weights or inputs are not known, or the folder cannot be written.
        """
        ir = dataclasses.replace(ir, name=name or ir.name)
        compiled = compile_ir(ir, self.target)
        values = ir.examples if arguments is None else tuple(arguments)
        unknown = [name for name, position in ir.arguments.items() if position >= len(values)]
        if unknown:
            raise InputError(
                f"{ir.name}: no values for {', '.join(unknown)}: compile the IR with real tensors, or pass arguments="
            )
        with Session(self.target.hardware, self.machine, functional=self.functional) as session:
            snapshot = Executable(compiled.interface(), session, WeightCache(session)).snapshot(values)
        written = _written.setdefault(self.output_dir.resolve(), set())
        remove_stale(self.output_dir, written | {ir.name})
        paths = write_files(snapshot, self.output_dir)
        written.add(ir.name)
        return [str(path) for path in paths]
