"""What tests with a QEMU share."""

from __future__ import annotations

import dataclasses

import pytest

from acalsim_backend.errors import MissingToolError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.machine.qemu_setup import INSTALL, Qemu, find_qemu

HARDWARE = dataclasses.replace(HardwareConfig(), dram=dataclasses.replace(HardwareConfig().dram, size_mib=128))


def require_qemu() -> Qemu:
    """The QEMU that will be used; skips where there is none."""
    try:
        return find_qemu()
    except MissingToolError:
        pytest.skip(f"no QEMU: run `{INSTALL}`")
