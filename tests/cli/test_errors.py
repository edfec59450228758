"""Does every mistake on the command line end in one clear line, no traceback and the right exit code?"""

from __future__ import annotations

import re

import pytest


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "resnt18"], 2, "unknown model 'resnt18': did you mean resnet18"),
        (["run", "mlp", "--hw", "egde"], 2, "unknown hardware 'egde': did you mean edge"),
        (["run", "mlp", "--hw", "absent.toml"], 3, "absent.toml: no such hardware file; presets are "),
        (["run", "mlp", "--machine", "unicron"], 2, "unknown machine 'unicron': did you mean unicorn"),
        (
            ["run", "mlp", "--set", "array.rowz=3"],
            3,
            "--set array.rowz=3: unknown key 'array.rowz': did you mean",
        ),
        (["run", "mlp", "--set", "array.rows"], 2, "--set array.rows: expected KEY=VALUE, as in --set array.rows=32"),
        (["run", "mlp", "--set", "array.rows=0"], 3, "array.rows is 0, expected 1 to 4096 PEs"),
        (
            ["run", "mlp", "--json", "-", "--mode", "compile"],
            2,
            "--json writes a report, and --mode compile makes none",
        ),
        (["run", "absent.py:f"], 3, "absent.py: no such file; TARGET is a built-in model or file.py:function"),
        (
            ["run", "models.py"],
            3,
            "models.py: name the function that returns (model, example_inputs)",
        ),
        (["hw", "show", "gem_only"], 2, "unknown hardware 'gem_only': did you mean gemm_only"),
    ],
)
def test_is_a_mistake_named_with_its_remedy(acalsim, arguments, code, message):
    run = acalsim(*arguments)
    assert (run.returncode, run.stdout) == (code, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "No such command 'rum'. Did you mean 'run'?"),
        (["run"], "Missing argument"),
        (["run", "mlp", "--jsn", "x"], "No such option: --jsn"),
        (["run", "mlp", "--place", "gpu"], "'gpu' is not one of"),
        (["run", "mlp", "--seed", "x"], "--seed"),
    ],
)
def test_is_a_usage_error_exit_code_2(acalsim, arguments, words):
    run = acalsim(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert words in " ".join(re.sub("[│╭╮╰╯─]", " ", run.stderr).split())
    assert "Traceback" not in run.stderr


def test_does_a_bad_hardware_file_name_its_line(acalsim, tmp_path):
    (tmp_path / "bad.toml").write_text("schema = 1\n[array]\nrows = 16\nclos = 16\n")
    for arguments in (["run", "mlp", "--hw", "bad.toml"], ["hw", "check", "bad.toml"]):
        run = acalsim(*arguments)
        assert run.returncode == 3
        assert "bad.toml:4: unknown key 'array.clos': did you mean array.cols" in run.stderr


def test_are_all_files_checked_although_one_is_bad(acalsim, tmp_path):
    (tmp_path / "bad.toml").write_text("schema = 2\n")
    (tmp_path / "good.toml").write_text("schema = 1\n")
    run = acalsim("hw", "check", "bad.toml", "good.toml", "absent.toml")
    assert run.returncode == 3
    assert run.stdout == "good.toml: good (good)\n"
    assert "bad.toml:1: schema is 2, expected schema = 1" in run.stderr
    assert "absent.toml: no such hardware file" in run.stderr


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_is_an_unwritable_place_refused_before_the_run(acalsim, tmp_path, option):
    (tmp_path / "file").touch()
    run = acalsim("run", "mlp", option, "file/inside")
    assert run.returncode == 3
    assert f"{option} file/inside: cannot write there: Not a directory; choose another" in run.stderr


BAD_TARGETS = """
import torch
def raises(): return torch.nn.Linear(2, 2)(torch.ones(3))
def nothing(): pass
def no_inputs(): return torch.nn.Linear(2, 2), None
def fails(): return torch.nn.Linear(3, 2), (torch.ones(4),)
def list_input(): return torch.nn.Linear(2, 2), ([1, 2],)
VALUE = 3
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", r"bad\.py:raises\(\) failed: RuntimeError: .*"),
        ("fails", r"Linear fails in PyTorch already: RuntimeError: .*shape"),
        ("nothing", r"bad\.py:nothing\(\) returned NoneType, expected \(model, example_inputs\)"),
        ("no_inputs", r"bad\.py:no_inputs\(\) returned \(Linear, NoneType\), expected"),
        ("list_input", r"bad\.py:list_input\(\) returned \(Linear, tuple\), expected"),
        ("raise", r"bad\.py: unknown function 'raise': did you mean raises"),
        ("VALUE", r"bad\.py: unknown function 'VALUE'"),
    ],
)
def test_does_a_target_that_cannot_be_built_say_why(acalsim, tmp_path, function, message):
    (tmp_path / "bad.py").write_text(BAD_TARGETS)
    run = acalsim("run", f"bad.py:{function}")
    assert run.returncode == 3
    assert re.search(message, run.stderr)
    assert "Traceback" not in run.stderr


def test_does_a_file_that_cannot_be_imported_name_its_line(acalsim, tmp_path):
    (tmp_path / "bad.py").write_text("import torch\nimport no_such_module\n")
    run = acalsim("run", "bad.py:f")
    assert run.returncode == 3
    assert "bad.py: importing it failed: ModuleNotFoundError: No module named 'no_such_module' (bad.py:2)" in run.stderr


def test_is_the_traceback_shown_with_debug_alone(acalsim):
    assert "Traceback" not in acalsim("hw", "show", "x").stderr
    for arguments in (["--debug", "hw", "show", "x"], ["hw", "show", "x", "--debug"]):
        run = acalsim(*arguments)
        assert run.returncode == 2
        assert "Traceback" in run.stderr


def test_does_a_model_larger_than_dram_say_what_to_change(acalsim, tmp_path):
    (tmp_path / "big.py").write_text(
        "import torch\ndef big(): return torch.nn.Linear(2048, 2048), torch.ones(1, 2048)\n"
    )
    run = acalsim("run", "big.py:big", "--set", "dram.size_mib=70")
    assert (run.returncode, run.stdout) == (3, "")
    assert re.search(r"MiB.*dram\.size_mib", run.stderr)
    assert len(run.stderr.splitlines()) == 1


def test_does_a_missing_unicorn_name_the_line_that_installs_it(process):
    run = process("run", "mlp", without=("unicorn",))
    assert (run.returncode, run.stdout) == (4, "")
    assert "pip install unicorn" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_is_a_bug_told_from_a_mistake(acalsim, monkeypatch):
    from acalsim_backend import hardware

    monkeypatch.setattr(hardware, "presets", lambda: 1 / 0)
    run = acalsim("hw", "list")
    assert run.returncode == 70
    assert "internal error: ZeroDivisionError: division by zero" in run.stderr
    assert "run the same command with --debug and report it" in run.stderr
