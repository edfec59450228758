"""Traps of the RISC-V core in words."""

from __future__ import annotations

FETCH_FAULT, BREAKPOINT, LOAD_FAULT, STORE_FAULT = 1, 3, 5, 7

_CAUSES = {
    0: "instruction address misaligned",
    FETCH_FAULT: "instruction access fault",
    2: "illegal instruction",
    BREAKPOINT: "breakpoint",
    4: "load address misaligned",
    LOAD_FAULT: "load access fault",
    6: "store address misaligned",
    STORE_FAULT: "store access fault",
    11: "environment call",
}


def describe_trap(cause: int, pc: int, address: int, place: object) -> str:
    """What an error says of a trap with these mcause, mepc and mtval that happened at ``place``."""
    name = _CAUSES.get(cause, f"trap {cause}")
    at = f", address {address:#x}" if cause in (FETCH_FAULT, LOAD_FAULT, STORE_FAULT) else ""
    return f"guest CPU: {name} in {place}, pc {pc:#x}{at}"
