"""Do the commands that need no simulation print what they should, where they should?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_support import Command

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.models import CATALOGUE, load_target


def test_is_the_version_the_distributions(acalsim: Command) -> None:
    run = acalsim("--version")
    assert run.returncode == 0
    assert re.fullmatch(r"acalsim \d+\.\d+\.\d+\S*\n", run.stdout)


def test_are_all_models_listed_with_their_size(acalsim: Command) -> None:
    run = acalsim("models", columns=80)
    assert run.returncode == 0
    for model in CATALOGUE.values():
        shape = "x".join(map(str, model.inputs[0].shape))
        assert re.search(rf"{model.name} +{model.parameters:,} +{shape} ", run.stdout)
    assert max(map(len, run.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", CATALOGUE)
def test_does_the_catalogue_state_what_a_model_really_has(name: str) -> None:
    import torch

    with torch.device("meta"):  # sizes without the memory and the random numbers
        model, inputs = load_target(name)
    assert sum(p.numel() for p in model.parameters()) == CATALOGUE[name].parameters
    for tensor, described in zip(inputs, CATALOGUE[name].inputs, strict=True):
        assert tuple(tensor.shape) == described.shape
        assert tensor.dtype == (torch.float32 if described.below is None else torch.int64)
    assert not model.training


def test_do_seeds_decide_weights_and_inputs_and_leave_torchs_generator_alone() -> None:
    import torch

    state = torch.random.get_rng_state()
    (a, (x,)), (b, (y,)), (c, (z,)) = (load_target("mlp", seed) for seed in (3, 3, 4))
    assert torch.equal(a.get_parameter("0.weight"), b.get_parameter("0.weight"))
    assert torch.equal(x, y)
    assert not torch.equal(a.get_parameter("0.weight"), c.get_parameter("0.weight"))
    assert not torch.equal(x, z)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_is_what_hw_show_prints_a_hardware_file(acalsim: Command, tmp_path: Path) -> None:
    run = acalsim("hw", "show", "gemm_only", "--set", "array.rows=8")
    (tmp_path / "shown.toml").write_text(run.stdout)
    assert HardwareConfig.load(tmp_path / "shown.toml") == HardwareConfig.load("gemm_only", {"array.rows": "8"})


def test_does_hw_list_name_every_preset(acalsim: Command) -> None:
    run = acalsim("hw", "list", columns=80)
    assert run.returncode == 0
    assert "edge " in run.stdout
    assert "gemm_only " in run.stdout


def test_does_doctor_find_everything_here_and_name_the_licences(acalsim: Command) -> None:
    run = acalsim("doctor")
    assert run.returncode == 0, run.stdout
    for part in ("python", "torch", "numpy", "unicorn", "ziglang", "engine", "firmware", "cache folder", "qemu"):
        assert part in run.stdout
    assert "GPL-2.0" in run.stdout
    assert "MISSING" not in run.stdout


def test_does_doctor_exit_with_4_and_the_remedy_when_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from acalsim_backend.cli import doctor

    monkeypatch.setattr(doctor, "PACKAGE", tmp_path)
    missing = [check for check in doctor.diagnose({}) if check.required and not check.good]
    assert [check.name for check in missing] == ["firmware", "kernels for the host", "unicorn hooks"]
    assert all("pip install" in check.fix for check in missing)


def test_does_doctor_look_at_the_environment(tmp_path: Path) -> None:
    from acalsim_backend.cli import doctor

    (tmp_path / "file").touch()
    environment = {
        "CROSS_COMPILE": "no-such-",
        "ACALSIM_QEMU": "no-such-qemu",
        "ACALSIM_CACHE_DIR": str(tmp_path / "file"),
    }
    found = {check.name: check for check in doctor.diagnose(environment)}
    assert "no-such-gcc is not on the path" in found["CROSS_COMPILE"].found
    assert "no-such-qemu" in found["qemu"].found
    assert not found["cache folder"].good
    assert not any(found[name].required for name in ("CROSS_COMPILE", "qemu"))


def test_does_compile_write_the_program_as_text_and_as_guest_bytes(tmp_path: Path, acalsim: Command) -> None:
    run = acalsim("compile", "mlp", "--out", str(tmp_path))
    assert run.returncode == 0, run.stderr
    names = {f"graph_0{end}" for end in (".ir", ".opt.ir", ".program", ".image")}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "0: GEMM on accelerator" in (tmp_path / "graph_0.program").read_text()
    assert (tmp_path / "graph_0.image").read_bytes()[:4] == b"ACAL"
