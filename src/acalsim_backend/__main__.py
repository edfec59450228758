"""``python -m acalsim_backend`` and the console script: Ctrl-C is quiet from the first line on.

Whatever takes long to import comes after that, the command line included.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def compile_() -> NoReturn:
    """``acalsim-compile``: the same as ``acalsim compile``."""
    sys.argv.insert(1, "compile")
    main()


def main() -> NoReturn:
    """Run the command line."""
    own = signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))  # nothing is open yet
    from acalsim_backend.cli.main import main as run

    signal.signal(signal.SIGINT, own)
    run()


if __name__ == "__main__":
    main()
