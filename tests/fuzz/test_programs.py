"""Do random programs give eager's results, memory sharing and gradients? ``make fuzz-programs`` runs thousands more."""

from __future__ import annotations

import functools
import warnings

import pytest
from oracle import Backends, judge
from programs import draw

SEEDS = range(150)
GROUP = 10
STATEMENTS = 5


@functools.cache
def backends() -> Backends:
    return Backends(programs=len(SEEDS))


@pytest.mark.parametrize("first", range(SEEDS.start, SEEDS.stop, GROUP))
def test_do_random_programs_equal_eager(first: int) -> None:
    wrong = []
    for seed in range(first, first + GROUP):
        program = draw(seed, STATEMENTS)
        if program is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            verdict = judge(program, backends())
        if verdict.outcome == "ours":
            wrong.append(f"# seed {seed}: {verdict.finding}\n{program.snippet()}")
    assert not wrong, "\n".join(wrong)
