"""Where everything of a generated program lies, decided before the compiler runs and checked by the linker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from acalsim_backend.codegen.names import c_names, example, image, main_input, main_output
from acalsim_backend.device.registers import RAM_BASE
from acalsim_backend.program.enums import ALIGNMENT, aligned
from acalsim_backend.program.image import ImageHeader, QueueEntry, Record, queue_entries
from acalsim_backend.program.program import TensorKind
from acalsim_backend.program.snapshot import Snapshot

RUNTIME_BYTES = 1 << 20
"""Start of RAM that code, its constants and its variables have."""
WORKING_BYTES = 4 << 20
"""For the working memory of kernels and the stack, behind everything that is loaded."""
STACK_BYTES, TRAP_STACK_BYTES = 256 << 10, 16 << 10
REACH = 0x7FF0_0000
"""Bytes from the start of RAM that code of -mcmodel=medany reaches; the arena must begin there."""


@dataclass(frozen=True)
class Section:
    """A part of RAM: variables by C name with their bytes. ``loaded``: the ELF has their values."""

    name: str
    loaded: bool
    variables: Mapping[str, int]


class MemoryMap:
    """The layout of a snapshot's program.

    ``names`` are the C names of tensors by id, ``examples`` those of the captured values of inputs, ``image`` that of
    the variable with the commands, which holds the result after a run. ``addresses`` are those of variables by C name;
    ``end`` is behind the last.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        program = snapshot.program
        self.names = c_names([t.name for t in program.tensors], snapshot.name)
        self.examples = {t.id: example(self.names[t.id]) for t in snapshot.inputs}
        self.image = image(snapshot.name)
        values = {self.names[t.id]: len(snapshot.bytes_of(t)) for t in snapshot.stored}
        values |= {self.examples[t.id]: len(snapshot.bytes_of(t)) for t in snapshot.inputs}
        kinds = (TensorKind.INPUT, TensorKind.OUTPUT)
        buffers = {self.names[t.id]: t.nbytes for t in program.tensors if t.kind in kinds}
        buffers |= {main_input(i): t.nbytes for i, t in enumerate(snapshot.inputs)}
        buffers |= {main_output(i): v.numel * v.dtype.itemsize for i, v in enumerate(snapshot.outputs)}
        self.sections = (
            Section(".weights", True, values),
            Section(".commands", True, {self.image: _image_bytes(snapshot)}),
            Section(".working", False, {"working": WORKING_BYTES}),
            Section(".buffers", False, buffers),
            Section(".arena", False, {"arena": program.arena_size}),
        )
        self.addresses: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        at = RAM_BASE + RUNTIME_BYTES
        for section in self.sections:
            self._starts[section.name] = at
            for name, nbytes in section.variables.items():
                self.addresses[name] = at
                at += aligned(max(nbytes, 1))  # C has no arrays of size 0
        self.end = at
        for tensor in program.of_kind(TensorKind.ARENA):
            self.addresses[self.names[tensor.id]] = self.addresses["arena"] + tensor.offset

    def linker_script(self) -> str:
        """Code, weights, commands, buffers and the arena from the start of RAM."""
        length = -(-(self.end - RAM_BASE) >> 20) << 20
        text = _LINKER_SCRIPT
        for key, value in (
            ("@BASE@", f"{RAM_BASE:#x}"),
            ("@LENGTH@", f"{length:#x}"),
            ("@RUNTIME_END@", f"{RAM_BASE + RUNTIME_BYTES:#x}"),
            ("@SECTIONS@", "\n".join(self._script())),
            ("@END@", f"{self.end:#x}"),
        ):
            text = text.replace(key, value)
        return text

    def _script(self) -> Iterator[str]:
        for section in self.sections:
            start = self._starts[section.name]
            yield f"    {section.name} {start:#x}{'' if section.loaded else ' (NOLOAD)'} : {{"
            if section.name == ".working":
                yield _WORKING
            for name, nbytes in section.variables.items() if section.name != ".working" else ():
                place = f"KEEP(*({section.name}.{name}))"
                if name == "arena":
                    place = f"arena = .; . += {aligned(max(nbytes, 1)):#x};"
                yield f"        {place} . = ALIGN({ALIGNMENT});  /* {self.addresses[name]:#x} */"
            yield "    } > RAM"
        yield from (
            f'    ASSERT("{name}" == {self.addresses[name]:#x}, "{name} is not where it was planned")'
            for section in self.sections
            for name in section.variables
            if section.loaded
        )
        working_end = self.addresses["working"] + WORKING_BYTES
        yield f'    ASSERT(__trap_stack_top <= {working_end:#x}, "working memory and stack exceed what they have")'
        yield (
            f"    ASSERT({self.addresses['arena'] - RAM_BASE:#x} < {REACH:#x}, "
            '"weights and buffers exceed the 2 GiB that code reaches")'
        )


def _image_bytes(snapshot: Snapshot) -> int:
    """Bytes of the C variable with commands and tables; no relocations, which the linker does."""
    program = snapshot.program
    commands = sum(len(c.encode()) for c in program.commands)
    tables: Iterable[int] = (
        8 * max(len(program.commands), 1),
        8 * max(len(program.tensors), 1),
        Record.sizeof() * max(len(program.commands), 1),
        QueueEntry.sizeof() * queue_entries(program),
    )
    return aligned(ImageHeader.sizeof() + commands) + sum(map(aligned, tables))


_WORKING = f"""        *(.scratch)
        . = ALIGN(16);
        . = . + {STACK_BYTES:#x};  /* {STACK_BYTES >> 10}KB stack */
        __stack_top = .;
        . = . + {TRAP_STACK_BYTES:#x};
        __trap_stack_top = .;"""
_LINKER_SCRIPT = """/* Auto-generated linker script for ACALSim kernel */

ENTRY(_start)

MEMORY
{
    RAM (rwx) : ORIGIN = @BASE@, LENGTH = @LENGTH@
}

SECTIONS
{
    .text : {
        KEEP(*(.text.init))
        *(.text .text.*)
    } > RAM

    .rodata : {
        *(.rodata .rodata.* .srodata .srodata.*)
        . = ALIGN(4096);  /* emulators retranslate code pages that are written to */
    } > RAM
    __text_end = .;

    .data : {
        *(.data .data.*)
        . = ALIGN(64);
        __global_pointer$ = . + 0x800;
        *(.sdata .sdata.*)
        . = ALIGN(64);
    } > RAM

    .bss (NOLOAD) : {
        __bss_start = .;
        *(.sbss .sbss.*)
        *(.bss .bss.*)
        *(COMMON)
        . = ALIGN(64);
        __bss_end = .;
    } > RAM

    ASSERT(__bss_end <= @RUNTIME_END@, "code and variables exceed what the memory map has for them")

@SECTIONS@
    __end = @END@;

    /DISCARD/ : { *(.comment) *(.eh_frame*) *(.note*) *(.riscv.attributes) }
}
"""
