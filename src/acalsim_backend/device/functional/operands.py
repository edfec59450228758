"""Tensors on guest RAM for the operands of commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from acalsim_backend.device.functional.task import Task
from acalsim_backend.device.vector_plan import distinct_dims
from acalsim_backend.program.enums import DType, Opcode
from acalsim_backend.program.view import View

Rule = Callable[[Any, "Operands"], Task]
RULES: dict[Opcode, Rule] = {}
"""What makes the task of a command, by opcode; filled by :func:`computes`."""


def computes(opcode: Opcode) -> Callable[[Rule], Rule]:
    """Registers a function as the functional rule of a command."""

    def register(rule: Rule) -> Rule:
        RULES[opcode] = rule
        return rule

    return register


def nothing() -> None:
    """The task of a command that writes nothing."""


class Operands:
    """Tensors on guest memory for the views of one command.

    ``pieces`` gives the address of the piece of memory that a range lies in, and its elements as each dtype.
    PyTorch has no negative strides: such operands go through a copy before or after the task, which ``wrap`` adds.
    """

    def __init__(self, pieces: Callable[[int, int], tuple[int, dict[DType, Tensor]]]) -> None:
        self._pieces = pieces
        self._before: list[Task] = []
        self._after: list[Task] = []

    def read(self, view: View) -> Tensor:
        """The operand as it is when the task runs."""
        tensor, flipped = self._ascending(view, view.dims)
        if not flipped:
            return tensor
        copy = torch.empty(view.dims, dtype=tensor.dtype)
        self._before.append(lambda: copy.copy_(tensor.flip(flipped)))
        return copy

    def read_distinct(self, view: View) -> Tensor:
        """The operand with broadcast axes of size 1, so that nothing is computed twice."""
        dims = distinct_dims(view)
        return self.read(View(view.tensor, view.dtype, dims, view.strides, view.offset))

    def write(self, view: View, keep: bool = False) -> Tensor:
        """A tensor that the task overwrites, with ``keep`` in parts."""
        tensor, flipped = self._ascending(view, view.dims)
        if not flipped:
            return tensor
        copy = torch.empty(view.dims, dtype=tensor.dtype)
        if keep:
            self._before.append(lambda: copy.copy_(tensor.flip(flipped)))
        self._after.append(lambda: tensor.copy_(copy.flip(flipped)))
        return copy

    def wrap(self, task: Task) -> Task:
        """The task with the copies around it."""
        return sequence([*self._before, task, *self._after])

    def _ascending(self, view: View, dims: Sequence[int]) -> tuple[Tensor, list[int]]:
        """The elements with every stride made positive, and the axes along which that turned them round."""
        flipped = [i for i, (d, s) in enumerate(zip(dims, view.strides, strict=True)) if s < 0 and d > 1]
        base, elements = self._pieces(*view.extent)
        first = (view.offset - base) // view.dtype.itemsize
        first += sum((dims[i] - 1) * view.strides[i] for i in flipped)
        strides = [abs(s) for s in view.strides]
        return torch.as_strided(elements[view.dtype], tuple(dims), strides, first), flipped


def sequence(tasks: Sequence[Task]) -> Task:
    """One task that runs ``tasks`` in order."""
    if len(tasks) == 1:
        return tasks[0]

    def run() -> None:
        for task in tasks:
            task()

    return run


def widest(*views: View) -> torch.dtype:
    """What operands of different data types are converted to, wide enough for exact products and long sums."""
    dtypes = {v.dtype for v in views}
    if views[0].dtype.is_float:
        return torch.float64 if DType.F64 in dtypes else torch.float32
    return torch.float64 if dtypes <= {DType.U8, DType.I8} else torch.int64
