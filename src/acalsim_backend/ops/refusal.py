"""What PyTorch itself refuses to compute, and shapes and dtypes of results do not show.

Many of its operators check element types and numbers in their kernels alone, of which neither a trace nor the machine's
kernels know: ``float - bool``, ``int ** -1``, ``uint8.clamp(max=300)``, a product of two element types.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from acalsim_backend.ir import ACALSimIR, ACALSimOp
from acalsim_backend.ops.base import operator_of
from acalsim_backend.ops.evaluate import divides_by_zero, evaluate


@dataclass(frozen=True)
class _Question:
    """An operation on operands of one element; equal ones have equal answers."""

    op: ACALSimOp = field(compare=False)
    operands: tuple[tuple[str, tuple[int, ...]], ...]
    """Element type and shape of each input."""
    text: str
    """Everything else that the answer depends on."""


def refusal(op: ACALSimOp, ir: ACALSimIR) -> str | None:
    """PyTorch's error for operands of these element types and these numbers, or None where it has none.

    PyTorch is asked with operands of one element, which cost little, and once for all equal ones. It is believed if it
    takes their shapes, which a call without values shows.
    """
    handler = operator_of(op)
    if handler.is_view or handler.only_moves or not op.inputs or not op.target:
        return None
    attrs = {name: _all(handler.at_one_element[name], value) if name in handler.at_one_element else value
             for name, value in op.attrs.items()}  # fmt: skip
    descs = [ir.tensors[name] for name in op.inputs]
    operands = tuple((desc.dtype, tuple(min(d, 1) for d in desc.shape)) for desc in descs)
    names = [op.inputs.index(name) for name in op.inputs]  # one tensor may play two roles
    return _answer(_Question(replace(op, attrs=attrs), operands, repr((op.target, op.roles, names, attrs))))


@functools.lru_cache(maxsize=4096)
def _answer(question: _Question) -> str | None:
    try:
        evaluate(question.op, _operands(question, "cpu"))
    except Exception as error:  # noqa: BLE001  # whatever PyTorch says
        if not divides_by_zero(error) and _takes_shapes(question):
            return f"PyTorch refuses it: {str(error).partition(chr(10))[0]}"
    return None


def _all(number: int, value: Any) -> Any:
    return (number,) * len(value) if isinstance(value, tuple) else number


def _takes_shapes(question: _Question) -> bool:
    try:
        evaluate(question.op, _operands(question, "meta"))
    except Exception:  # noqa: BLE001
        return False
    return True


def _operands(question: _Question, device: str) -> dict[str, torch.Tensor]:
    """Zeros, which are an index into any tensor."""
    return {
        name: torch.zeros(shape, dtype=getattr(torch, dtype), device=device)
        for name, (dtype, shape) in zip(question.op.inputs, question.operands, strict=True)
    }
