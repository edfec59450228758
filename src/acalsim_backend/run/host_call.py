"""HOST commands: PyTorch operators on guest memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from acalsim_backend.device.torch_dtypes import TORCH_DTYPES
from acalsim_backend.program.view import View

if TYPE_CHECKING:
    from acalsim_backend.device.memory import Memory


def guest_tensor(ram: Memory, view: View) -> torch.Tensor:
    """A zero-copy tensor over guest RAM; ``view.offset`` is an absolute address."""
    low, high = view.extent
    if low == high:
        return torch.empty_strided(view.dims, view.strides, dtype=TORCH_DTYPES[view.dtype])
    base = torch.from_numpy(ram.view(low, high - low)).view(TORCH_DTYPES[view.dtype])
    return base.as_strided(view.dims, view.strides, (view.offset - low) // view.dtype.itemsize)


@dataclass(eq=False)
class HostCall:
    """One HOST command: runs ``operation`` on guest memory and keeps count of the time that takes.

    ``operation`` maps the command's inputs to its outputs. ``target`` is the ATen operator, ``module`` and ``source``
    say where in the model it stands.
    """

    operation: Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]
    target: str
    module: str = ""
    source: str = ""
    calls: int = 0
    seconds: float = 0.0

    def __call__(self, inputs: Sequence[View], outputs: Sequence[View], ram: Memory) -> None:
        start = time.perf_counter()
        results = self.operation([guest_tensor(ram, view) for view in inputs])
        for value, view in zip(results, outputs, strict=True):
            guest_tensor(ram, view).copy_(value)
        self.calls += 1
        self.seconds += time.perf_counter() - start
