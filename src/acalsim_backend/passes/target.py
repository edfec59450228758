"""What a graph is compiled for."""

from __future__ import annotations

from dataclasses import dataclass, field

from acalsim_backend.choices import Fallback, Place
from acalsim_backend.errors import UnknownNameError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.enums import Activation, Opcode


@dataclass(frozen=True)
class Target:
    """Hardware and policy: where commands may run and what happens to operators that no processor has."""

    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    place: str = "auto"
    fallback: str = "warn"

    def __post_init__(self) -> None:
        for name, value, choices in (("place", self.place, Place), ("fallback", self.fallback, Fallback)):
            if value not in list(choices):
                raise UnknownNameError(name, value, list(choices))

    def accelerates(self, opcode: Opcode) -> bool:
        """Whether commands of this kind go to the accelerator."""
        return self.place != "cpu" and opcode.name.lower() in self.hardware.accelerator.ops

    def fuses(self, opcode: Opcode, activation: Activation) -> bool:
        """Whether a command of this kind can apply the activation where it will run."""
        if not self.accelerates(opcode):
            return True  # the CPU kernels have all of them
        return activation.name.lower() in self.hardware.accelerator.activations
