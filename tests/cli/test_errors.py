"""Does every mistake on the command line end in one clear line, no traceback and the right exit code?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_support import Command


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "resnt18"], 2, "unknown model 'resnt18': did you mean resnet18"),
        (["run", "mlp", "--hw", "egde"], 2, "unknown hardware 'egde': did you mean edge"),
        (["run", "mlp", "--hw", "absent.toml"], 3, "absent.toml: no such hardware file; presets are "),
        (["run", "mlp", "--machine", "unicron"], 2, "unknown machine 'unicron': did you mean unicorn"),
        (
            ["run", "mlp", "--set", "array.rowz=3"],
            2,
            "--set array.rowz=3: unknown key 'array.rowz': did you mean",
        ),
        (["run", "mlp", "--set", "array.rows"], 2, "--set array.rows: expected KEY=VALUE, as in --set array.rows=32"),
        (["run", "mlp", "--set", "array.rows=0"], 2, "array.rows is 0, expected 1 to 4096 PEs"),
        (
            ["run", "mlp", "--json", "-", "--mode", "compile"],
            2,
            "--json writes a report, and --mode compile makes none",
        ),
        (["run", "absent.py:f"], 3, "absent.py: no such file; TARGET is a built-in model, file.py:function or"),
        (["run", "hf:absent"], 3, "hf:absent: no such file; hf: takes a config.json, or the folder that one is in"),
        (
            ["run", "models.py"],
            3,
            "models.py: name the function that returns (model, inputs), as in models.py:make_model",
        ),
        (["hw", "show", "gem_only"], 2, "unknown hardware 'gem_only': did you mean gemm_only"),
    ],
)
def test_is_a_mistake_named_with_its_remedy(acalsim: Command, arguments: list[str], code: int, message: str) -> None:
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
        (["run", "mlp", "--seed", str(2**64)], "Invalid value for '--seed'"),
        (["run", "mlp", "--seed", str(-(2**63) - 1)], "Invalid value for '--seed'"),
        (["run", "mlp", "--out", ""], "is empty, expected a path"),
        (["run", "mlp", "--json", ""], "is empty, expected a path"),
        (["device", "serve", "--socket", ""], "is empty, expected a path"),
        (["hw", "check", ""], "is empty, expected a path"),
    ],
)
def test_is_a_usage_error_exit_code_2(acalsim: Command, arguments: list[str], words: str) -> None:
    run = acalsim(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert words in " ".join(re.sub("[│╭╮╰╯─]", " ", run.stderr).split())
    assert "Traceback" not in run.stderr


def test_does_a_bad_hardware_file_name_its_line(acalsim: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("schema = 1\n[array]\nrows = 16\nclos = 16\n")
    for arguments in (["run", "mlp", "--hw", "bad.toml"], ["hw", "check", "bad.toml"]):
        run = acalsim(*arguments)
        assert run.returncode == 3
        assert "bad.toml:4: unknown key 'array.clos': did you mean array.cols" in run.stderr


def test_are_all_files_checked_although_one_is_bad(acalsim: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("schema = 2\n")
    (tmp_path / "good.toml").write_text("schema = 1\n")
    run = acalsim("hw", "check", "bad.toml", "good.toml", "absent.toml")
    assert run.returncode == 3
    assert run.stdout == "good.toml: good (good)\n"
    assert "bad.toml:1: schema is 2, expected schema = 1" in run.stderr
    assert "absent.toml: no such hardware file" in run.stderr


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_is_an_unwritable_place_refused_before_the_run(acalsim: Command, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").touch()
    run = acalsim("run", "mlp", option, "file/inside")
    assert run.returncode == 3
    assert "file/inside: cannot write there: Not a directory; choose another" in run.stderr


BAD_TARGETS = """
import sys
import torch

class Broken(torch.nn.Module):
    def __init__(self, fail):
        super().__init__()
        self.fail = fail

    def forward(self, x):
        return self.fail(x)

def raises():
    return torch.nn.Linear(2, 2)(torch.ones(3))

def nothing(): pass
def no_inputs(): return torch.nn.Linear(2, 2), None
def no_model(): return 3, torch.ones(2)
def a_class(): return torch.nn.Linear, torch.ones(2)
def numbered(): return torch.nn.Linear(2, 2), {1: torch.ones(2)}
def fails(): return torch.nn.Linear(3, 2), (torch.ones(4),)
def list_input(): return torch.nn.Linear(2, 2), ([1, 2],)
def leaves(): sys.exit(7)
def meta(): return torch.nn.Linear(2, 2, device="meta"), torch.ones(2)
def meta_input(): return torch.nn.Linear(2, 2), torch.ones(2, device="meta")

def fails_inside():
    return Broken(lambda x: x.mm(x)), torch.ones(2, 3)

def leaves_inside():
    return Broken(lambda x: sys.exit(7)), torch.ones(2, 3)

