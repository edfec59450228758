"""The machine ``native``: the firmware's kernels as a host library, without a CPU, devices or time."""

from __future__ import annotations

from typing import ClassVar

from acalsim_backend.device.kernels import Kernels
from acalsim_backend.machine.base import Platform
from acalsim_backend.machine.memory import Ram
from acalsim_backend.program.enums import Status


class NativeMachine:
    """See :class:`acalsim_backend.machine.base.Machine`."""

    timed: ClassVar[bool] = False
    ram_class: ClassVar[type[Ram]] = Ram

    def __init__(self, platform: Platform) -> None:
        self._kernels = Kernels(platform.ram)
        self._host_call = platform.host_call

    def run(self, image: int, watchdog: int) -> str:
        """Run an image; host code cannot be stopped, so ``watchdog`` has no meaning here."""
        del watchdog
        raised: list[BaseException] = []

        def call(index: int) -> int:
            try:
                self._host_call(index)
            except BaseException as error:  # noqa: BLE001  # must not cross the library's frames
                raised.append(error)
                return Status.INTERNAL
            return Status.OK

        self._kernels.run_image(image, call)
        if raised:
            raise raised[0]
        return ""

    def close(self) -> None:
        """Nothing is held."""
