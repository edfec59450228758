"""One bench for a module: its RAM is committed lazily and blocks are freed after each case."""

from __future__ import annotations

import pytest
from kernel_bench import KernelBench


@pytest.fixture(scope="module")
def bench() -> KernelBench:
    return KernelBench()
