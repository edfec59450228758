"""HOST commands: PyTorch operators on guest memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from acalsim_backend.errors import InputError
from acalsim_backend.program.view import View
from acalsim_backend.tensors import TORCH_DTYPES, copied

if TYPE_CHECKING:
    from acalsim_backend.device.memory import Memory


def guest_tensor(ram: Memory, view: View) -> torch.Tensor:
    """A zero-copy tensor over guest RAM; ``view.offset`` is an absolute address."""
    low, high = view.extent
    if low == high:
        return torch.empty_strided(view.dims, view.strides, dtype=TORCH_DTYPES[view.dtype])
    base = torch.from_numpy(ram.view(low, high - low)).view(TORCH_DTYPES[view.dtype])
    return base.as_strided(view.dims, view.strides, (view.offset - low) // view.dtype.itemsize)


def _laid_out(memory: torch.Tensor, layout: tuple[Sequence[int], Sequence[int]] | None) -> torch.Tensor:
    return memory if layout is None else memory.as_strided(*layout)


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
    may_keep: bool = False
    """Whether it might hold on to its inputs, so that it gets copies of them."""
    layouts: Sequence[tuple[Sequence[int], Sequence[int]] | None] = ()
    """Dims and strides of the inputs and outputs of which the command has the memory alone."""
    calls: int = 0
    seconds: float = 0.0

    def __call__(self, inputs: Sequence[View], outputs: Sequence[View], ram: Memory) -> None:
        start = time.perf_counter()
        layouts = self.layouts or [None] * (len(inputs) + len(outputs))
        given, taken = (
            [_laid_out(guest_tensor(ram, view), layout) for view, layout in zip(views, parts, strict=True)]
            for views, parts in ((inputs, layouts[: len(inputs)]), (outputs, layouts[len(inputs) :]))
        )
        results = self.operation([copied(tensor, tensor.stride()) for tensor in given] if self.may_keep else given)
        for value, place in zip(results, taken, strict=True):
            is_other = value.dtype != place.dtype and self.may_keep
            if value.is_quantized:
                raise InputError(
                    f"{self.target} returned a quantized tensor ({value.dtype}), which has no place in guest memory; "
                    "keep it out of the compiled function with torch.compiler.disable, up to where it is dequantized"
                )
            if value.shape != place.shape or is_other:
                raise InputError(
                    f"{self.target} returned {tuple(value.shape)} {value.dtype}, its fake says {tuple(place.shape)} "
                    f"{place.dtype}; correct the fake, or keep the operator out with torch.compiler.disable"
                )
            place.copy_(value)
        self.calls += 1
        self.seconds += time.perf_counter() - start
