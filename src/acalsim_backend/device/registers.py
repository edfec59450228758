"""The register map of the devices; the C header ``acal_registers.h`` is generated from it."""

from __future__ import annotations

import enum


class Register(enum.IntEnum):
    """Offsets from a device's base. The first six stand in every device, the others in Compute devices."""

    DATA_IN = 0x00
    DATA_OUT = 0x04
    STATUS = 0x08
    CONTROL = 0x0C
    SIZE = 0x10
    RESULT = 0x14
    ID = 0x20
    VERSION = 0x24
    QBASE = 0x28
    QSIZE = 0x30
    HEAD = 0x34
    TAIL = 0x38
    CPU_TIME = 0x40
    NOW = 0x48
    WAIT = 0x50
    ERR_CODE = 0x58
    ERR_COMMAND = 0x5C
    ERR_ADDR = 0x60
    IRQ_STATUS = 0x68
    IRQ_ENABLE = 0x6C
    HOSTCALL = 0x70
    COMMANDS_DONE = 0x80
    BYTES_READ = 0x88
    BYTES_WRITTEN = 0x90
    BUSY_CYCLES = 0x98


WIDE = frozenset(
    {
        Register.QBASE,
        Register.CPU_TIME,
        Register.NOW,
        Register.WAIT,
        Register.ERR_ADDR,
        Register.COMMANDS_DONE,
        Register.BYTES_READ,
        Register.BYTES_WRITTEN,
        Register.BUSY_CYCLES,
    }
)
"""Registers of 64 bits; each may also be accessed as two 32-bit halves."""


class StatusBit(enum.IntFlag):
    """Bits of STATUS."""

    BUSY = 1
    DATA_READY = 2
    ERROR = 4


class ControlBit(enum.IntFlag):
    """Bits of CONTROL. RESET drops the queue and clears the error; it reads back as 0."""

    RESET = 1


class IrqBit(enum.IntFlag):
    """Bits of IRQ_STATUS and IRQ_ENABLE. Writing 1 to DONE clears it; ERROR lasts until the reset."""

    DONE = 1
    ERROR = 2


DEVICE_ID = 0x4C414341  # "ACAL"
RAM_BASE = 0x8000_0000
RESERVED_BYTES = 64 << 20  # text, data and stack of the firmware; arena and weights lie above
UART_BASE = 0x1000_0000
POWER_OFF = 0x10_0000
POWER_OFF_PASS = 0x5555
POWER_OFF_FAIL = 0x3333  # code << 16 | POWER_OFF_FAIL
DEVICE_BASE = 0x1020_0000  # device i is at DEVICE_BASE + i * DEVICE_STRIDE: 0 Echo, 1 Compute, 2 and up more
DEVICE_STRIDE = 0x10_0000
DEVICE_SIZE = 0x1000
PCI_ECAM_BASE = 0x3000_0000  # configuration space of bus 0 on QEMU's virt board
PCI_BAR_BASE = 0x4000_0000  # where the firmware places BAR0; its page i is device i
PCI_ID = 0xACA1_1D1D  # device << 16 | vendor, as the first word of configuration space
