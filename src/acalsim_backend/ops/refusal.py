"""What PyTorch itself refuses to compute, and shapes and dtypes of results do not show.

Many of its operators check element types and numbers in their kernels alone, of which neither a trace nor the machine's
kernels know: ``float - bool``, ``int ** -1``, ``uint8.clamp(max=300)``, a product of two element types.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from acalsim_backend.ir import ACALSimIR, ACALSimOp
from acalsim_backend.ops.base import operator_of
from acalsim_backend.ops.evaluate import evaluate


def refusal(op: ACALSimOp, ir: ACALSimIR) -> str | None:
    """PyTorch's error for operands of these element types and these numbers, or None where it has none.

    PyTorch is asked with operands of one element, which cost nothing. It is believed if it takes their shapes, which a
    call without values shows.
    """
    handler = operator_of(op)
    if handler.is_view or not op.inputs or not op.target:
        return None
    attrs = {name: _all(handler.at_one_element[name], value) if name in handler.at_one_element else value
             for name, value in op.attrs.items()}  # fmt: skip
    small = replace(op, attrs=attrs)
    try:
        evaluate(small, _operands(op, ir, "cpu"))
    except Exception as error:  # noqa: BLE001  # whatever PyTorch says
        if _takes_shapes(small, ir):
            return f"PyTorch refuses it: {str(error).partition(chr(10))[0]}"
    return None


def _all(number: int, value: Any) -> Any:
    return (number,) * len(value) if isinstance(value, tuple) else number


def _takes_shapes(op: ACALSimOp, ir: ACALSimIR) -> bool:
    try:
        evaluate(op, _operands(op, ir, "meta"))
    except Exception:  # noqa: BLE001
        return False
    return True


def _operands(op: ACALSimOp, ir: ACALSimIR, device: str) -> dict[str, torch.Tensor]:
    """Zeros, which are an index into any tensor."""
    descs = {name: ir.tensors[name] for name in op.inputs}
    return {
        name: torch.zeros([min(d, 1) for d in desc.shape], dtype=getattr(torch, desc.dtype), device=device)
        for name, desc in descs.items()
    }
