"""Threads on the engine's bindings and the kernels that lie in the folder given.

Run by test_cpp.py, which builds them with ThreadSanitizer and preloads its library.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(sys.argv[1])
(file,) = FOLDER.glob("_engine*.so")
spec = importlib.util.spec_from_file_location("acalsim_backend._engine", file)
assert spec is not None
assert spec.loader is not None
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])

import numpy as np  # noqa: E402

from acalsim_backend.device import kernels  # noqa: E402
from acalsim_backend.device.timing import Timing  # noqa: E402
from acalsim_backend.hardware import HardwareConfig  # noqa: E402
from acalsim_backend.layers import gemm, softmax  # noqa: E402
from acalsim_backend.machine.memory import Ram  # noqa: E402
from acalsim_backend.program.commands import Gemm  # noqa: E402
from acalsim_backend.program.enums import DType  # noqa: E402
from acalsim_backend.program.view import View, contiguous_strides  # noqa: E402

kernels.LIBRARY = FOLDER / "firmware" / "libacal_kernels.so"
THREADS = 4
SEGMENTS = [
    [command.encode() for command in layer.commands]
    for size in (20, 50, 90)
    for layer in (gemm(size, size + 3, 2 * size), softmax(size, 3 * size))
]


def at_once(work: Callable[..., object]) -> list[object]:
    """What ``work(i)`` returns in each of the threads."""
    results: list[object] = [None] * THREADS
    start = threading.Barrier(THREADS)

    def one(i: int) -> None:
        start.wait()
        results[i] = work(i)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def cycles(timing: Timing) -> list[int]:
    return [timing.segment(segment, lambda fraction, cycles: None).cycles for segment in SEGMENTS]


def product(i: int) -> bool:
    """Kernels run on the RAM of their thread, though the library is one."""
    ram = Ram(65)
    at, n = ram.base, 24
    random = np.random.default_rng(i)
    a, b = (random.integers(-4, 5, (n, n)).astype(np.float32) for _ in range(2))
    a_view, b_view, out = (View(-1, DType.F32, (n, n), contiguous_strides((n, n)), at + 4096 * k) for k in range(3))
    memory = [ram.array[4096 * k : 4096 * k + 4 * n * n].view(np.float32).reshape(n, n) for k in range(3)]
    memory[0][:], memory[1][:] = a, b
    library = kernels.Kernels(ram)
    for _ in range(50):
        assert library.execute(Gemm(a_view, b_view, out).encode()) == (0, 0)
    return bool((memory[2] == a @ b).all())


for name in ("edge", "cloud4"):
    hardware = HardwareConfig.load(name)
    expected = cycles(Timing(hardware))
    assert at_once(lambda i, hardware=hardware: cycles(Timing(hardware))) == [expected] * THREADS
    shared = Timing(hardware)
    assert at_once(lambda i, shared=shared: cycles(shared)) == [expected] * THREADS
assert at_once(product) == [True] * THREADS
print("no race")
