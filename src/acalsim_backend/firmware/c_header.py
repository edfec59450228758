"""Generates ``acal_abi.h``: every struct, enumeration and register of the ABI.

The build runs it as a module, so it needs the standard library alone.
"""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Iterable, Iterator

from acalsim_backend.device import registers
from acalsim_backend.program import commands, enums, image
from acalsim_backend.program.layout import OPERAND_SIZE, Operand, Scalar, Struct

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
        yield f"#define ACAL_{name} {getattr(enums, name):#x}u"
    for name in ("MAX_VECTOR_REGISTERS", "MAX_VECTOR_INSTRUCTIONS", "VECTOR_BLOCK", "MAX_INDICES"):
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
        enums.DType,
        enums.Opcode,
        enums.Placement,
        enums.Activation,
        enums.VectorOp,
        enums.VectorClass,
        enums.ReduceOp,
        enums.ScatterOp,
        enums.ScanOp,
        enums.PoolMode,
        enums.Status,
        enums.OperandFlag,
        registers.Register,
        registers.StatusBit,
        registers.ControlBit,
        registers.IrqBit,
    ):
        yield from c_enum(enumeration)
    yield OPERAND_DECLARATION
    yield _HEADER
    yield from _table(
        "What processors execute, as X(NAME, name): struct acal_name_t, opcode ACAL_OPCODE_NAME.",
        "COMMANDS",
        (f"{o.name}, {o.name.lower()}" for o in commands.COMMANDS if o is not enums.Opcode.HOST),
    )
    yield from _table(
        "Vector operations, as X(NAME, registers that it reads, class of its cost, whether it compares).",
        "VECTOR_OPS",
        (f"{v.name}, {v.arity}, {v.cost.name}, {int(v.compares)}" for v in enums.VectorOp),
    )
    yield from c_struct(commands.VectorInstruction)
    for cls in commands.COMMANDS.values():
        yield from c_struct(cls, first="\n    acal_command_t header;")
    for struct in (image.ImageHeader, image.Relocation, image.Record, image.QueueEntry):
        yield from c_struct(struct)
    yield "#endif"


def _table(doc: str, name: str, rows: Iterable[str]) -> Iterator[str]:
    """An X-macro: the row of each item is given to what ``X`` stands for."""
    yield f"/* {doc} */"
    yield f"#define ACAL_{name}(X) " + " ".join(f"\\\n    X({row})" for row in rows)
    yield ""


def c_enum(enumeration: type[enum.IntEnum] | type[enum.IntFlag]) -> Iterator[str]:
    """The enumeration as C constants: ``ACAL_DTYPE_F32 = 8``."""
    prefix = f"ACAL_{enumeration.__name__.upper()}_"
    yield f"/* {(enumeration.__doc__ or '').splitlines()[0]} */"
    yield "enum {"
    yield from (f"    {prefix}{member.name} = {member.value}," for member in enumeration)
    yield "};\n"


OPERAND_DECLARATION = f"""typedef struct {{
    uint64_t addr;       /* guest physical address of the first element */
    uint8_t dtype;
    uint8_t rank;
    uint16_t flags;      /* 0: the operand is absent */
    int32_t zero_point;
    int64_t dims[{enums.MAX_RANK}];
    int64_t strides[{enums.MAX_RANK}]; /* in elements; 0 broadcasts */
}} acal_operand_t;
_Static_assert(sizeof(acal_operand_t) == {OPERAND_SIZE}, "operand layout");
"""


def c_struct(cls: type[Struct], first: str = "") -> Iterator[str]:
    """The struct as a C typedef whose size and offsets are asserted at compile time."""
    yield "/* " + inspect.cleandoc(cls.__doc__ or "").replace("\n", "\n * ") + " */"
    yield f"typedef struct {{{first}"
    for f in cls.layout():
        if isinstance(f.kind, Scalar):
            c_type = f.kind.c
        else:
            c_type = "acal_operand_t" if isinstance(f.kind, Operand) else f.kind.c_name
        yield f"    {c_type} {f.name}{f'[{f.length}]' if f.length else ''};"
    yield f"}} {cls.c_name};"
    yield f'_Static_assert(sizeof({cls.c_name}) == {cls.sizeof()}, "{cls.c_name}");'
    for f in cls.layout():
        yield f'_Static_assert(offsetof({cls.c_name}, {f.name}) == {f.offset}, "{cls.c_name}.{f.name}");'
    yield ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(generate()) + "\n")
