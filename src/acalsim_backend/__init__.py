"""Run PyTorch models on a simulated RISC-V + accelerator machine: real outputs, reproducible cycles.

The public names are imported on first use (PEP 562), so that importing the package loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's, without the time that importing it takes
if TYPE_CHECKING:
    from typing import Any

    from acalsim_backend.api import simulate
    from acalsim_backend.backend import ACALSimBackend, acalsim_backend, last_report, make_acalsim_backend
    from acalsim_backend.codegen.riscv_codegen import RISCVCodeGenerator
    from acalsim_backend.compiler import ACALSimCompiler
    from acalsim_backend.errors import AcalsimError
    from acalsim_backend.hardware import HardwareConfig
    from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
    from acalsim_backend.machine.qemu import QemuConfig
    from acalsim_backend.report.model import RunReport

_HOME = {
    "ACALSimBackend": "backend",
    "ACALSimCompiler": "compiler",
    "ACALSimIR": "ir",
    "ACALSimOp": "ir",
    "ACALSimOpType": "ir",
    "AcalsimError": "errors",
    "HardwareConfig": "hardware",
    "QemuConfig": "machine.qemu",
    "RISCVCodeGenerator": "codegen.riscv_codegen",
    "RunReport": "report.model",
    "TensorDesc": "ir",
    "acalsim_backend": "backend",
    "last_report": "backend",
    "make_acalsim_backend": "backend",
    "simulate": "api",
}

__all__ = [
    "ACALSimBackend",
    "ACALSimCompiler",
    "ACALSimIR",
    "ACALSimOp",
    "ACALSimOpType",
    "AcalsimError",
    "HardwareConfig",
    "QemuConfig",
    "RISCVCodeGenerator",
    "RunReport",
    "TensorDesc",
    "acalsim_backend",
    "last_report",
    "make_acalsim_backend",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("acalsim_backend")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
