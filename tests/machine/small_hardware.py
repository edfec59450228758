"""The hardware that the tests of machines run on: little RAM, quickly set up."""

from __future__ import annotations

from acalsim_backend.hardware import DramConfig, HardwareConfig

HARDWARE = HardwareConfig(dram=DramConfig(size_mib=128))
