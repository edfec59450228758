"""A session: one machine, its RAM and heap, and the Programs that were loaded into it."""

from __future__ import annotations

import gc
import os
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.device.device import Device, EchoDevice
from acalsim_backend.device.functional import create_functional
from acalsim_backend.device.memory import Region
from acalsim_backend.device.validate import read_command
from acalsim_backend.errors import CapacityError, InputError, MachineError, UsageError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.locks import Rank, make_lock
from acalsim_backend.machine.base import Platform, RegionMachine, find_machine
from acalsim_backend.machine.memory import Bytes, Ram
from acalsim_backend.program.commands import Host, decode
from acalsim_backend.program.enums import Status
from acalsim_backend.program.image import ImageHeader, build_image
from acalsim_backend.program.program import Program, Tensor, TensorKind
from acalsim_backend.run.budget import instruction_budget
from acalsim_backend.run.heap import Block, Heap
from acalsim_backend.run.result import RunResult, accelerators, command_error, read_result
from acalsim_backend.run.timeline import Timelines, untimed

if TYPE_CHECKING:
    from acalsim_backend.run.memory_trace import MemoryTrace

SIGNALLING_NAN = 0x7FA0_7FA0
"""f32 bits of what memory holds before it is written: NaN as f32, as bf16 and as f16, too, and 5.8e306 as f64."""

_T = TypeVar("_T")

_BUFFERED = frozenset({TensorKind.CONSTANT, TensorKind.INPUT, TensorKind.OUTPUT})
_COPIED_OUT = frozenset({TensorKind.OUTPUT, TensorKind.ARENA})


class Reclaimable(Protocol):
    """Something that keeps blocks of a session and can do without some of them."""

    def reclaim(self) -> None:
        """Let go of blocks that nobody needs any more; called with the session's lock held."""
        ...


