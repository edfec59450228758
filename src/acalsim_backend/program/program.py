"""A Program: the list of commands that compiler and machines share, with the tables that give it meaning."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import DType, Placement


class TensorKind(enum.Enum):
    """Where the memory of a tensor comes from, and for how long it is kept."""

    INPUT = "input"  # bound by the caller for one run
    OUTPUT = "output"  # bound by the session for one run, copied out after it
    WEIGHT = "weight"  # a parameter or buffer, resident while its owner lives
    PREPARED = "prepared"  # computed from weights by the prepare Program, resident
    CONSTANT = "constant"  # bytes that belong to the Program
    ARENA = "arena"  # scratch with a planned offset, undefined before and after a run


@dataclass(frozen=True)
class Tensor:
    """One block of guest memory: ``shape`` in elements, ``offset`` in bytes (arena or constant data)."""

    id: int
    name: str
    kind: TensorKind
    dtype: DType
    shape: tuple[int, ...]
    offset: int = 0
    data: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        n = self.dtype.itemsize
        for d in self.shape:
            n *= d
        return n


@dataclass(frozen=True)
class Origin:
    """An IR operation that a command covers: its printed text, type, ``nn.Module`` path and source line."""

    index: int
    text: str
    type: str
    module: str = ""
    source: str = ""
    flops: int = 0


@dataclass(frozen=True)
class Prepare:
    """What has to be computed from weights before a Program can run, and again when one of ``sources`` changes.

    ``results`` pairs a tensor id of ``program`` (an OUTPUT there) with a PREPARED tensor id of the owner.
    """

    program: Program
    results: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Program:
    """Commands in execution order, the tensors they refer to and the plan of their memory.

    ``inputs`` and ``outputs`` list tensor ids in the caller's order; a tensor may appear in ``outputs`` more than once
    and may be of any kind (an output can be an input or a weight).
    """

    name: str
    tensors: tuple[Tensor, ...]
    commands: tuple[Command, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena_size: int = 0
    origins: tuple[Origin, ...] = ()
    prepare: Prepare | None = None
    host_calls: tuple[object, ...] = field(default=(), compare=False)
    """What HOST commands call, by number; opaque here."""

    def of_kind(self, kind: TensorKind) -> list[Tensor]:
        """Tensors of one kind in id order."""
        return [t for t in self.tensors if t.kind is kind]

    def steps(self) -> list[list[Command]]:
        """The commands in order, in maximal runs of accelerator commands for one device and single other commands."""
        runs: list[list[Command]] = []
        previous: Command | None = None
        for command in self.commands:
            on_device = command.placement is Placement.ACCELERATOR
            continues = previous is not None and previous.placement is Placement.ACCELERATOR
            if previous is None or not on_device or not continues or previous.device != command.device:
                runs.append([])
            runs[-1].append(command)
            previous = command
        return runs

    def segments(self) -> list[list[Command]]:
        """The runs of accelerator commands; each is submitted by one doorbell."""
        return [run for run in self.steps() if run[0].placement is Placement.ACCELERATOR]

    def describe(self, command: Command) -> str:
        """The IR operations that a command covers, for error messages."""
        first, count = command.origin
        covered = self.origins[first : first + count]
        text = "; ".join(o.text for o in covered) or command.opcode.name
        places = [o.source for o in covered if o.source]
        return f"{text} ({places[0]})" if places else text
