"""What a provider of values is, and what it makes of a command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import ClassVar, Protocol

from acalsim_backend.program.commands import Command

Task = Callable[[], object]
"""Executes one command; raises CommandError, or whatever goes wrong inside a kernel."""


class Functional(Protocol):
    """Turns validated commands into tasks; a task may be run any number of times."""

    name: str
    takes_regions: ClassVar[bool]
    """Whether operands may lie in regions beside RAM."""

    def prepare(self, command: Command, data: bytes) -> Task:
        """The task of ``command``, whose bytes are ``data``; all that need not happen at every run happens here."""
        ...

    def scope(self) -> contextlib.AbstractContextManager[object]:
        """Entered around the execution of tasks."""
        ...
