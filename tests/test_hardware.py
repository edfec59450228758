"""Hardware files: is every mistake named with its line, and is what is shown what was read?"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend.errors import HardwareError, InputError, UnknownNameError
from acalsim_backend.hardware import HardwareConfig, presets, provenance
from acalsim_backend.program.enums import ACTIVATIONS, COMMAND_KINDS


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_does_every_preset_load_under_its_own_name() -> None:
    assert {"edge", "gemm_only"} <= presets().keys()
    for name in presets():
        assert HardwareConfig.load(name).name == name


def test_is_a_file_its_base_with_the_stated_difference(tmp_path: Path) -> None:
    path = write(tmp_path, 'schema = 1\nname = "wide"\nbase = "edge"\n\n[array]\ncols = 64\n')
    edge, wide = HardwareConfig.load("edge"), HardwareConfig.load(path)
    assert wide == dataclasses.replace(edge, name="wide", array=dataclasses.replace(edge.array, cols=64))


def test_is_a_base_path_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    write(tmp_path / "bases", "schema = 1\n[array]\nrows = 8\n", "a.toml")
    write(tmp_path / "bases", 'schema = 1\nbase = "a.toml"\n[array]\ncols = 4\n', "b.toml")
    path = write(tmp_path, 'schema = 1\nbase = "bases/b.toml"\n')
    config = HardwareConfig.load(path)
    assert (config.array.rows, config.array.cols, config.name) == (8, 4, "mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 1\n[array\nrows = 4\n", r"mine\.toml:2: not valid TOML: Expected ']' at the end"),
        ("name = 'x'\n", r"mine\.toml:1: schema is missing, expected schema = 1"),
        ("\nschema = 2\n", r"mine\.toml:2: schema is 2, expected schema = 1"),
        ("schema = true\n", r"mine\.toml:1: schema is True, expected schema = 1"),
        ("schema = 1.0\n", r"mine\.toml:1: schema is 1\.0, expected schema = 1"),
        ("schema = 1\narray = 3\n", r"mine\.toml:2: array is 3, expected a table, which begins with \[array\]"),
        (
            "schema = 1\n\n[[array]]\nrows = 4\n",
            r"mine\.toml:3: array is an array of tables, \[\[\.\.\.\]\], expected a table, which begins with \[array\]",
        ),
        ("schema = 1\n[name]\nx = 1\n", r"mine\.toml:3: name is a table, expected a value, as in name = "),
        (
            "schema = 1\n[array]\n# comment\nrow = 4\n",
            r"mine\.toml:4: unknown key 'array\.row': did you mean array\.rows\b",
        ),
        ("schema = 1\n\n[aray]\nrows = 4\n", r"mine\.toml:4: unknown section 'aray': did you mean array\b"),
        ("schema = 1\n[typo]\n", r"mine\.toml:2: unknown section 'typo'"),
        ("schema = 1\n[array]\nrows = 0\n", r"mine\.toml:3: array\.rows is 0, expected 1 to 4096 PEs"),
        ("schema = 1\n[array]\nrows = 4.5\n", r"mine\.toml:3: array\.rows is 4\.5, expected a whole number"),
        ("schema = 1\n[array]\nrows = true\n", r"mine\.toml:3: array\.rows is True, expected a whole number"),
        (
            "schema = 1\n[array]\ndataflow = 'xs'\n",
            r"mine\.toml:3: array\.dataflow is 'xs', expected one of ws, os, is",
        ),
        ("schema = 1\n[dram]\nlatency_ns = nan\n", r"mine\.toml:3: dram\.latency_ns is nan, expected 0 to 100000 ns"),
        (
            "schema = 1\n[accelerator]\nops = ['gem']\n",
            r"mine\.toml:3: accelerator\.ops: unknown name 'gem': did you mean gemm",
        ),
        (
            "schema = 1\n[accelerator]\nops = 'gemm'\n",
            r"mine\.toml:3: accelerator\.ops is 'gemm', expected a list of names",
        ),
        ("schema = 1\nbase = 'egde'\n", r"mine\.toml:2: base: unknown hardware 'egde': did you mean edge"),
        ("schema = 1\nbase = 'mine.toml'\n", r"base leads back to itself"),
        ("schema = 1\nbase = 3\n", r"mine\.toml:2: base is 3, expected a preset or a path"),
        ("schema = 1\ncpu = 3\n", r"mine\.toml:2: cpu is 3, expected a table, which begins with \[cpu\]"),
    ],
)
def test_does_a_mistake_name_file_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        HardwareConfig.load(write(tmp_path, text))


def test_does_a_mistake_in_a_base_name_the_base(tmp_path: Path) -> None:
    write(tmp_path, "schema = 1\n[array]\nrows = -1\n", "base.toml")
    with pytest.raises(HardwareError, match=r"base\.toml:3: array\.rows is -1"):
        HardwareConfig.load(write(tmp_path, 'schema = 1\nbase = "base.toml"\n'))


def test_are_unknown_presets_and_files_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown hardware 'edg': did you mean edge"):
        HardwareConfig.load("edg")
    with pytest.raises(HardwareError, match=r"no such hardware file; presets are .*edge"):
        HardwareConfig.load(tmp_path / "absent.toml")


def test_is_a_mark_at_the_start_of_a_file_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbfschema = 1\n[array]\nrows = 8\n")
    assert HardwareConfig.load(tmp_path / "mine.toml").array.rows == 8


def test_is_what_is_no_file_named(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.toml").symlink_to("absent.toml")
    messages = {
        "folder.toml": "is a folder, expected a file",
        "folder": "is a folder, expected a file",
        "pipe": "is no regular file",
        "link.toml": r"link\.toml: is a link to absent\.toml, which does not exist",
        "absent": "unknown hardware '.*absent': known: cloud4, ",
        "x" * 300: "unknown hardware",
    }
    for name, message in messages.items():
        with pytest.raises((InputError, UnknownNameError), match=message):
            HardwareConfig.load(tmp_path / name)


def test_has_every_number_bounds_that_nan_fails() -> None:
    for section in dataclasses.fields(HardwareConfig):
        cls = get_type_hints(HardwareConfig)[section.name]
        for f in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
            if get_type_hints(cls)[f.name] in (int, float):
                assert f.metadata["low"] <= f.metadata["high"], f.name


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "3\ncols = 4", ""])
def test_is_an_override_that_is_no_value_refused(value: str) -> None:
    with pytest.raises(HardwareError, match=r"array\.rows is "):
        HardwareConfig().override({"array.rows": value})


def test_do_overrides_change_one_value_and_name_a_wrong_one() -> None:
    edge = HardwareConfig.load("edge")
    changed = HardwareConfig.load("edge", {"array.rows": "32", "array.dataflow": "os", "name": "big"})
    assert changed == dataclasses.replace(
        edge, name="big", array=dataclasses.replace(edge.array, rows=32, dataflow="os")
    )
    with pytest.raises(
        HardwareError, match=r"--set array\.rowz=3: unknown key 'array\.rowz': did you mean array\.rows"
    ):
        edge.override({"array.rowz": "3"})
    with pytest.raises(HardwareError, match=r"--set array\.rows=many: array\.rows is 'many', expected a whole number"):
        edge.override({"array.rows": "many"})
    with pytest.raises(HardwareError, match=r"--set array=3: array is 3, expected a table"):
        edge.override({"array": "3"})


def fields_of(cls: type) -> st.SearchStrategy:
    """Valid instances of one section, from the types and bounds that its fields state."""
    hints = get_type_hints(cls)
    values = {}
    for f in dataclasses.fields(cls):
        hint, low, high = hints[f.name], f.metadata["low"], f.metadata["high"]
        if get_origin(hint) is Literal:
            values[f.name] = st.sampled_from(get_args(hint))
        elif get_origin(hint) is tuple:
            names = COMMAND_KINDS if f.name == "ops" else ACTIVATIONS
            values[f.name] = st.lists(st.sampled_from(names), unique=True).map(tuple)
        elif hint is bool:
            values[f.name] = st.booleans()
        elif hint is float:
            values[f.name] = st.floats(low, high)
        else:
            assert hint is int, f"no strategy for {cls.__name__}.{f.name}: {hint}"
            values[f.name] = st.integers(low, high)
    return st.builds(cls, **values)


@st.composite
def machines(draw: st.DrawFn) -> HardwareConfig:
    edge = HardwareConfig()
    sections = {
        f.name: draw(fields_of(type(getattr(edge, f.name))))
        for f in dataclasses.fields(edge)
        if dataclasses.is_dataclass(getattr(edge, f.name))
    }
    return dataclasses.replace(edge, name=draw(st.text("abc-_ 09", min_size=1, max_size=8)), **sections)


@given(machines())
def test_does_a_shown_file_read_back_as_the_same_machine(
    tmp_path_factory: pytest.TempPathFactory, machine: HardwareConfig
) -> None:
    path = write(tmp_path_factory.mktemp("hw"), machine.to_toml())
    assert HardwareConfig.load(path) == machine


@given(st.integers(0, 10**15), st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([0.1, 0.5, 1.0, 1.3, 2.75]))
def test_are_cpu_cycles_converted_exactly_and_rounded_up(
    instructions: int, cpu_mhz: int, device_mhz: int, cpi: float
) -> None:
    machine = HardwareConfig().override(
        {
            "cpu.frequency_mhz": str(cpu_mhz),
            "accelerator.frequency_mhz": str(device_mhz),
            "cpu.cycles_per_instruction": str(cpi),
        }
    )
    exact = instructions * Fraction(str(cpi)) * device_mhz / cpu_mhz
    assert machine.cpu_to_device_cycles(instructions) == math.ceil(exact)


def test_does_every_shown_value_carry_its_unit() -> None:
    shown = HardwareConfig.load("edge").to_toml().splitlines()
    values = [line for line in shown if "=" in line and not line.startswith("schema")]
    assert values
    assert all("  # " in line and ": " in line.partition("  # ")[2] for line in values)


SOURCES = re.compile(r"assumed|calibrated|\[[A-Z]\]|JESD|Horowitz|O'Connor|SCALE-Sim|MT/s|of a chip|pseudo-channels")


@pytest.mark.parametrize("preset", sorted(presets()))
def test_has_every_parameter_of_a_preset_a_unit_and_a_source(preset: str) -> None:
    sources = provenance(preset)
    hardware = HardwareConfig.load(preset)
    keys = {"devices"} | {
        f"{section.name}.{f.name}"
        for section in dataclasses.fields(hardware)
        if dataclasses.is_dataclass(getattr(hardware, section.name))
        for f in dataclasses.fields(getattr(hardware, section.name))
        if f.metadata["unit"]
    }
    assert sources.keys() == keys
    assert {key: source for key, source in sources.items() if not SOURCES.search(source)} == {}


def test_are_at_most_six_parameters_of_tpuv3_calibrated_and_none_by_operator() -> None:
    calibrated = {key for key, source in provenance("tpuv3").items() if "calibrated" in source}
    assert 1 <= len(calibrated) <= 6
    assert not any(kind in key for key in calibrated for kind in ("gemm", "conv", "softmax", "norm"))


def test_does_a_source_come_from_the_file_that_states_the_value_last(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'schema = 1\nbase = "tpuv3"\n[array]\nrows = 64  # PEs: our floor plan\n[vector]\nlanes = 32\n'
    )
    sources = provenance(tmp_path / "mine.toml", ["dram.channels"])
    assert sources["array.rows"] == "our floor plan"
    assert sources["array.cols"] == "[N]"
    assert sources["vector.lanes"] == "stated in mine.toml"
    assert sources["dram.channels"] == "--set"
    assert sources["energy.mac_f32_pj"].startswith("Horowitz")


PRINTABLE = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")


@given(st.text(PRINTABLE), st.text(st.characters(exclude_characters="/\0"), min_size=1))
def test_is_what_is_shown_read_back_whatever_the_name_and_the_files_name(
    tmp_path_factory: pytest.TempPathFactory, name: str, source: str
) -> None:
    hardware = dataclasses.replace(HardwareConfig.load("edge"), name=name)
    path = write(tmp_path_factory.mktemp("shown"), hardware.to_toml({"array.rows": f"stated in {source}"}))
    assert HardwareConfig.load(path) == hardware


@pytest.mark.parametrize("name", ["a\udc80", "\x1b[31m", "a\nb", "a\0", "a\u2028b"])
def test_is_a_name_that_cannot_be_printed_refused(name: str) -> None:
    with pytest.raises(HardwareError, match=r"name is .*, expected printable text in UTF-8"):
        HardwareConfig.load("edge", {"name": name})
