"""What generated C is printed from: a Program with the values of its weights and example inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from acalsim_backend.errors import InputError, UnsupportedError
from acalsim_backend.program.enums import Placement
from acalsim_backend.program.program import Program, Tensor, TensorKind
from acalsim_backend.program.view import View

STORED = frozenset({TensorKind.WEIGHT, TensorKind.PREPARED, TensorKind.CONSTANT})


@dataclass(frozen=True)
class Snapshot:
    """A Program at one moment.

    ``data`` holds the raw bytes of every WEIGHT, PREPARED and INPUT tensor by id, the inputs being examples.
    ``outputs`` are the views that the caller gets, dense, in order; ``labels`` say what each is.
    """

    name: str
    program: Program
    data: Mapping[int, bytes]
    outputs: tuple[View, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_host_commands(self.program)
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            raise InputError(f"{self.name!r} names functions and files of C: expected a C identifier")
        for tensor in self.program.tensors:
            if tensor.kind in (TensorKind.WEIGHT, TensorKind.PREPARED, TensorKind.INPUT):
                got = len(self.data.get(tensor.id, b""))
                if got != tensor.nbytes:
                    raise InputError(f"{self.name}: {tensor.name} has {got} bytes of data, expected {tensor.nbytes}")

    def bytes_of(self, tensor: Tensor) -> bytes:
        """The value of a stored tensor or of an example input."""
        return (tensor.data or b"") if tensor.kind is TensorKind.CONSTANT else self.data[tensor.id]

    @property
    def stored(self) -> list[Tensor]:
        """Tensors whose values are part of the generated program."""
        return [t for t in self.program.tensors if t.kind in STORED]

    @property
    def inputs(self) -> list[Tensor]:
        """Inputs in the caller's order."""
        return [self.program.tensors[i] for i in self.program.inputs]


def refuse_host_commands(program: Program) -> None:
    """Generated C runs where no PyTorch is.

    Raises:
        UnsupportedError: lists every HOST command with its source line.
    """
    host = [c for c in program.commands if c.placement is Placement.HOST]
    if host:
        raise UnsupportedError(
            f"{program.name}: {len(host)} operation(s) run in PyTorch on the host, which generated C cannot:\n"
            + "\n".join(f"  {program.describe(c)}" for c in host)
            + "\nrewrite them with supported operators, or simulate the image form"
        )
