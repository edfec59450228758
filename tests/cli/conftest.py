"""The command in a process of its own, as users start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

Run = subprocess.CompletedProcess[str]


@pytest.fixture
def acalsim(tmp_path) -> Callable[..., Run]:
    """``acalsim(*arguments)`` in an empty folder; ``without`` names packages that cannot be imported."""

    def call(*arguments: str, without: Sequence[str] = (), columns: int = 100) -> Run:
        hide = f"import sys; sys.modules.update(dict.fromkeys({tuple(without)!r})); "
        code = hide + "from acalsim_backend.cli import main; sys.argv[0] = 'acalsim'; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "ACALSIM_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call
