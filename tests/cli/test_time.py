"""`acalsim time`: does it show the engine's cycles for a layer, at once and without PyTorch?"""

from __future__ import annotations

import json

import pytest


def test_are_array_cycles_the_closed_form_of_a_weight_stationary_array(process):
    arguments = ("time", "gemm", "512", "256", "128", "--dataflow", "ws", "--json", "-")
    run = process(*arguments, without=("torch", "numpy"))
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    (row,) = document["layers"]
    folds, per_fold = (128 // 16) * (256 // 16), 2 * 16 + 16 + 512 - 2  # K/R, N/C; 2R + C + M - 2
    assert row["array_cycles"] == folds * per_fold - 1
    assert document["total_cycles"] == row["cycles"]
    assert sum(row["stall"].values()) == row["cycles"]


@pytest.mark.parametrize("columns", [80, 160])
def test_does_the_table_keep_every_digit(acalsim, columns):
    run = acalsim("time", "attention", "4", "128", "64", columns=columns)
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= columns
    rows = json.loads(acalsim("time", "attention", "4", "128", "64", "--json", "-").stdout)["layers"]
    for row in rows:
        assert row["name"] in run.stdout
        assert f" {row['cycles']:,} " in run.stdout


def test_does_a_row_say_what_limited_it(acalsim):
    document = json.loads(acalsim("time", "elementwise", "1000000", "--json", "-").stdout)
    (row,) = document["layers"]
    roofline = row["roofline"]
    assert (roofline["bound"], row["dataflow"], row["array_cycles"]) == ("memory", None, None)
    assert roofline["intensity"] == pytest.approx(1 / 12)  # one addition for two operands and a result of 4 bytes
    assert roofline["fraction"] == pytest.approx(row["dram_gbytes_per_s"] / 51.2)
    assert roofline["achieved_gops"] / roofline["attainable_gops"] == pytest.approx(roofline["fraction"])
    assert 0.9 < row["row_hit_rate"] <= 1
    channels = document["channels"]
    assert len(channels) == 4
    assert sum(c["bytes_read"] for c in channels) == pytest.approx(row["dram_bytes_read"], rel=1e-3)
    assert sum(c["gbytes_per_s"] for c in channels) == pytest.approx(row["dram_gbytes_per_s"], rel=1e-3)
    assert all(0 < c["row_hit_rate"] <= 1 for c in channels)


def test_is_a_large_product_bound_by_compute(acalsim):
    (row,) = json.loads(acalsim("time", "gemm", "1024", "1024", "1024", "--json", "-").stdout)["layers"]
    assert row["roofline"]["bound"] == "compute"
    assert row["roofline"]["fraction"] == pytest.approx(row["utilization"])
    assert row["dataflow"] in ("ws", "os", "is")


def test_does_a_topology_file_give_a_row_per_layer(acalsim, tmp_path):
    (tmp_path / "net.csv").write_text("Layer, M, N, K,\nfirst, 32, 16, 8,\nsecond, 64, 64, 64,\n")
    run = acalsim("time", "--topology", "net.csv", "--json", "out.json")
    assert run.returncode == 0, run.stderr
    assert "first" in run.stdout
    assert [row["name"] for row in json.loads((tmp_path / "out.json").read_text())["layers"]] == ["first", "second"]


def test_does_the_dataflow_change_the_cycles(acalsim):
    cycles = {
        flow: json.loads(acalsim("time", "gemm", "64", "64", "512", "--dataflow", flow, "--json", "-").stdout)["layers"]
        for flow in ("ws", "os")
    }
    assert cycles["ws"][0]["array_cycles"] != cycles["os"][0]["array_cycles"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gem", "1", "2", "3"], 2, "unknown layer 'gem': did you mean gemm"),
        (["gemm", "1", "2"], 2, "gemm takes 3 sizes (M N K), got 2"),
        ([], 2, "nothing to time: name one of gemm"),
        (["gemm", "1", "2", "3", "--stride", "2"], 2, "gemm has no option --stride"),
        (["gemm", "1", "2", "3", "--dtype", "f31"], 2, "unknown dtype 'f31': did you mean f32"),
        (["--topology", "absent.csv"], 3, "absent.csv: cannot be read"),
        (["gemm", "1", "2", "3", "--hw", "egde"], 2, "unknown hardware 'egde': did you mean edge"),
    ],
)
def test_is_a_mistake_named_with_its_remedy(acalsim, arguments, code, message):
    run = acalsim("time", *arguments)
    assert (run.returncode, run.stdout) == (code, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
