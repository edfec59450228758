"""The accelerators' accesses to main memory as a table: which bytes, when, by which operation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acalsim_backend import files
from acalsim_backend.device.timing import ACCESS_FIELDS
from acalsim_backend.errors import InputError
from acalsim_backend.program.program import Program
from acalsim_backend.run.timeline import UnitUses

COLUMNS = ("run", "begin", "end", "device", "access", "address", "bytes", "command", "operation")


class MemoryTrace:
    """A tab-separated file with a line for each contiguous piece of a DMA transfer.

    ``begin`` and ``end`` are those of the transfer, in device cycles from the run's start as in the report; ``run``
    counts runs of Programs, ``command`` is the number of the report's row.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = files.stream(path, "choose another file")
        self._file.write("\t".join(COLUMNS) + "\n")
        self._runs = 0

    def write(self, program: Program, units: Sequence[UnitUses]) -> None:
        """Append what one run accessed.

        Raises:
            InputError: the disk is full, or the like.
        """
        texts = [_operation(program, number) for number in range(len(program.commands))]
        try:
            for segment in units:
                found = np.frombuffer(segment.accesses, list(ACCESS_FIELDS))
                for begin, end, address, nbytes, command, write in found.tolist():
                    self._file.write(
                        f"{self._runs}\t{segment.start_cycle + begin}\t{segment.start_cycle + end}\t{segment.device}\t"
                        f"{'W' if write else 'R'}\t{address:#x}\t{nbytes}\t{command}\t{texts[command]}\n"
                    )
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path}: cannot write the trace of memory there: {error.strerror}") from None
        self._runs += 1

    def close(self) -> None:
        """Nothing is written after this."""
        self._file.close()


def _operation(program: Program, number: int) -> str:
    command = program.commands[number]
    first, count = command.origin
    return "; ".join(o.text for o in program.origins[first : first + count]) or command.opcode.name