@dataclass
class LoadedProgram:
    """A Program in guest memory: its image, constants and buffers. Made by :meth:`Session.load`.

    It is there for as long as somebody holds it.
    """

    program: Program
    image: Block
    header: ImageHeader
    command_offsets: tuple[int, ...]
    buffers: dict[int, Block]  # CONSTANT, INPUT and OUTPUT tensors
    watchdog: int
    timelines: Timelines = field(default_factory=Timelines, repr=False)
    bindings: npt.NDArray[np.uint64] = field(init=False, repr=False)
    records: npt.NDArray[np.uint64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.bindings = self._table(self.header.bindings, len(self.program.tensors))
        self.records = self._table(self.header.records, 2 * len(self.command_offsets)).reshape(-1, 2)

    def _table(self, offset: int, length: int) -> npt.NDArray[np.uint64]:
        return self.image.array[offset : offset + 8 * length].view(np.uint64)

    def read_header(self) -> ImageHeader:
        """The header as the guest left it."""
        return ImageHeader.decode_from(self.image.array[: ImageHeader.sizeof()].tobytes())


@dataclass(frozen=True, eq=False)
class Window:
    """Pages of this process that the guest sees, for as long as somebody holds this."""

    region: Region


class _Running:
    """The Program that is running, and the HOST commands that it calls; refers to no session, so that none is kept."""

    def __init__(self, ram: Ram) -> None:
        self._ram = ram
        self._loaded: LoadedProgram | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a Program runs."""
        return self._loaded is not None

    def begin(self, loaded: LoadedProgram) -> None:
        self._loaded, self._error = loaded, None

    def end(self) -> None:
        """Forget the Program; what a HOST command raised comes out here."""
        error, self._loaded, self._error = self._error, None, None
        if error is not None:
            raise error

    def host_call(self, index: int) -> None:
        """Run a HOST command on guest memory."""
        loaded = self._loaded
        try:
            if loaded is None:
                raise MachineError(f"host call {index} outside a run")
            command = decode(read_command(self._ram, loaded.image.address + loaded.command_offsets[index]))
            if not isinstance(command, Host):
                raise MachineError(f"host call {index} is a {command.opcode.name}: the image was overwritten")
            call: Any = loaded.program.host_calls[command.call]
            call(list(command.inputs), list(command.outputs), self._ram)
        except BaseException as error:
            self._error = error
            raise


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def open_sessions() -> list[Session]:
    """The sessions of this process that somebody still holds and nobody has closed."""
    return [session for session in _sessions if not session._closed]


class Session:
    """One machine that runs Programs on one RAM; a context manager that ends it.

    Any thread may use it: one at a time is inside, under ``lock``. ``functional`` names the functional model of the
    accelerator (default: torch where installed). ``watchdog`` is the number of instructions a run may retire (default:
    a generous bound from the Program's own work). ``settings`` are the machine's own, such as a QemuConfig.
    ``trace_memory`` is a file for the accelerator's accesses to memory.

    Raises:
        UnknownNameError: no such machine or functional model.
        MissingToolError: something that the machine needs is not installed or built.
    """

    def __init__(
        self,
        hardware: HardwareConfig,
        machine: str = "unicorn",
        functional: str | None = None,
        watchdog: int | None = None,
        settings: object | None = None,
        trace_memory: str | Path | None = None,
    ) -> None:
        self.hardware = hardware
        self.machine = machine
        machine_class = find_machine(machine)
        self.lock = make_lock(Rank.SESSION)
        self.ram = machine_class.ram_class(hardware.dram.size_mib)
        self._is_shared = self.ram.shared
        self._heap = Heap(self.ram)
        self._watchdog = watchdog
        self._timed = machine_class.timed
        if trace_memory is not None and not self._timed:
            raise UsageError(
                f"machine {machine} has no accelerator whose accesses could be traced; use machine unicorn"
            )
        self._memory_trace = _open_trace(trace_memory) if trace_memory is not None else None
        self._devices: tuple[Device, ...] = (
            make_devices(self.ram, hardware, functional, trace_memory is not None) if self._timed else ()
        )
        running = _Running(self.ram)
        self._running = running
        self._machine = machine_class(Platform(self.ram, hardware, self._devices, running.host_call, settings))
        for device in accelerators(self._devices):
            device.host_call = running.host_call
        may_map = all(device.takes_regions for device in accelerators(self._devices))
        self._mapper = self._machine if may_map and isinstance(self._machine, RegionMachine) else None
        self._programs: weakref.WeakValueDictionary[int, LoadedProgram] = weakref.WeakValueDictionary()
        self._caches: weakref.WeakSet[Reclaimable] = weakref.WeakSet()
        self._arena: Block | None = None
        self._dropped: deque[Region] = deque()
        """Regions whose windows were garbage collected, at whatever moment that happened."""
        self._closed = False
        self._process = os.getpid()
        _sessions.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def register(self, cache: Reclaimable) -> None:
        """Ask ``cache`` to give blocks back when guest RAM is full."""
        with self.lock:
            self._caches.add(cache)

    def reclaim(self) -> None:
        """Give back everything in guest RAM that nobody needs any more."""
        with self.lock:
            gc.collect()  # models and what PyTorch compiled for them refer to each other
            for cache in list(self._caches):
                cache.reclaim()
            self._close_windows()
            self._heap.collect()

    def allocate(self, nbytes: int, purpose: str = "a block") -> Block:
        """A block of guest RAM for what stays between runs; it is given back when nobody holds it any more.

        Raises:
            CapacityError: guest RAM is full.
        """
        with self.lock:
            self._check_usable()
            return self._within_capacity(lambda: self._heap.allocate(nbytes, purpose))

    def _within_capacity(self, take: Callable[[], _T]) -> _T:
        """What ``take`` gives, and if guest RAM is full, once more after all was given back that nobody needs."""
        try:
            return take()
        except CapacityError:
            self.reclaim()
            return take()

    @property
    def takes_regions(self) -> bool:
        """Whether memory of this process can be shown to the guest instead of being copied."""
        return self._mapper is not None

    def show(self, host_address: int, nbytes: int) -> Window:
        """Show whole pages of this process to the guest, for reading, as long as somebody holds the result.

        Before each run and each call of this, what nobody holds is taken away; until then the pages must stay.
        """
        with self.lock:
            self._check_usable()
            assert self._mapper is not None
            self._close_windows()
            self._within_capacity(lambda: self._heap.count(nbytes, "a weight"))
            window = Window(self.ram.attach(host_address, nbytes))
            self._mapper.attach(window.region)
            weakref.finalize(window, self._dropped.append, window.region).atexit = False
            return window

    def _close_windows(self) -> None:
        while self._dropped:
            region = self._dropped.popleft()
            if self._mapper is not None:
                self._mapper.detach(region)
            self.ram.detach(region)
            self._heap.count(-region.size)

    def free(self, block: Block) -> None:
        """Give a block back now."""
        with self.lock:
            if not self._closed:
                self._heap.free(block)

    def load(self, program: Program) -> LoadedProgram:
        """Put a Program's image, constants and buffers into guest RAM; while it is there, the same one again.

        Raises:
            CapacityError: it does not fit.
        """
        with self.lock:
            known = self._programs.get(id(program))
            if known is not None:
                return known
            image = build_image(program)
            block = self.allocate(len(image.data), f"the image of {program.name}")
            block.array[:] = np.frombuffer(image.data, np.uint8)
            buffers = {
                t.id: self.allocate(t.nbytes, f"{t.name} of {program.name}")
                for t in program.tensors
                if t.kind in _BUFFERED
            }
            self._grow_arena(program)
            for tensor in program.of_kind(TensorKind.CONSTANT):
                buffers[tensor.id].array[:] = np.frombuffer(tensor.data or b"", np.uint8)
            budget = self._watchdog if self._watchdog is not None else instruction_budget(program)
            loaded = LoadedProgram(program, block, image.header, image.command_offsets, buffers, budget)
            self._programs[id(program)] = loaded
            return loaded

    def unload(self, loaded: LoadedProgram) -> None:
        """Give a Program's memory back now; the arena stays."""
        with self.lock:
            if self._programs.pop(id(loaded.program), None) is loaded:
                for block in (loaded.image, *loaded.buffers.values()):
                    self._heap.free(block)

    def run(self, loaded: LoadedProgram, bindings: Mapping[int, Block | npt.NDArray[Any]]) -> RunResult:
        """Run a Program once.

        ``bindings`` gives every INPUT, WEIGHT and PREPARED tensor a resident block, or an INPUT its raw bytes. An
        OUTPUT that is bound to a block is written there and not copied out.

        Raises:
            InputError: a tensor without a binding, or one of the wrong size.
            DeviceError: a command was refused; names its IR operation and source line.
            GuestTrapError, WatchdogError, MachineError: the guest did not come to its end.
        """
        with self.lock:
            self._check_usable()
            if self._running.is_busy:
                raise UsageError(
                    f"{loaded.program.name} was called from inside another run on the same machine, by an operator on "
                    "the host; give the model that the operator calls a backend of its own"
                )
            return self._run(loaded, bindings)

    def _run(self, loaded: LoadedProgram, bindings: Mapping[int, Block | npt.NDArray[Any]]) -> RunResult:
        self._close_windows()
        self._bind(loaded, bindings)
        for device in self._devices:
            device.reset()
        loaded.records[:] = 0
        runs = loaded.read_header().runs
        self._running.begin(loaded)
        try:
            uart = self._machine.run(loaded.image.address, loaded.watchdog)
        except MachineError as error:
            self._running.end()
            raise type(error)(f"{error}{_running_command(loaded)}") from error.__cause__
        except BaseException:
            self._running.end()
            raise
        self._running.end()
        header = loaded.read_header()
        if header.runs != runs + 1:
            raise MachineError(f"the firmware did not come to the end of {loaded.program.name}; it wrote: {uart!r}")
        if header.status != Status.OK:
            raise command_error(loaded.program, self._devices, header)
        outputs = {
            number: self._output(loaded, loaded.program.tensors[number])
            for number in loaded.program.outputs
            if loaded.program.tensors[number].kind in _COPIED_OUT and not isinstance(bindings.get(number), Block)
        }
        if not self._timed:
            return RunResult(outputs, untimed(loaded.program.commands), None, None, None, None, False, uart)
        result = read_result(
            loaded.program, self.hardware, self._devices, header, loaded.records, outputs, uart, loaded.timelines
        )
        if self._memory_trace is not None:
            self._memory_trace.write(loaded.program, result.units)
            result = replace(result, units=tuple(replace(u, accesses=b"") for u in result.units))
        return result

    def close(self) -> None:
        """End the machine; it runs nothing after this. Closing twice is harmless."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            if self._memory_trace is not None:
                self._memory_trace.close()
            if not self._is_foreign():  # the process that we were forked from still uses it
                self._machine.close()
            # guest RAM goes with the last block that somebody holds
            self._mapper = None
            del self._machine, self._devices, self._running, self._heap, self.ram
            self._arena = None

    def _is_foreign(self) -> bool:
        """Whether this is a forked process, and the machine is shared with the one that started it."""
        return self._is_shared and self._process != os.getpid()

    def _check_usable(self) -> None:
        if self._closed:
            raise UsageError(f"this session of machine {self.machine} was closed; open another one")
        if self._is_foreign():
            raise UsageError(
                f"machine {self.machine} shares its memory with the process {self._process}, from which this one was "
                "forked; open a session here, start workers with the spawn method, or use machine unicorn"
            )

    # --- before a run ---

    def _grow_arena(self, program: Program) -> None:
        """One arena serves all Programs, for only one runs at a time."""
        if program.arena_size > (self._arena.nbytes if self._arena else 0):
            before, self._arena = self._arena, None
            if before is not None:
                self._heap.free(before)
            try:
                self._arena = self.allocate(program.arena_size, f"the arena of {program.name}")
            except CapacityError:
                if before is not None:
                    self._arena = self._heap.allocate(before.nbytes)
                raise

    def _bind(self, loaded: LoadedProgram, bindings: Mapping[int, Block | npt.NDArray[Any]]) -> None:
        """Write the binding table, copy the inputs in and make all scratch memory NaN."""
        if self._arena is not None:
            poison(self._arena.array[: loaded.program.arena_size])
        table = loaded.bindings
        for tensor in loaded.program.tensors:
            value = bindings.get(tensor.id)
            if isinstance(value, Block):
                _check_size(tensor, value.nbytes)
                table[tensor.id] = value.address
            elif tensor.kind is TensorKind.ARENA:
                table[tensor.id] = self._arena_address() + tensor.offset
            else:
                if tensor.id not in loaded.buffers:
                    raise InputError(f"{tensor.name} ({tensor.kind.value}) is not bound to a block of this session")
                buffer = loaded.buffers[tensor.id]
                table[tensor.id] = buffer.address
                if tensor.kind is TensorKind.OUTPUT:
                    poison(buffer.array)
                elif tensor.kind is TensorKind.INPUT:
                    _fill(tensor, buffer, value)

    def _arena_address(self) -> int:
        if self._arena is None:
            return 0  # an arena of size 0 holds empty tensors alone, which nothing reads
        return self._arena.address

    # --- after a run ---

    def _output(self, loaded: LoadedProgram, tensor: Tensor) -> Bytes:
        if tensor.kind is TensorKind.ARENA:
            return self.ram.view(self._arena_address() + tensor.offset, tensor.nbytes).copy()
        return loaded.buffers[tensor.id].array.copy()


def _open_trace(path: str | Path) -> MemoryTrace:
    from acalsim_backend.run.memory_trace import MemoryTrace  # needs the engine, as devices do

    return MemoryTrace(path)


def make_devices(
    ram: Ram, hardware: HardwareConfig, functional: str | None, trace_memory: bool = False
) -> tuple[Device, ...]:
    """Devices in the order of the memory map."""
    from acalsim_backend.device.timing import Timing  # needs the engine, which machines without timing do without

    model, timer = create_functional(functional, ram), Timing(hardware, trace_memory)
    accelerators = (ComputeDevice(ram, hardware, model, timer, i) for i in range(hardware.devices))
    return EchoDevice(hardware), *accelerators


def poison(memory: Bytes) -> None:
    """Fill memory with signalling NaNs."""
    words = len(memory) // 4 * 4
    memory[:words].view(np.uint32).fill(SIGNALLING_NAN)
    memory[words:] = 0xFF


def _fill(tensor: Tensor, buffer: Block, value: npt.NDArray[Any] | None) -> None:
    if value is None:
        raise InputError(f"input {tensor.name} has no value: bind {tensor.nbytes} bytes to tensor {tensor.id}")
    raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    _check_size(tensor, raw.nbytes)
    buffer.array[:] = raw[: tensor.nbytes]


def _check_size(tensor: Tensor, nbytes: int) -> None:
    if nbytes != tensor.nbytes:
        raise InputError(f"{tensor.name} is bound to {nbytes} bytes, expected {tensor.nbytes}")


def _running_command(loaded: LoadedProgram) -> str:
    """Which command the CPU had begun and not ended, for the message of a trap."""
    for command, (begin, end) in zip(loaded.program.commands, loaded.records.tolist(), strict=True):
        if begin and not end:
            return f"; it was running command {command.id}, {loaded.program.describe(command)}"
    return ""
