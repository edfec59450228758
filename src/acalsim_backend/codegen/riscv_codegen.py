"""IR -> bare-metal C: compiles the IR to a Program and prints it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acalsim_backend.codegen.files import remove_stale, write_files
from acalsim_backend.codegen.memory_map import MemoryMap
from acalsim_backend.errors import InputError, UsageError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.ir import DTYPES, ACALSimIR
from acalsim_backend.ops.defaults import complete
from acalsim_backend.passes import Target, compile_ir
from acalsim_backend.program.snapshot import check_graph_name
from acalsim_backend.run.executable import Executable
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import WeightCache
from acalsim_backend.tensors import tensor_of, tutorial_data

_written: dict[Path, set[str]] = {}
"""Graphs of this process by folder; others that we find there are of an earlier run."""


class RISCVCodeGenerator:
    """Writes ``{name}.c``, ``.h``, ``_weights.c``, ``_weights.bin``, ``.ld`` and a Makefile into ``output_dir``.

    ``hardware`` decides which commands the accelerator takes. What depends on weights alone is computed at generation,
    on ``machine``. With ``inline_kernels`` everything runs on the CPU, and products and arithmetic of f32 are printed
    as loops instead of calls: slower, to be read; sums have another order than the kernels'.

    Raises:
        UsageError: ``inline_kernels`` with ``place="accelerator"``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        hardware: str | Path | HardwareConfig = "edge",
        place: str = "auto",
        machine: str = "unicorn",
        functional: str | None = None,
        inline_kernels: bool = False,
    ) -> None:
        if inline_kernels and place == "accelerator":
            raise UsageError("inline_kernels puts everything on the CPU, got place='accelerator'; leave one out")
        self.output_dir = Path(output_dir)
        self.inline_kernels = inline_kernels
        self.target = Target(HardwareConfig.load(hardware), "cpu" if inline_kernels else place, "error")
        self.machine = machine
        self.functional = functional

    def generate(self, ir: ACALSimIR, name: str | None = None, arguments: Sequence[Any] | None = None) -> list[str]:
        """Write the files of a graph and return their paths.

        ``arguments`` are the captured graph's arguments, weights included, as tensors or NumPy arrays; by default those
        that the IR was captured with, or for an IR that was built by hand the tutorial's test data. The addresses of
        its tensors are noted in the IR's ``memory_addr``.

        Raises:
            UnsupportedError: operations that neither CPU nor accelerator has, all of them listed.
            InputError: the name is none for files and functions of C; the values of weights or inputs are not known, or
                of another shape or element type; an IR that was written by hand is wrong; the folder cannot be written.
        """
        tensors = ir.tensors
        ir = complete(dataclasses.replace(ir, name=name or ir.name))
        check_graph_name(ir.name)
        compiled = compile_ir(ir, self.target)
        values = ir.examples if arguments is None else tuple(arguments)
        if not values and all(ir.tensors[n].is_input for n in ir.arguments):
            in_order = (ir.tensors[n] for n in sorted(ir.arguments, key=lambda n: ir.arguments[n]))
            values = tuple(tutorial_data(desc.shape, DTYPES[desc.dtype]) for desc in in_order)
        unknown = [name for name, position in ir.arguments.items() if position >= len(values)]
        if unknown:
            raise InputError(
                f"{ir.name}: no values for {', '.join(unknown)}: compile the IR with real tensors, or pass arguments="
            )
        if arguments is not None:
            taken = set(ir.arguments.values())
            values = tuple(tensor_of(v, f"{ir.name}: argument {i}") if i in taken else v for i, v in enumerate(values))
        with Session(self.target.hardware, self.machine, functional=self.functional) as session:
            snapshot = Executable(compiled.interface(), session, WeightCache(session)).snapshot(values)
        written = _written.setdefault(self.output_dir.resolve(), set())
        remove_stale(self.output_dir, written | {ir.name})
        paths = write_files(snapshot, self.output_dir, inline_kernels=self.inline_kernels)
        written.add(ir.name)
        places = MemoryMap(snapshot)
        for desc in tensors.values():
            desc.memory_addr = None
        for tensor in snapshot.program.tensors:
            if tensor.name in tensors:
                tensors[tensor.name].memory_addr = places.addresses.get(places.names[tensor.id])
        return [str(path) for path in paths]
