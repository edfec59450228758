"""place: which processor runs each command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ops.lowering import Lowered
from acalsim_backend.passes.target import Target
from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import Placement


@dataclass(frozen=True)
class Place:
    """The accelerator takes what its hardware file lists; the CPU takes the rest, or everything when told so."""

    name: str = "place"
    after: tuple[str, ...] = ()

    def apply(self, lowered: Lowered, target: Target) -> Lowered:
        """Raises UnsupportedError that lists the misfits when the target says ``place="accelerator"``."""
        commands = _numbered([_placed(c, target) for c in lowered.commands], target.hardware.devices)
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


def _numbered(commands: Sequence[Command], devices: int) -> tuple[Command, ...]:
    """Spread accelerator commands over the devices.

    A command goes to the device whose result it is the first to continue, and commands that do not depend on each
    other to different ones: a chain stays where it began, and each further branch takes the next device.
    """
    if devices == 1:
        return tuple(commands)
    numbered: list[Command] = []
    writer: dict[int, int] = {}  # tensor -> index of the command that wrote it
    continued: set[int] = set()
    following = 0
    for i, command in enumerate(commands):
        if command.placement is Placement.ACCELERATOR:
            sources = dict.fromkeys(writer[v.tensor] for v in command.reads() if v.tensor in writer)
            free = [s for s in sources if s not in continued and commands[s].placement is Placement.ACCELERATOR]
            if free:
                device = numbered[free[0]].device
                continued.update(free)
            else:
                device, following = following, (following + 1) % devices
            command = replace(command, device=device)
        numbered.append(command)
        writer.update((v.tensor, i) for v in command.writes())
    return tuple(numbered)
