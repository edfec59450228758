"""Are array cycles those of SCALE-Sim, and is what the array is busy with what the closed form says?"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import make_layers, time_layers

ROWS = list(csv.DictReader((Path(__file__).parent / "data" / "scalesim_reference.csv").open()))


def time_topology(file: Path, *options: str) -> dict[str, Any]:
    """What the command `acalsim time --topology` prints as JSON, in a process of its own."""
    start = "from acalsim_backend.cli.main import main; main()"
    arguments = [sys.executable, "-c", start, "time", "--topology", str(file), *options, "--json", "-"]
    document: dict[str, Any] = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    return document


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("size", ["32", "128"])
def test_does_the_command_give_scalesims_cycles_in_every_row(size: str, dataflow: str, tmp_path: Path) -> None:
    rows = [r for r in ROWS if (r["array_rows"], r["dataflow"]) == (size, dataflow)]
    assert rows
    file = tmp_path / "gemm.csv"
    file.write_text("Layer,M,N,K,\n" + "".join(f"{r['layer']},{r['M']},{r['N']},{r['K']},\n" for r in rows))
    layers = time_topology(file, "--hw", f"scalesim_{size}", "--dataflow", dataflow)["layers"]
    assert [(x["name"], x["array_cycles"], x["dataflow"]) for x in layers] == [
        (r["layer"], int(r["compute_cycles"]), dataflow) for r in rows
    ]


def test_are_all_rows_of_the_reference_covered() -> None:
    assert len(ROWS) == 316
    assert {(r["array_rows"], r["dataflow"]) for r in ROWS} <= {
        (s, d) for s in ("32", "128") for d in ("ws", "os", "is")
    }


@given(
    st.integers(3, 40), st.integers(3, 40), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 3)
)
def test_has_a_convolution_of_a_topology_the_size_that_scalesim_gives_it(
    h: int, w: int, r: int, s: int, c: int, stride: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "conv.csv"
        file.write_text(
            f"Name, IFMAP H, IFMAP W, R, S, Channels, Filters, Strides,\nfirst,{h},{w},{r},{s},{c},20,{stride},\n"
        )
        (row,) = time_layers(make_layers(None, topology_file=file), HardwareConfig.load("scalesim_32"))["layers"]
    p, q = math.ceil((h - r + stride) / stride), math.ceil((w - s + stride) / stride)
    folds, per_fold = math.ceil(c * r * s / 32) * 1, 2 * 32 + 32 + p * q - 2
    assert row["array_cycles"] == folds * per_fold - 1


def test_does_the_command_time_the_first_convolution_of_resnet_as_scalesim(tmp_path: Path) -> None:
    file = tmp_path / "conv.csv"
    file.write_text(
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
        "Conv1, 224, 224, 7, 7, 3, 64, 2,\n"
    )
    (row,) = time_topology(file, "--hw", "scalesim_128")["layers"]
    (reference,) = {
        r["compute_cycles"]
        for r in ROWS
        if (r["layer"], r["array_rows"], r["dataflow"]) == ("Conv1", "128", "ws") and r["workload"] == "resnet18"
    }
    assert row["array_cycles"] == int(reference)


def test_is_one_untiled_product_without_overlap_busy_for_its_closed_form() -> None:
    hardware = HardwareConfig.load("scalesim_32", {"dram.preset": "ideal", "accelerator.launch_cycles": "0"})
    (row,) = time_layers(make_layers("gemm", [100, 32, 32]), hardware)["layers"]
    assert row["cycles"] == row["array_cycles"] + 1 == 2 * 32 + 32 + 100 - 2
