"""The command ``acalsim``: its groups, its exit codes, and what becomes of errors.

torch and numpy are imported by the commands that need them, after everything that can be checked without them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from acalsim_backend.cli import device, doctor, hw, run, terminal, time
from acalsim_backend.cli.options import Debug, Quiet, Verbose
from acalsim_backend.cli.run import EXIT_DIFFERENT
from acalsim_backend.errors import AcalsimError, InputError, MachineError, MissingToolError, UsageError, one_line

EXIT_BUG = 70
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_CLOSED = 128 + signal.SIGPIPE
EXIT_CODES = {
    0: "good",
    EXIT_DIFFERENT: "the model ran, and its outputs differ from eager PyTorch's",
    UsageError.exit_code: "a command line that cannot be understood, options and `--set` included",
    InputError.exit_code: "a model or a file that cannot be used, or a result that cannot be written",
    MissingToolError.exit_code: "something is not installed; the message has the line that installs it",
    MachineError.exit_code: "the guest or a device failed",
    EXIT_BUG: "a bug in acalsim",
    EXIT_INTERRUPTED: "Ctrl-C",
    EXIT_CLOSED: "whoever read the output closed it, as `head` does",
    128 + signal.SIGTERM: "`device serve` was ended by SIGTERM",
}

app = typer.Typer(
    name="acalsim",
    help="Run PyTorch models on a simulated RISC-V + accelerator machine.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in sorted(EXIT_CODES.items())) + ".",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (run, time, doctor):
    app.add_typer(group.app)
app.add_typer(hw.app, name="hw")
app.add_typer(device.app, name="device")


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"acalsim {version('acalsim_backend')}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    terminal.settings.merge(quiet, verbose, debug)


def main() -> NoReturn:
    """Entry point of the console script; turns exceptions into messages and exit codes."""
    terminal.settings.reset()
    code: int | str | None = 0
    try:
        app(prog_name="acalsim")
    except SystemExit as exit_:
        code = EXIT_CLOSED if _is_closed(exit_) else exit_.code
    except Exception as error:  # noqa: BLE001  # whatever it is, it becomes a message and an exit code
        code = _explain(error)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    lost = _flush()
    if lost is not None and not code:
        code = _explain(lost)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Say what went wrong; returns the exit code."""
    inner = getattr(error, "inner_exception", None)  # torch wraps what a backend raises
    cause = inner if isinstance(inner, (AcalsimError, OSError)) else error
    if terminal.settings.debug:
        traceback.print_exc()
    if isinstance(cause, BrokenPipeError):
        return EXIT_CLOSED
    if isinstance(cause, AcalsimError):
        terminal.complain(cause)
        return cause.exit_code
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("acalsim_backend"):
        package = error.name.partition(".")[0]
        terminal.complain(
            f"{package} is not installed: pip install {package}; `acalsim doctor` lists all that is needed"
        )
        return MissingToolError.exit_code
    if isinstance(cause, OSError) and cause.errno is not None:  # the system's answer, as on a full disk
        terminal.complain(f"{cause.filename or 'the output'}: {cause.strerror}")
        return InputError.exit_code
    terminal.complain(f"internal error: {type(error).__name__}: {one_line(error)}")
    print("This is a bug in acalsim; run the same command with --debug and report it.", file=sys.stderr)
    return EXIT_BUG


def _is_closed(exit_: SystemExit) -> bool:
    """Whether typer or rich ended the process because nobody reads its output any more."""
    return isinstance(exit_.__context__, BrokenPipeError)


def _flush() -> OSError | None:
    """Bring the rest of the output out; what cannot be is dropped, so that the interpreter does not try again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


if __name__ == "__main__":
    main()
