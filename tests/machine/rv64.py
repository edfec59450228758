"""Encodes the few RV64 instructions that the tests of the core are written in."""

from __future__ import annotations

NOP = 0x0000_0013
ECALL = 0x0000_0073
EBREAK = 0x0010_0073
MRET = 0x3020_0073
WFI = 0x1050_0073
C_NOP = 0x0001
C_UNIMP = 0x0000
LOOP_FOREVER = 0x0000_006F  # j .
MTVEC, MEPC, MCAUSE, MTVAL = 0x305, 0x341, 0x342, 0x343


def lui(rd: int, imm: int) -> int:
    return imm << 12 | rd << 7 | 0x37


def addi(rd: int, rs: int, imm: int) -> int:
    return (imm & 0xFFF) << 20 | rs << 15 | rd << 7 | 0x13


def auipc(rd: int, imm: int = 0) -> int:
    return imm << 12 | rd << 7 | 0x17


def load(rd: int, rs: int, imm: int, size: int) -> int:
    return (imm & 0xFFF) << 20 | rs << 15 | {1: 0, 4: 2, 8: 3}[size] << 12 | rd << 7 | 0x03


def store(value: int, base: int, imm: int, size: int) -> int:
    low, high = imm & 31, imm >> 5 & 0x7F
    return high << 25 | value << 20 | base << 15 | {1: 0, 4: 2, 8: 3}[size] << 12 | low << 7 | 0x23


def bne(a: int, b: int, offset: int) -> int:
    o = offset & 0x1FFF
    return (
        (o >> 12) << 31
        | (o >> 5 & 63) << 25
        | b << 20
        | a << 15
        | 1 << 12
        | (o >> 1 & 15) << 8
        | (o >> 11 & 1) << 7
        | 0x63
    )


def jalr(rd: int, rs: int, imm: int = 0) -> int:
    return (imm & 0xFFF) << 20 | rs << 15 | rd << 7 | 0x67


def csrw(csr: int, rs: int) -> int:
    return csr << 20 | rs << 15 | 1 << 12 | 0x73


def csrr(rd: int, csr: int) -> int:
    return csr << 20 | 2 << 12 | rd << 7 | 0x73


def assemble(code: list[int]) -> bytes:
    """Machine code; words whose two lowest bits are not 11 are compressed instructions."""
    return b"".join(word.to_bytes(4 if word & 3 == 3 else 2, "little") for word in code)
