"""What generated C is printed from: a Program with the values of its weights and example inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from acalsim_backend.errors import InputError, UnsupportedError
from acalsim_backend.program.enums import Placement
from acalsim_backend.program.program import Program, Tensor, TensorKind
from acalsim_backend.program.view import View

_HEADERS = frozenset(
    ("assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math", "setjmp",
     "signal", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib", "stdnoreturn",
     "string", "tgmath", "threads", "time", "uchar", "wchar", "wctype")
)  # fmt: skip
"""Of C; the one of a graph would be taken in for it."""
STORED = frozenset({TensorKind.WEIGHT, TensorKind.PREPARED, TensorKind.CONSTANT})


@dataclass(frozen=True)
class Snapshot:
    """A Program at one moment.

    ``data`` holds the raw bytes of every WEIGHT, PREPARED and INPUT tensor by id, the inputs being examples.
    ``outputs`` are the views that the caller gets, dense, in order; ``labels`` say what each is.

    Raises:
        UnsupportedError: commands for the host.
        InputError: ``name`` is not one for files and functions of C, or data is missing.
    """

    name: str
    program: Program
    data: Mapping[int, bytes]
    outputs: tuple[View, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_host_commands(self.program)
        check_graph_name(self.name)
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


def check_graph_name(name: str) -> None:
    """A graph's name begins the names of functions and files of C.

    Raises:
        InputError: it is no identifier of ASCII letters, or C or the runtime has headers or functions of this name.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise InputError(f"{name!r} names functions and files of C: expected a C identifier of ASCII letters")
    lower = name.lower()
    if lower in _HEADERS or lower == "acal" or lower.startswith(("acal_", "__")):
        raise InputError(
            f"{name!r} names functions and files of C, where that name is a header's or the runtime's: "
            "expected none of C's headers, not acal, and nothing that begins with acal_ or __"
        )


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
