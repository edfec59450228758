"""The machine ``unicorn``: the firmware on an emulated RV64GC core, instruction counts exact, devices in this process.

Unicorn's core is under the GPL, version 2: this file alone imports it, and every other machine works without it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

try:
    from unicorn import (
        UC_ARCH_RISCV,
        UC_ERR_EXCEPTION,
        UC_ERR_FETCH_UNMAPPED,
        UC_ERR_INSN_INVALID,
        UC_ERR_READ_UNMAPPED,
        UC_ERR_WRITE_PROT,
        UC_ERR_WRITE_UNMAPPED,
        UC_HOOK_BLOCK,
        UC_HOOK_INTR,
        UC_HOOK_MEM_INVALID,
        UC_HOOK_TLB_FILL,
        UC_MODE_RISCV64,
        UC_PROT_EXEC,
        UC_PROT_READ,
        UC_PROT_WRITE,
        UC_TLB_VIRTUAL,
        Uc,
        UcError,
    )
    from unicorn.riscv_const import (
        UC_RISCV_REG_A0,
        UC_RISCV_REG_A1,
        UC_RISCV_REG_MCAUSE,
        UC_RISCV_REG_MEPC,
        UC_RISCV_REG_MSTATUS,
        UC_RISCV_REG_MTVAL,
        UC_RISCV_REG_MTVEC,
        UC_RISCV_REG_PC,
    )
    from unicorn.unicorn_const import UC_CTL_IO_WRITE, UC_CTL_TLB_FLUSH
    from unicorn.unicorn_py3.unicorn import uclib
except ImportError as error:
    from acalsim_backend.errors import MissingToolError

    raise MissingToolError(f"machine unicorn: {error}; pip install unicorn, or use machine native") from None

from acalsim_backend.device.memory import Region
from acalsim_backend.device.registers import (
    DEVICE_BASE,
    DEVICE_SIZE,
    DEVICE_STRIDE,
    POWER_OFF,
    UART_BASE,
)
from acalsim_backend.errors import GuestTrapError, MachineError, MissingToolError, UnsupportedError, WatchdogError
from acalsim_backend.machine.base import Platform
from acalsim_backend.machine.elf import Elf, Location
from acalsim_backend.machine.memory import Ram
from acalsim_backend.machine.traps import BREAKPOINT, FETCH_FAULT, LOAD_FAULT, STORE_FAULT, describe_trap

HOOKS = Path(__file__).parent / "libacal_unicorn.so"
SLICE = 1 << 24
"""Instructions after which Python gets its turn, to see Ctrl-C: some 50 ms."""

_UART_LINE_STATUS, _UART_IDLE = 5, 0x60
_ERROR_CAUSES = {
    UC_ERR_EXCEPTION: FETCH_FAULT,
    UC_ERR_FETCH_UNMAPPED: FETCH_FAULT,
    UC_ERR_INSN_INVALID: BREAKPOINT,
    UC_ERR_READ_UNMAPPED: LOAD_FAULT,
    UC_ERR_WRITE_UNMAPPED: STORE_FAULT,
    UC_ERR_WRITE_PROT: STORE_FAULT,
}
"""What Unicorn reports only by ending emulation. Of invalid instructions it so reports ebreak alone."""
_DATA = UC_PROT_READ | UC_PROT_WRITE
_MSTATUS_MIE, _MSTATUS_MPIE, _MSTATUS_MPP = 1 << 3, 1 << 7, 3 << 11

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]


class _Counters(ctypes.Structure):
    """``acal_core_t`` of unicorn_hooks.c up to its cache."""

    _fields_ = [
        ("retired", ctypes.c_uint64),
        ("stop_at", ctypes.c_uint64),
        ("block_address", ctypes.c_uint64),
        ("block_size", ctypes.c_uint64),
        ("ram_base", ctypes.c_uint64),
        ("ram_size", ctypes.c_uint64),
        ("ram", ctypes.c_void_p),
        ("text_begin", ctypes.c_uint64),
        ("text_end", ctypes.c_uint64),
        ("stop", ctypes.c_void_p),
    ]


def _load_hooks() -> Any:
    try:
        hooks = ctypes.CDLL(str(HOOKS))
    except OSError as error:
        raise MissingToolError(f"the emulator's callbacks are not built ({error}); run `make setup`") from None
    hooks.acal_core_size.restype = ctypes.c_uint64
    hooks.acal_retired_before.restype = ctypes.c_uint64
    hooks.acal_retired_before.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    return hooks


class TrapError(Exception):
    """A synchronous exception of the guest: mcause, mepc, mtval, and the instruction that led to it.

    ``origin`` is ``pc``, or the jump if it was a jump to where there is no code.
    """

    def __init__(self, cause: int, pc: int, address: int, origin: int) -> None:
        super().__init__(cause, pc, address)
        self.cause = cause
        self.pc = pc
        self.address = address
        self.origin = origin


class Core:
    """An RV64GC core on guest RAM whose code is ``[text_begin, text_end)``, whole pages.

    Counts retired instructions exactly, also at the position inside a block where a device is accessed, and turns
    exceptions and accesses that nothing answers into machine-mode traps, which Unicorn leaves out.
    """

    def __init__(self, ram: Ram, text_begin: int, text_end: int) -> None:
        self._hooks = _load_hooks()
        self._uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV64)
        self._uc.ctl_set_tlb_mode(UC_TLB_VIRTUAL)
        for begin, end, rights in (
            (ram.base, text_begin, _DATA),
            (text_begin, text_end, UC_PROT_READ | UC_PROT_EXEC),
            (text_end, ram.base + ram.size, _DATA),
        ):
            if end > begin:
                self._uc.mem_map_ptr(begin, end - begin, rights, ram.host_address + begin - ram.base)
        self._ram = ram  # keeps the mapping alive
        self._memory = ctypes.create_string_buffer(self._hooks.acal_core_size())
        self._counters = _Counters.from_buffer(self._memory)
        self._counters.ram_base, self._counters.ram_size = ram.base, ram.size
        self._counters.ram = ram.host_address
        self._counters.text_begin, self._counters.text_end = text_begin, text_end
        self._counters.stop = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value
        self._hook(UC_HOOK_BLOCK, self._hooks.acal_on_block)
        self._hook(UC_HOOK_TLB_FILL, self._hooks.acal_on_tlb_fill)
        self._uc.hook_add(UC_HOOK_INTR, self._on_exception)
        self._uc.hook_add(UC_HOOK_MEM_INVALID, self._on_invalid_access)
        self._bad_access = 0
        self._raised: BaseException | None = None
        self._stopped = False
        self._resumes = False  # emulation ended to enter a trap
        self.trap: TrapError | None = None

    def map_device(self, address: int, read: Read, write: Write) -> None:
        """Serve the page at ``address`` by ``read(offset, size)`` and ``write(offset, size, value)``.

        What they raise ends the run and comes out of ``run``.
        """

        def on_read(_: Uc, offset: int, size: int, __: object) -> int:
            value = self._guarded(read, offset, size)
            return 0 if value is None else value

        def on_write(_: Uc, offset: int, size: int, value: int, __: object) -> None:
            self._guarded(write, offset, size, value)

        self._uc.mmio_map(address, DEVICE_SIZE, on_read, None, on_write, None)

    def map_memory(self, address: int, size: int, host_address: int) -> None:
        """Show whole pages of this process at ``address``, for reading alone."""
        self._uc.mem_map_ptr(address, size, UC_PROT_READ, host_address)

    def unmap_memory(self, address: int, size: int) -> None:
        """Undo ``map_memory``."""
        self._uc.mem_unmap(address, size)

    def close(self) -> None:
        """Give the emulator back now: its callbacks and this object refer to each other."""
        del self._uc

    @property
    def pc(self) -> int:
        """Address of the current instruction."""
        return int(self._uc.reg_read(UC_RISCV_REG_PC))

    def retired(self) -> int:
        """Instructions retired since ``run`` began, before the current one."""
        return int(self._hooks.acal_retired_before(ctypes.addressof(self._memory), self.pc))

    def stop(self) -> None:
        """Called by a device: end the run after this instruction."""
        self._stopped = True
        self._uc.emu_stop()

    def run(self, pc: int, watchdog: int) -> None:
        """Run from ``pc``, a0 and a1 being 0, until a device calls ``stop``. ``trap`` tells of a trap on the way.

        Raises:
            TrapError: a trap inside the trap handler, or one before a handler was installed.
            WatchdogError: ``watchdog`` instructions were retired before that.
            MachineError: the core waits for an interrupt, which never comes.
        """
        counters = self._counters
        counters.retired = 0
        self._raised, self._stopped, self.trap = None, False, None
        self._uc.reg_write(UC_RISCV_REG_A0, 0)
        self._uc.reg_write(UC_RISCV_REG_A1, 0)
        until = counters.text_begin + 1  # no instruction starts at an odd address
        while True:
            counters.stop_at = min(watchdog, counters.retired + SLICE)
            try:
                self._uc.emu_start(pc, until)
            except UcError as error:
                self._on_error(error)
            if self._raised is not None:
                raise self._raised
            if self._stopped:
                return
            pc = self.pc
            if counters.retired >= watchdog:
                raise WatchdogError(f"{counters.retired} instructions retired")
            if counters.retired < counters.stop_at and not self._resumes:
                raise MachineError("the guest waits for an interrupt, which nothing raises")
            self._resumes = False

    def _guarded(self, function: Callable[..., Any], *args: int) -> Any:
        """Call a device. The TLB is flushed so that the next access misses it: only then does Unicorn know its PC."""
        try:
            result = function(*args)
        except BaseException as error:  # noqa: BLE001  # must not cross the emulator's frames
            self._raised = self._raised or error
            self.stop()
            return None
        self._uc.ctl(UC_CTL_TLB_FLUSH, UC_CTL_IO_WRITE)
        return result

    def _hook(self, kind: int, function: Any) -> None:
        handle = ctypes.c_size_t()
        user = ctypes.c_void_p(ctypes.addressof(self._memory))
        first, last = ctypes.c_uint64(1), ctypes.c_uint64(0)  # everywhere
        status = uclib.uc_hook_add(self._uc._uch, ctypes.byref(handle), kind, function, user, first, last)
        if status:
            raise MachineError(f"unicorn refuses hook {kind}: {UcError(status)}")

    def _on_exception(self, _: Uc, number: int, __: object) -> None:
        """Exceptions that Unicorn reports: it gives the PC behind a four-byte instruction, whatever its length."""
        cause = 11 if number == 8 else number  # it takes every environment call for one from user mode
        self._enter_trap(cause, self.pc - 4, 0)

    def _on_invalid_access(self, _: Uc, access: int, address: int, *__: object) -> bool:
        """A load or store that nothing answers, or a store to code; it ends emulation with an error."""
        self._bad_access = address
        return False

    def _on_error(self, error: UcError) -> None:
        """Exceptions that end emulation, the PC being that of the instruction."""
        pc, cause, address = self.pc, _ERROR_CAUSES.get(error.errno), 0
        if cause is None:
            raise MachineError(f"unicorn: {error}")
        if cause == FETCH_FAULT:
            address = pc
        elif cause != BREAKPOINT:
            address = self._bad_access
        self._enter_trap(cause, pc, address)
        self._resumes = True

    def _enter_trap(self, cause: int, pc: int, address: int) -> None:
        """Trap entry as the privileged architecture defines it, in machine mode."""
        handler = self._uc.reg_read(UC_RISCV_REG_MTVEC) & ~3
        last = self._counters.block_address + max(self._counters.block_size, 2) - 2
        trap = TrapError(cause, pc, address, last if cause == FETCH_FAULT else pc)
        if self.trap is not None or not handler:
            self._raised = self.trap or trap
            self._uc.emu_stop()
            return
        self.trap = trap
        self._counters.retired = self._hooks.acal_retired_before(ctypes.addressof(self._memory), pc)
        status = self._uc.reg_read(UC_RISCV_REG_MSTATUS)
        enabled = bool(status & _MSTATUS_MIE)
        status = status & ~(_MSTATUS_MIE | _MSTATUS_MPIE) | _MSTATUS_MPP | (_MSTATUS_MPIE if enabled else 0)
        self._uc.reg_write(UC_RISCV_REG_MSTATUS, status)
        self._uc.reg_write(UC_RISCV_REG_MEPC, pc)
        self._uc.reg_write(UC_RISCV_REG_MCAUSE, cause)
        self._uc.reg_write(UC_RISCV_REG_MTVAL, address)
        self._uc.reg_write(UC_RISCV_REG_PC, handler)


class UnicornMachine:
    """See :class:`acalsim_backend.machine.base.Machine`."""

    timed: ClassVar[bool] = True
    ram_class: ClassVar[type[Ram]] = Ram

    def __init__(self, platform: Platform) -> None:
        if platform.hardware.cpu.isa != "rv64gc":
            raise UnsupportedError(
                f"cpu.isa is {platform.hardware.cpu.isa}, but Unicorn's core has no vector instructions that can be "
                "relied on; use machine qemu, or cpu.isa = rv64gc"
            )
        self._ram = platform.ram
        self._elf = Elf(platform.firmware)
        text_begin = min(s.address for s in self._elf.segments)
        text_end = self._elf.symbols["__text_end"]
        self._load(self._elf.segments)
        self._ram.protect(text_begin, text_end)
        self._core = Core(platform.ram, text_begin, text_end)
        self._core.map_device(UART_BASE, self._read_uart, self._write_uart)
        self._core.map_device(POWER_OFF, lambda _offset, _size: 0, self._power_off)
        for i, device in enumerate(platform.devices):
            device.cpu_clock = self._core.retired
            self._core.map_device(DEVICE_BASE + i * DEVICE_STRIDE, device.read, device.write)
        self._uart = bytearray()

    def run(self, image: int, watchdog: int) -> str:
        """Reset the core and let the firmware run the image."""
        self._load([s for s in self._elf.segments if s.writable])
        if image:
            self._ram.view(self._elf.symbols["acal_boot"], 8).view(np.uint64)[0] = image
        self._uart.clear()
        try:
            self._core.run(self._elf.entry, watchdog)
        except TrapError as trap:
            raise self._trapped(trap) from None
        except WatchdogError as error:
            raise WatchdogError(
                f"endless loop? {error} without coming to an end, the watchdog allows {watchdog}; the guest was in "
                f"{self._place(self._core.pc)}; give the session a higher watchdog if this is really needed"
            ) from None
        except MachineError as error:
            raise MachineError(f"{error}; it was in {self._place(self._core.pc)}") from None
        if self._core.trap is not None:
            raise self._trapped(self._core.trap)
        return self._uart.decode(errors="replace")

    def attach(self, region: Region) -> None:
        """Map a region of the RAM's for reading."""
        self._core.map_memory(region.base, region.size, region.host_address)

    def detach(self, region: Region) -> None:
        """Unmap it."""
        self._core.unmap_memory(region.base, region.size)

    def close(self) -> None:
        """Give the emulator back."""
        self._core.close()
        del self._core

    def _load(self, segments: list[Any]) -> None:
        for segment in segments:
            memory = self._ram.view(segment.address, len(segment.data))
            memory[:] = np.frombuffer(segment.data, np.uint8)

    def _trapped(self, trap: TrapError) -> GuestTrapError:
        return GuestTrapError(describe_trap(trap.cause, trap.pc, trap.address, self._place(trap.origin)))

    def _place(self, pc: int) -> Location | str:
        return self._elf.locate(pc) or f"no function (pc {pc:#x})"

    def _read_uart(self, offset: int, size: int) -> int:
        return _UART_IDLE if offset == _UART_LINE_STATUS else 0

    def _write_uart(self, offset: int, size: int, value: int) -> None:
        if offset == 0:
            self._uart.append(value & 0xFF)

    def _power_off(self, offset: int, size: int, value: int) -> None:
        self._core.stop()  # pass or fail: the image's header says more
