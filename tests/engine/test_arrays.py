"""Are array cycles those of SCALE-Sim, and is what the array is busy with what the closed form says?"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.time_command import make_layers, time_layers

ROWS = list(csv.DictReader((Path(__file__).parent / "data" / "scalesim_reference.csv").open()))


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("size", ["32", "128"])
def test_do_array_cycles_equal_scalesim_in_every_row(size, dataflow, tmp_path):
    rows = [r for r in ROWS if (r["array_rows"], r["dataflow"]) == (size, dataflow)]
    assert rows
    file = tmp_path / "gemm.csv"
    file.write_text("Layer,M,N,K,\n" + "".join(f"{r['layer']},{r['M']},{r['N']},{r['K']},\n" for r in rows))
    hardware = HardwareConfig.load(f"scalesim_{size}", {"array.dataflow": dataflow})
    layers = time_layers(make_layers(None, topology_file=file), hardware)["layers"]
    assert [x["array_cycles"] for x in layers] == [int(r["compute_cycles"]) for r in rows]


def test_are_all_rows_of_the_reference_covered():
    assert len(ROWS) == 316
    assert {(r["array_rows"], r["dataflow"]) for r in ROWS} <= {
        (s, d) for s in ("32", "128") for d in ("ws", "os", "is")
    }


def test_does_a_convolution_of_a_topology_give_the_cycles_of_its_matrix_product(tmp_path):
    file = tmp_path / "conv.csv"
    file.write_text(
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
        "Conv1, 224, 224, 7, 7, 3, 64, 2,\n"
    )
    hardware = HardwareConfig.load("scalesim_128")
    (row,) = time_layers(make_layers(None, topology_file=file), hardware)["layers"]
    (reference,) = {
        r["compute_cycles"]
        for r in ROWS
        if (r["layer"], r["array_rows"], r["dataflow"]) == ("Conv1", "128", "ws") and r["workload"] == "resnet18"
    }
    assert row["array_cycles"] == int(reference)


def test_is_one_untiled_product_without_overlap_busy_for_its_closed_form():
    hardware = HardwareConfig.load("scalesim_32", {"dram.preset": "ideal", "accelerator.launch_cycles": "0"})
    (row,) = time_layers(make_layers("gemm", [100, 32, 32]), hardware)["layers"]
    assert row["cycles"] == row["array_cycles"] + 1 == 2 * 32 + 32 + 100 - 2
