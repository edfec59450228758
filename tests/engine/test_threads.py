"""May threads use engines at once, may a run be interrupted, and is what an engine held given back?"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from acalsim_backend._engine import Engine
from acalsim_backend.device.timing import SegmentTiming, Timing, engine_config
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import attention, conv, elementwise, gemm, layernorm

EDGE = HardwareConfig.load("edge")
LAYERS = [gemm(70, 90, 130), conv(1, 8, 20, 20, 16, 3, 3), layernorm(40, 300), attention(2, 60, 32), elementwise(9000)]
SEGMENTS = [[command.encode() for command in layer.commands] for layer in LAYERS]
LONG = [command.encode() for command in gemm(1200, 1200, 1200).commands]


def _facts(timing: SegmentTiming) -> tuple[int, Any]:
    completions = [(c.id, c.start, c.end, c.bytes_read, c.bytes_written, c.row_hits) for c in timing.completions]
    return timing.cycles, completions


@pytest.mark.parametrize("shared", [True, False])
def test_do_threads_get_what_one_thread_gets(shared: bool) -> None:
    alone = Timing(EDGE)
    expected = [_facts(alone.segment(segment)) for segment in SEGMENTS]
    one = Timing(EDGE)
    start = threading.Barrier(8)

    def work(i: int) -> list[object]:
        timing = one if shared else Timing(EDGE)
        start.wait()
        found = {}
        for k in range(len(SEGMENTS)):
            at = (i + k) % len(SEGMENTS)
            found[at] = _facts(timing.segment(SEGMENTS[at]))
        return [found[k] for k in range(len(SEGMENTS))]

    with ThreadPoolExecutor(8) as pool:
        assert all(result == expected for result in pool.map(work, range(8)))


def test_is_a_second_thread_on_a_busy_engine_refused_and_the_first_undisturbed() -> None:
    engine = Engine(engine_config(EDGE))
    engine.submit(0, LONG[0])
    seen: list[str] = []

    def intrude() -> None:
        for use in (engine.stats, engine.run, engine.completions, lambda: engine.submit(0, SEGMENTS[0][0])):
            with pytest.raises(RuntimeError, match="at work in another call") as error:
                use()
            seen.append(str(error.value))

    def progress(fraction: float, cycles: int) -> None:
        if not seen:
            intrude()  # from the call itself, and from another thread
            other = threading.Thread(target=intrude)
            other.start()
            other.join()

    cycles = engine.run(progress)
    assert len(seen) == 8
    assert cycles == Timing(EDGE).segment(LONG).cycles


def test_is_progress_told_and_does_what_it_raises_leave_the_engine_as_new() -> None:
    timing = Timing(EDGE)
    told: list[tuple[float, int]] = []
    expected = timing.segment(LONG, lambda *now: told.append(now))
    assert told == sorted(told)
    assert all(0 <= fraction <= 1 and 0 < cycles <= expected.cycles for fraction, cycles in told)
    assert any(abs(fraction - cycles / expected.cycles) < 0.05 for fraction, cycles in told)

    def stop(fraction: float, cycles: int) -> None:
        raise KeyboardInterrupt

    fresh = Timing(EDGE)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fresh.segment(LONG, stop)
    known = Timing(EDGE)
    for segment in [*SEGMENTS, LONG]:
        assert _facts(fresh.segment(segment)) == _facts(known.segment(segment))


def test_does_a_refused_command_leave_nothing_behind() -> None:
    timing = Timing(EDGE)
    with pytest.raises(ValueError, match="command"):
        timing.segment([*SEGMENTS[0], b"nonsense" * 8])
    assert _facts(timing.segment(SEGMENTS[1])) == _facts(Timing(EDGE).segment(SEGMENTS[1]))


def test_do_a_thousand_engines_leave_memory_flat() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    segment = [command.encode() for command in gemm(20, 20, 20).commands]

    def use() -> None:
        Timing(EDGE).segment(segment)

    for _ in range(100):
        use()
    before = resident()
    for _ in range(1000):
        use()
    assert resident() - before < 4 << 20
