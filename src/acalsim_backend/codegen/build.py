"""Builds a generated graph by the toolchain's cache, without make."""

from __future__ import annotations

from pathlib import Path

from acalsim_backend.toolchain import Toolchain, cache_dir, program_sources


def build(folder: Path, name: str, out: Path | None = None) -> Path:
    """Compile the files of graph ``name`` to ``out`` (default: ``{name}.elf`` beside them); equal ones are built once.

    Raises:
        MissingToolError: no compiler.
        BuildError: it failed.
    """
    files = (folder / f"{name}.c", folder / f"{name}_weights.c")
    data = (folder / f"{name}_weights.bin",)
    target = out if out is not None else folder / f"{name}.elf"
    return Toolchain.find().compile(program_sources(files, folder / f"{name}.ld", data), target.absolute(), cache_dir())
