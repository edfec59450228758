"""Is the energy of a command the sum of its actions, each at its own cost?"""

from __future__ import annotations

import dataclasses

import pytest
from engine_support import layer
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend.device.timing import Completion, Timing, energy_pj
from acalsim_backend.hardware import EnergyConfig, HardwareConfig
from acalsim_backend.layers import make_layers, time_layers
from acalsim_backend.program.commands import Command

KEYS = [f.name for f in dataclasses.fields(EnergyConfig)]
FREE = {f"energy.{key}": "0.0" for key in KEYS}


def energy(command: Command, **costs: float) -> tuple[float, Completion, HardwareConfig]:
    """Energy of a command where everything but the given actions is free."""
    hardware = HardwareConfig.load("edge", FREE | {f"energy.{key}": str(cost) for key, cost in costs.items()})
    (completion,) = Timing(hardware).segment([command.encode()]).completions
    return energy_pj(completion, hardware), completion, hardware


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 100))
def test_is_a_product_that_fits_on_chip_its_actions_times_their_costs(m: int, n: int, k: int) -> None:
    command = layer("gemm", m, n, k).commands[0]
    assert energy(command, mac_f32_pj=3)[0] == 3 * m * n * k
    assert energy(command, dram_byte_pj=7)[0] == 7 * 4 * (m * k + k * n + m * n)
    total, completion, _ = energy(command, static_pj_per_cycle=2)
    assert total == 2 * (completion.end - completion.start)


@pytest.mark.parametrize("key", KEYS)
def test_does_a_cost_count_for_its_own_action_alone(key: str) -> None:
    dtypes = {"mac_i8_pj": "i8", "mac_i16_pj": "i16", "mac_i32_pj": "i32", "mac_f16_pj": "f16", "mac_f64_pj": "f64"}
    command = layer("gemm", 64, 32, 16, dtype=dtypes.get(key, "f32")).commands[0]
    if key == "vector_op_pj":
        command = layer("elementwise", 1000).commands[0]
    once, completion, _ = energy(command, **{key: 1})
    actions = {
        "vector_op_pj": 1000,
        "scratchpad_byte_pj": completion.scratchpad_bytes,
        "accumulator_byte_pj": completion.accumulator_bytes,
        "dram_byte_pj": completion.bytes_read + completion.bytes_written,
        "static_pj_per_cycle": completion.end - completion.start,
    }
    assert once == actions.get(key, 64 * 32 * 16) > 0
    assert energy(command, **{key: 5})[0] == 5 * once


def test_are_the_bytes_on_chip_those_that_the_array_and_the_dma_touch() -> None:
    _, completion, hardware = energy(layer("gemm", 16, 16, 16).commands[0])
    operand = 16 * 16 * 4
    # Loaded two, stored one, streamed two; partial sums read and written by a stationary array, or written once.
    assert completion.scratchpad_bytes == 5 * operand
    assert completion.accumulator_bytes in (operand, 2 * operand)
    assert hardware.array.rows == 16


def test_does_the_energy_of_layers_add_up() -> None:
    hardware = HardwareConfig.load("edge")
    parts = [time_layers(make_layers("gemm", [n, n, n]), hardware)["layers"][0]["energy_pj"] for n in (32, 64)]
    layers = [make_layers("gemm", [n, n, n])[0] for n in (32, 64)]
    both = [row["energy_pj"] for row in time_layers(layers, hardware)["layers"]]
    assert both == parts
    assert all(part > 0 for part in parts)
