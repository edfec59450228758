"""Do the engine's C++ tests pass, plain and under sanitizers, and are the bindings free of races?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def build(source: Path, folder: Path, *options: str, targets: tuple[str, ...] = ("all",)) -> None:
    cmake = shutil.which("cmake", path=ENVIRONMENT["PATH"])
    if cmake is None:
        pytest.skip("cmake is not installed: pip install cmake")
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler: apt-get install g++")
    configure = [cmake, "-S", str(source), "-B", str(folder), f"-DPython_EXECUTABLE={sys.executable}", *options]
    for command in (configure, [cmake, "--build", str(folder), "-j2", "--target", *targets]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        assert done.returncode == 0, done.stdout + done.stderr


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    print(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_and_run(name: str, *options: str) -> None:
    folder = ROOT / "build" / name
    build(ROOT / "engine", folder, "-DACALSIM_ENGINE_TESTS=ON", "-DACALSIM_ENGINE_PYTHON=OFF", *options)
    run(str(folder / "engine_tests"))


def test_do_the_cpp_tests_pass() -> None:
    build_and_run("engine-tests")


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined"])
def test_do_the_cpp_tests_pass_under_sanitizers(sanitizers: str) -> None:
    build_and_run(
        f"engine-{sanitizers}", f"-DACALSIM_SANITIZE={sanitizers}", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-O1"
    )


@pytest.mark.slow
def test_do_threads_use_the_bindings_and_the_kernels_without_a_race() -> None:
    """The interpreter itself is not instrumented; its lock is a mutex of pthreads, which the sanitizer understands."""
    folder, flags = ROOT / "build" / "bindings-thread", "-fsanitize=thread -g -O1"
    options = ("-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}")
    build(ROOT, folder, *options, targets=("_engine", "acal_kernels"))
    library = run("c++", "-print-file-name=libtsan.so").strip()
    script = Path(__file__).with_name("threads_under_sanitizer.py")
    said = run(
        sys.executable,
        str(script),
        str(folder / "acalsim_backend"),
        LD_PRELOAD=library,
        TSAN_OPTIONS="halt_on_error=1",
        OPENBLAS_NUM_THREADS="1",
    )
    assert "no race" in said
