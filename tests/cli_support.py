"""The command line as the tests of tests/cli call it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = subprocess.CompletedProcess[str]
Command = Callable[..., Run]
