"""The image form of a Program: commands and tables as they lie in guest RAM, and the header that finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from acalsim_backend.program.enums import ABI_VERSION, IMAGE_MAGIC, Status, aligned
from acalsim_backend.program.layout import I64, U32, U64, Struct
from acalsim_backend.program.program import Program


@dataclass(frozen=True)
class ImageHeader(Struct):
    """Start of an image. Offsets count bytes from here; the guest writes records, queue, result and patched operands.

    ``index`` holds a u64 offset per command, ``bindings`` a u64 address per tensor, ``records`` an acal_record_t per
    command; ``queue`` is the ring of 16-byte entries, large enough for the longest segment.
    """

    c_name: ClassVar[str] = "acal_image_t"

    magic: U32
    version: U32
    size: U64
    n_commands: U32
    n_tensors: U32
    n_relocations: U32
    queue_entries: U32
    commands: U64
    index: U64
    bindings: U64
    relocations: U64
    records: U64
    queue: U64
    status: U32 = 0
    """Status of the last run, written by the guest."""
    failed_command: U32 = 0
    failed_address: U64 = 0
    instret_begin: U64 = 0
    """Retired instructions when the first command started, and (``instret_end``) when the last one had ended."""
    instret_end: U64 = 0
    runs: U64 = 0
    """Counts completed runs; 0 means that the guest never came to the end."""


@dataclass(frozen=True)
class Relocation(Struct):
    """``*(u64 *)(image + offset) = bindings[tensor] + addend``."""

    c_name: ClassVar[str] = "acal_relocation_t"

    offset: U64
    addend: I64
    tensor: U32
    reserved: U32 = 0


@dataclass(frozen=True)
class Record(Struct):
    """Retired instructions when a CPU or host command started and ended; zero for accelerator commands."""

    c_name: ClassVar[str] = "acal_record_t"

    begin: U64 = 0
    end: U64 = 0


@dataclass(frozen=True)
class QueueEntry(Struct):
    """An entry of the accelerator's ring."""

    c_name: ClassVar[str] = "acal_queue_entry_t"

    command: U64
    id: U32
    flags: U32 = 0


@dataclass(frozen=True)
class Image:
    """Bytes ready to be copied to 64-byte-aligned guest memory, and where the host finds its tables in them."""

    data: bytes
    header: ImageHeader
    command_offsets: tuple[int, ...]


def queue_entries(program: Program) -> int:
    """Entries of the accelerator's ring: a power of two above the longest segment."""
    longest = max((len(s) for s in program.segments()), default=0)
    return 1 << max(longest, 1).bit_length()


def build_image(program: Program) -> Image:
    """Lay a Program out for guest memory; tensor addresses are left for the binding table."""
    offset = ImageHeader.sizeof()
    index: list[int] = []
    encoded: list[bytes] = []
    relocations: list[Relocation] = []
    for command in program.commands:
        body = command.encode()
        index.append(offset)
        encoded.append(body)
        for _, _, at, view in command.operands():
            relocations.append(Relocation(offset + at, view.offset, view.tensor))
        offset += len(body)

    def table(size: int) -> int:
        nonlocal offset
        start = aligned(offset)
        offset = start + size
        return start

    entries = queue_entries(program)
    index_at = table(8 * len(index))
    bindings_at = table(8 * len(program.tensors))
    relocations_at = table(Relocation.sizeof() * len(relocations))
    records_at = table(Record.sizeof() * len(index))
    queue_at = table(QueueEntry.sizeof() * entries)
    header = ImageHeader(
        magic=IMAGE_MAGIC,
        version=ABI_VERSION,
        size=table(0),
        n_commands=len(index),
        n_tensors=len(program.tensors),
        n_relocations=len(relocations),
        queue_entries=entries,
        commands=ImageHeader.sizeof(),
        index=index_at,
        bindings=bindings_at,
        relocations=relocations_at,
        records=records_at,
        queue=queue_at,
        status=Status.OK,
    )
    data = bytearray(header.size)
    header.encode_into(data)
    for at, command_bytes in zip(index, encoded, strict=True):
        data[at : at + len(command_bytes)] = command_bytes
    for i, at in enumerate(index):
        data[index_at + 8 * i : index_at + 8 * i + 8] = at.to_bytes(8, "little")
    for i, relocation in enumerate(relocations):
        relocation.encode_into(data, relocations_at + i * Relocation.sizeof())
    return Image(bytes(data), header, tuple(index))
