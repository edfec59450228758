"""Commands run by the firmware's kernels on the host, where PyTorch is absent or must not be trusted."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from acalsim_backend.device.functional.task import Task
from acalsim_backend.device.kernels import Kernels
from acalsim_backend.device.memory import Memory
from acalsim_backend.device.validate import CommandError
from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import Status


class NativeFunctional:
    """See :class:`acalsim_backend.device.functional.task.Functional`."""

    name = "native"
    takes_regions: ClassVar[bool] = False

    def __init__(self, memory: Memory) -> None:
        self._kernels = Kernels(memory)

    def scope(self) -> contextlib.AbstractContextManager[object]:
        """Nothing to set up."""
        return contextlib.nullcontext()

    def prepare(self, command: Command, data: bytes) -> Task:
        """The task of a validated command."""

        def run() -> None:
            code, address = self._kernels.execute(data)
            if code != Status.OK:
                status = Status(code)
                raise CommandError(status, f"{command.opcode.name}: the kernel says {status.name}", address)

        return run
