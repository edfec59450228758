"""Do the engine's C++ tests pass, plain and under sanitizers?"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build_and_run(folder: Path, *options: str) -> None:
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{__import__('os').environ['PATH']}")
    if cmake is None:
        pytest.skip("cmake is not installed: pip install cmake")
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler: apt-get install g++")
    configure = [cmake, "-S", str(ROOT / "engine"), "-B", str(folder), "-DACALSIM_ENGINE_TESTS=ON",
                 "-DACALSIM_ENGINE_PYTHON=OFF", f"-DPython_EXECUTABLE={sys.executable}", *options]  # fmt: skip
    subprocess.run(configure, check=True, capture_output=True, text=True)
    subprocess.run([cmake, "--build", str(folder), "-j2"], check=True, capture_output=True, text=True)
    tests = subprocess.run([str(folder / "engine_tests")], capture_output=True, text=True, check=False)
    assert tests.returncode == 0, tests.stdout + tests.stderr


def test_do_the_cpp_tests_pass():
    build_and_run(ROOT / "build" / "engine-tests")


@pytest.mark.slow
def test_do_the_cpp_tests_pass_under_sanitizers():
    build_and_run(
        ROOT / "build" / "engine-sanitized", "-DACALSIM_SANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=Debug"
    )
