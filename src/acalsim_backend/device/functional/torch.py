"""Commands as PyTorch operations on zero-copy views of guest RAM."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

from acalsim_backend.device.functional import elementwise, indexed, products, rows, scans, sorts, windows  # noqa: F401  # the rules
from acalsim_backend.device.functional.operands import RULES, Operands, nothing
from acalsim_backend.device.functional.task import Task
from acalsim_backend.device.memory import Extent, Memory
from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import DType
from acalsim_backend.tensors import TORCH_DTYPES


class TorchFunctional:
    """See :class:`acalsim_backend.device.functional.task.Functional`."""

    name = "torch"
    takes_regions: ClassVar[bool] = True

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._ram = self._elements(memory)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """No autograd, and none of the dispatch modes that a compiler above may have entered."""
        with torch.no_grad(), _disable_current_modes():
            yield

    def prepare(self, command: Command, data: bytes) -> Task:
        """The task of a validated command."""
        del data
        if all(view.numel == 0 for view in command.writes()):
            return nothing
        with self.scope():
            operands = Operands(self._piece)
            return operands.wrap(RULES[command.opcode](command, operands))

    def _piece(self, low: int, high: int) -> tuple[int, dict[DType, torch.Tensor]]:
        piece = self._memory.piece(low, high)
        if piece is None or piece is self._memory:
            return self._memory.base, self._ram
        return piece.base, self._elements(piece)

    def _elements(self, piece: Extent) -> dict[DType, torch.Tensor]:
        with self.scope():
            memory = torch.from_numpy(piece.array)
            return {dtype: memory.view(t) for dtype, t in TORCH_DTYPES.items()}
