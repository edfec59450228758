"""Do C and C++ compilers lay the ABI's structs out as Python does?

The generated header asserts every size and offset itself; here it is compiled.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from acalsim_backend.firmware import c_header
from acalsim_backend.program.commands import COMMANDS
from acalsim_backend.program.enums import DType, Opcode, VectorOp


@pytest.fixture(scope="module")
def header() -> str:
    return "\n".join(c_header.generate()) + "\n"


@pytest.mark.parametrize(("compiler", "standard"), [("cc", "c11"), ("c++", "c++17")])
def test_does_it_compile(header: str, compiler: str, standard: str, tmp_path: Path) -> None:
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"no {compiler}: apt-get install g++")
    (tmp_path / "acal_abi.h").write_text(header)
    language = "c" if compiler == "cc" else "c++"
    command = [
        path,
        f"-std={standard}",
        "-x",
        language,
        "-Wall",
        "-Werror",
        "-fsyntax-only",
        str(tmp_path / "acal_abi.h"),
    ]
    if language == "c++":
        command.insert(1, "-Wno-pragma-once-outside-header")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_does_it_name_everything(header: str) -> None:
    for cls in COMMANDS.values():
        assert f"}} {cls.c_name};" in header
        assert f"_Static_assert(sizeof({cls.c_name}) == {cls.sizeof()}" in header
    for enumeration in (DType, Opcode, VectorOp):
        for member in enumeration:
            assert f"ACAL_{enumeration.__name__.upper()}_{member.name} = {member.value}," in header
