"""PyTorch's tensors as memory: their bytes, and tensors laid over memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from acalsim_backend.errors import InputError, one_line
from acalsim_backend.program.enums import DType
from acalsim_backend.program.view import contiguous_strides

Bytes = npt.NDArray[np.uint8]

TORCH_DTYPES: dict[DType, torch.dtype] = {dtype: getattr(torch, dtype.long_name) for dtype in DType}
"""PyTorch's element types by the ABI's."""


def raw_bytes(tensor: torch.Tensor) -> Bytes:
    """The tensor's elements, dense row-major, as bytes; shares memory when the tensor is dense on the CPU."""
    if tensor.numel() == 0:
        return np.empty(0, np.uint8)
    dense = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    memory: Any = (ctypes.c_uint8 * dense.nbytes).from_address(dense.data_ptr())
    memory.owner = dense  # ``Tensor.numpy`` would forbid to resize the caller's storage
    return np.frombuffer(memory, np.uint8)


def tensor_of(value: Any, what: str) -> torch.Tensor:
    """A tensor of a tensor, a NumPy array of any strides and byte order, or numbers in lists; ``what`` names it.

    Raises:
        InputError: anything else.
    """
    try:
        if isinstance(value, (np.ndarray, np.generic)):
            array = np.asarray(value)
            # torch takes neither negative strides, nor foreign byte orders, nor what must not be written
            return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = f"{type(value).__name__} of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError(
            f"{what} is a {kind}, expected a tensor, a NumPy array or numbers: {one_line(error)}"
        ) from None


def laid_over(
    memory: torch.Tensor,
    dtype: torch.dtype,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int | torch.SymInt = 0,
) -> torch.Tensor:
    """A tensor in the memory of another one, and no view of it: autograd forbids writes to views that a function gives.

    ``strides`` (elements) are those of dense memory by default; ``offset`` counts elements of ``dtype``.
    """
    dims = tuple(shape)
    steps = tuple(strides) if strides is not None else contiguous_strides(dims)
    return torch.empty(0, dtype=dtype).set_(memory.untyped_storage(), offset, dims, steps)


def copied(value: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """A copy in memory with ``strides`` (elements), at the start of its storage.

    Elements that share memory by a stride of 0 must be equal, as they are in every view.
    """
    memory = torch.empty_strided(value.shape, tuple(strides), dtype=value.dtype)
    once = tuple(slice(0, 1 if step == 0 else None) for step in strides)
    memory[once].copy_(value[once])
    return memory


def with_strides(value: torch.Tensor, strides: tuple[int, ...] | None) -> torch.Tensor:
    """``value`` in memory with ``strides`` (elements, None: dense row-major), at the start of its storage."""
    if strides is None:
        return value.contiguous()
    if value.stride() == strides and value.storage_offset() == 0:
        return value
    return copied(value, strides)


def tutorial_data(shape: Sequence[int], dtype: DType) -> torch.Tensor:
    """The tutorial's test data: 0, 0.1 to 0.9 again and again, in integers 0 to 9, as truths false at every tenth."""
    digits = torch.arange(math.prod(shape), dtype=torch.float64) % 10
    return (digits / 10 if dtype.is_float else digits).to(TORCH_DTYPES[dtype]).reshape(tuple(shape))
