"""Generates ``acal_abi.h``: every struct, enumeration and register of the ABI.

The build runs it as a module, so it needs the standard library alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from acalsim_backend.device import registers
from acalsim_backend.program import abi, commands, image

_HEADER = """typedef struct {
    uint16_t opcode, version;
    uint32_t size;        /* bytes of the whole command, a multiple of 64 */
    uint32_t id;
    uint16_t placement, device;
    uint32_t origin_first;
    uint16_t origin_count, n_deps;
    uint32_t dep_offset;  /* from the start of the command to its u32 dependency ids */
    uint32_t reserved;
} acal_command_t;
_Static_assert(sizeof(acal_command_t) == 32, "command header");
"""


def generate() -> Iterator[str]:
    """Lines of the header."""
    yield "/* Generated from acalsim_backend.program and acalsim_backend.device.registers. Do not edit. */"
    yield "#ifndef ACAL_ABI_H\n#define ACAL_ABI_H\n\n#include <stddef.h>\n#include <stdint.h>\n"
    yield "#if defined(__cplusplus) && !defined(_Static_assert)\n#define _Static_assert static_assert\n#endif\n"
    for name in ("ABI_VERSION", "MAX_RANK", "IMAGE_MAGIC"):
        yield f"#define ACAL_{name} {getattr(abi, name):#x}u"
    for name in ("MAX_VECTOR_REGISTERS", "MAX_VECTOR_INSTRUCTIONS", "VECTOR_BLOCK"):
        yield f"#define ACAL_{name} {getattr(commands, name)}"
    for name in (
        "DEVICE_ID",
        "RAM_BASE",
        "RESERVED_BYTES",
        "UART_BASE",
        "POWER_OFF",
        "POWER_OFF_PASS",
        "POWER_OFF_FAIL",
        "DEVICE_BASE",
        "DEVICE_STRIDE",
        "DEVICE_SIZE",
        "PCI_ECAM_BASE",
        "PCI_BAR_BASE",
        "PCI_ID",
    ):
        yield f"#define ACAL_{name} {getattr(registers, name):#x}u"
    yield ""
    for enumeration in (
        abi.DType,
        abi.Opcode,
        abi.Placement,
        abi.Activation,
        abi.VectorOp,
        abi.ReduceOp,
        abi.PoolMode,
        abi.Status,
        abi.OperandFlag,
        registers.Register,
        registers.StatusBit,
        registers.ControlBit,
        registers.IrqBit,
    ):
        yield from abi.c_enum(enumeration)
    yield abi.OPERAND_DECLARATION
    yield _HEADER
    yield from abi.c_struct(commands.VectorInstruction)
    for cls in commands.COMMANDS.values():
        yield from abi.c_struct(cls, first="\n    acal_command_t header;")
    for struct in (image.ImageHeader, image.Relocation, image.Record, image.QueueEntry):
        yield from abi.c_struct(struct)
    yield "#endif"


if __name__ == "__main__":
    sys.stdout.write("\n".join(generate()) + "\n")
