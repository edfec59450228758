"""place: which processor runs each command."""

from __future__ import annotations

from dataclasses import dataclass, replace

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ops.lowering import Lowered
from acalsim_backend.passes.target import Target
from acalsim_backend.program.abi import Placement
from acalsim_backend.program.commands import Command


@dataclass(frozen=True)
class Place:
    """The accelerator takes what its hardware file lists; the CPU takes the rest, or everything when told so."""

    name: str = "place"

    def apply(self, lowered: Lowered, target: Target) -> Lowered:
        """Raises UnsupportedError that lists the misfits when the target says ``place="accelerator"``."""
        commands = tuple(_placed(c, target) for c in lowered.commands)
        if target.place == "accelerator":
            misfits = [c for c in commands if c.placement is Placement.CPU]
            if misfits:
                kinds = ", ".join(sorted({c.opcode.name.lower() for c in misfits}))
                raise UnsupportedError(
                    f"{lowered.name}: place='accelerator', but {len(misfits)} command(s) are of kinds that hardware "
                    f"{target.hardware.name!r} does not execute: {kinds}; add them to accelerator.ops or "
                    "use place='auto'"
                )
        return replace(lowered, commands=commands)


def _placed(command: Command, target: Target) -> Command:
    if command.placement is Placement.HOST:
        return command
    return replace(command, placement=Placement.ACCELERATOR if target.accelerates(command.opcode) else Placement.CPU)
