"""Does memory limit what it should, and only that?"""

from __future__ import annotations

import pytest
from engine_support import config, layer, run
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend._engine import Engine
from acalsim_backend.layers import Layer

NET_OF_REFRESH = {"edge": 1 - 280 / 3906, "gemmini": 1 - 350 / 7800, "cloud4": 1 - 350 / 3900, "tpuv3": 1 - 350 / 3900}


@pytest.mark.parametrize("hardware", ["edge", "gemmini"])
def test_does_half_the_bandwidth_double_a_memory_bound_command(hardware: str) -> None:
    full, _ = run(hardware, layer("elementwise", 1 << 21))
    peak = config(hardware)["memory.bytes_per_cycle.num"] / config(hardware)["memory.bytes_per_cycle.den"]
    half, _ = run(hardware, layer("elementwise", 1 << 21), dram__bandwidth_gbytes_per_s=peak / 2)
    assert 1.9 < half / full < 2.1


@pytest.mark.parametrize("command", [layer("gemm", 512, 512, 512), layer("conv", 1, 64, 56, 56, 64, 3, 3, pad=1)])
def test_does_half_the_bandwidth_slow_a_compute_bound_command_by_less_than_5_percent(command: Layer) -> None:
    full, _ = run("edge", command)
    half, _ = run("edge", command, dram__bandwidth_gbytes_per_s=25.6)
    assert half < 1.05 * full


@pytest.mark.parametrize("hardware", sorted(NET_OF_REFRESH))
def test_does_an_elementwise_stream_reach_90_percent_of_peak_net_of_refresh(hardware: str) -> None:
    cycles, (row,) = run(hardware, layer("elementwise", 1 << 24))
    c = config(hardware)
    peak = c["memory.bytes_per_cycle.num"] / c["memory.bytes_per_cycle.den"]
    reached = (row.bytes_read + row.bytes_written) / cycles / peak
    print(f"{hardware}: {reached:.3f} of peak, {reached / NET_OF_REFRESH[hardware]:.3f} net of refresh")
    assert reached / NET_OF_REFRESH[hardware] >= 0.9


@given(
    st.sampled_from(["edge", "gemmini", "cloud4"]),
    st.sampled_from(["open", "closed"]),
    st.sampled_from(["all_bank", "none"]),
    st.sampled_from([4, 32, 64]),
    st.sampled_from(["gemm", "conv", "softmax", "elementwise"]),
    st.integers(1, 200),
)
def test_are_row_runs_identical_to_burst_by_burst(
    hardware: str, page: str, refresh: str, outstanding: int, kind: str, n: int
) -> None:
    sizes = {"gemm": (n, 77, 2 * n), "conv": (1, 5, n + 2, 30, 9, 3, 3), "softmax": (n, 300), "elementwise": (n * 100,)}
    c = config(hardware, dram__page=page, dram__refresh=refresh, dma__outstanding=outstanding)
    command = layer(kind, *sizes[kind]).commands[0].encode()
    results = []
    for fast in (1, 0):
        engine = Engine({**c, "memory.fast_path": fast})
        engine.submit(0, command)
        results.append((engine.run(), [x.stall for x in engine.completions()]))
    assert results[0] == results[1]


def test_does_ideal_memory_leave_compute_alone() -> None:
    cycles, (row,) = run("edge", layer("gemm", 256, 256, 256), dram__preset="ideal")
    assert row.stall["dram"] == 0
    assert cycles <= row.array_busy + row.stall["launch"] + 64


def test_has_ddr4_no_per_bank_refresh() -> None:
    with pytest.raises(ValueError, match="DDR4-2400 has no per-bank refresh; use all_bank or none"):
        Engine(config("gemmini", dram__refresh="per_bank"))
