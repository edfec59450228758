"""Words that Python's arguments and the command line's options share."""

from __future__ import annotations

import enum


class Mode(enum.StrEnum):
    """What is done with the captured graph."""

    simulate = "simulate"
    compile = "compile"
    codegen = "codegen"
    trace = "trace"
    eager = "eager"


class Build(enum.StrEnum):
    """The form of the Program."""

    image = "image"
    c = "c"


class Place(enum.StrEnum):
    """Which processor the commands go to."""

    auto = "auto"
    cpu = "cpu"
    accelerator = "accelerator"


class Fallback(enum.StrEnum):
    """What becomes of operators that no processor has."""

    warn = "warn"
    error = "error"
