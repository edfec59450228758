"""Shared set-up: every worker of pytest-xdist uses one thread, and hypothesis has no deadline on a noisy machine."""

from __future__ import annotations

import os
import signal

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "anew", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# What a commit's tests say is the commit's: they draw the same each time, `--hypothesis-profile anew` draws others.
settings.register_profile("acalsim", settings.get_profile("anew"), derandomize=True)
settings.load_profile("acalsim")

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")
