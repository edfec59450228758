"""Does the firmware with vector code compute the same on QEMU, with fewer instructions? Does unicorn refuse it?"""

from __future__ import annotations

import dataclasses

import pytest
from command_cases import make
from qemu_support import HARDWARE, require_qemu

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.program.enums import Placement
from acalsim_backend.run.session import Session

VECTORS = dataclasses.replace(HARDWARE, cpu=dataclasses.replace(HARDWARE.cpu, isa="rv64gcv"))


def test_do_vectors_save_instructions() -> None:
    require_qemu()
    instructions = []
    for hardware in (HARDWARE, VECTORS):
        session = Session(hardware, "qemu")
        case = make("gemm_plain")
        result = session.run(session.load(case.program(Placement.CPU)), case.values)
        case.check(result.outputs)
        session.close()
        assert result.instructions_retired is not None
        instructions.append(result.instructions_retired)
    assert instructions[1] < instructions[0]


def test_does_unicorn_say_why_it_has_no_vectors() -> None:
    with pytest.raises(UnsupportedError, match=r"no vector instructions.*use machine qemu"):
        Session(VECTORS, "unicorn")