VALUE = 3
"""


def line_of(text: str) -> int:
    return 1 + BAD_TARGETS[: BAD_TARGETS.index(text)].count("\n")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "raises",
            rf"bad\.py:raises\(\) failed: RuntimeError: .* \(bad\.py:{line_of('return torch.nn.Linear(2, 2)(')}\)",
        ),
        ("fails", r"Linear fails in PyTorch already: RuntimeError: .*shape"),
        ("nothing", r"bad\.py:nothing\(\) returned NoneType, expected \(model, inputs\)"),
        ("no_inputs", r"bad\.py:no_inputs\(\) returned \(Linear, NoneType\), expected"),
        ("no_model", r"bad\.py:no_model\(\) returned \(int, Tensor\), expected"),
        ("a_class", r"bad\.py:a_class\(\) returned \(type, Tensor\), expected"),
        ("numbered", r"bad\.py:numbered\(\) returned \(Linear, dict\), expected"),
        ("list_input", r"Linear fails in PyTorch already: TypeError: .*must be Tensor, not list"),
        ("leaves", rf"bad\.py:leaves\(\) failed: SystemExit: 7 \(bad\.py:{line_of('def leaves()')}\)"),
        ("meta", r"bad\.py:meta\(\) returned a model whose weight is on the device meta, without values"),
        ("meta_input", r"bad\.py:meta_input\(\) returned a model whose input 0 is on the device meta"),
        (
            "fails_inside",
            rf"Broken fails in PyTorch already: RuntimeError: .* \(bad\.py:{line_of('lambda x: x.mm(x)')}\)",
        ),
        ("leaves_inside", r"Broken fails in PyTorch already: SystemExit: 7 \(bad\.py:\d+\)"),
        ("raise", r"bad\.py: unknown function 'raise': did you mean raises"),
        ("VALUE", r"bad\.py: unknown function 'VALUE'"),
    ],
)
def test_does_a_target_that_cannot_be_built_say_why(
    acalsim: Command, tmp_path: Path, function: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(BAD_TARGETS)
    run = acalsim("run", f"bad.py:{function}")
    assert run.returncode == 3
    assert re.search(message, run.stderr)
    assert "Traceback" not in run.stderr


def test_does_a_file_that_cannot_be_imported_name_its_line(acalsim: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import torch\nimport no_such_module\n")
    run = acalsim("run", "bad.py:f")
    assert run.returncode == 3
    assert "bad.py: importing it failed: ModuleNotFoundError: No module named 'no_such_module' (bad.py:2)" in run.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torch\n\ndef f(:\n", r"importing it failed: SyntaxError: invalid syntax \(bad\.py:3\)"),
        ("import sys\nsys.exit(7)\n", r"importing it failed: SystemExit: 7 \(bad\.py:2\)"),
        ("import json\n\njson.loads('{')\n", r"importing it failed: JSONDecodeError: .* \(bad\.py:3\)"),
        ("", r"bad\.py: defines no function, expected f\(\) that returns \(model, inputs\)"),
    ],
)
def test_does_the_error_of_a_file_point_into_it(acalsim: Command, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    run = acalsim("run", "bad.py:f")
    assert (run.returncode, run.stdout) == (3, "")
    assert re.search(message, run.stderr)
    assert len(run.stderr.splitlines()) == 1


def test_is_a_model_that_leaves_while_it_is_captured_an_error(acalsim: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD_TARGETS)
    for arguments in (
        ["run", "bad.py:leaves_inside", "--mode", "trace"],
        ["compile", "bad.py:leaves_inside", "--out", "o"],
    ):
        run = acalsim(*arguments)
        assert run.returncode == 3
        assert "the model called sys.exit(7)" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["gemm", "99999999999999999999", "1", "1"], 2),
        (["gemm", str(2**62), "1", "1"], 2),
        (["conv", *["999999999999"] * 7], 2),
        (["softmax", "9" * 4000, "1"], 2),
        (["--topology", "big.csv"], 3),
    ],
)
def test_is_a_size_that_no_address_reaches_refused(
    acalsim: Command, tmp_path: Path, arguments: list[str], code: int
) -> None:
    (tmp_path / "big.csv").write_text("Layer, M, N, K,\nfirst, 99999999999999999999999, 16, 8,\n")
    run = acalsim("time", *arguments)
    assert (run.returncode, run.stdout) == (code, "")
    assert "its operands need addresses of" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_is_every_exit_code_documented_in_one_place() -> None:
    from acalsim_backend.cli.main import EXIT_CODES

    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in EXIT_CODES.items()}


def test_is_the_traceback_shown_with_debug_alone(acalsim: Command) -> None:
    assert "Traceback" not in acalsim("hw", "show", "x").stderr
    for arguments in (["--debug", "hw", "show", "x"], ["hw", "show", "x", "--debug"]):
        run = acalsim(*arguments)
        assert run.returncode == 2
        assert "Traceback" in run.stderr


def test_does_a_model_larger_than_dram_say_what_to_change(acalsim: Command, tmp_path: Path) -> None:
    (tmp_path / "big.py").write_text(
        "import torch\ndef big(): return torch.nn.Linear(2048, 2048), torch.ones(1, 2048)\n"
    )
    run = acalsim("run", "big.py:big", "--set", "dram.size_mib=70")
    assert (run.returncode, run.stdout) == (3, "")
    assert re.search(r"MiB.*dram\.size_mib", run.stderr)
    assert len(run.stderr.splitlines()) == 1


def test_does_a_missing_unicorn_name_the_line_that_installs_it(process: Command) -> None:
    run = process("run", "mlp", without=("unicorn",))
    assert (run.returncode, run.stdout) == (4, "")
    assert "pip install unicorn" in run.stderr
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("package", ["torch", "numpy"])
def test_is_a_package_that_is_missing_named_with_the_line_that_installs_it(process: Command, package: str) -> None:
    run = process("run", "mlp", without=(package,))
    assert (run.returncode, run.stdout) == (4, "")
    assert f"{package} is not installed: pip install {package}" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_is_a_bug_told_from_a_mistake(acalsim: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from acalsim_backend import hardware

    monkeypatch.setattr(hardware, "presets", lambda: 1 / 0)
    run = acalsim("hw", "list")
    assert run.returncode == 70
    assert "internal error: ZeroDivisionError: division by zero" in run.stderr
    assert "run the same command with --debug and report it" in run.stderr
