"""Does the toolchain find a compiler, build the firmware once and say clearly what is wrong?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from acalsim_backend import toolchain
from acalsim_backend.errors import BuildError, InputError, MissingToolError
from acalsim_backend.toolchain import FIRMWARE_FOLDER, Sources, Toolchain, cache_dir, firmware_sources

SCRIPT = "ENTRY(_start)\nSECTIONS { . = 0x80000000; .text : { *(.text*) } }\n"
GCC = "riscv64-unknown-elf-gcc"


def tiny(folder: Path, text: str = "void _start(void) { for (;;) ; }\n") -> Sources:
    """A program that compiles fast."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.c").write_text(text)
    (folder / "tiny.ld").write_text(SCRIPT)
    return Sources((folder / "tiny.c",), folder / "tiny.ld")


@pytest.fixture(scope="module")
def compiler() -> Toolchain:
    return Toolchain.find({"PATH": os.environ["PATH"]})


@pytest.fixture(scope="module")
def elf() -> ELFFile:
    """The firmware that the package was built with."""
    return ELFFile((FIRMWARE_FOLDER / "acal_rv64gc.elf").open("rb"))


def symbol_table(elf: ELFFile) -> SymbolTableSection:
    section = elf.get_section_by_name(".symtab")
    assert isinstance(section, SymbolTableSection)
    return section


def symbols(elf: ELFFile) -> dict[str, int]:
    return {s.name: s["st_value"] for s in symbol_table(elf).iter_symbols()}


def test_does_the_firmware_start_where_qemu_does(elf: ELFFile) -> None:
    assert elf["e_entry"] == 0x8000_0000 == symbols(elf)["_start"]


def test_is_data_on_pages_without_code(elf: ELFFile) -> None:
    sections = {s.name: s["sh_addr"] for s in elf.iter_sections()}
    assert sections[".data"] % 4096 == 0
    assert symbols(elf)["__text_end"] <= sections[".data"] <= symbols(elf)["acal_boot"]


def test_does_the_firmware_stay_in_its_64_mib(elf: ELFFile) -> None:
    found = symbols(elf)
    assert found["__end"] < found["__trap_stack_top"] < found["__stack_top"] == 0x8000_0000 + (64 << 20)


def test_does_the_firmware_name_functions_and_lines(elf: ELFFile) -> None:
    units = [unit.get_top_DIE().attributes["DW_AT_name"].value for unit in elf.get_dwarf_info().iter_CUs()]
    assert any(name.endswith(b"gemm.c") for name in units)
    assert not any(name.startswith(b"/") for name in units), "paths of the machine that built it"


def test_is_nothing_left_to_a_library(elf: ELFFile) -> None:
    undefined = [s.name for s in symbol_table(elf).iter_symbols() if s["st_shndx"] == "SHN_UNDEF"]
    assert [name for name in undefined if name] == []


def test_does_gcc_build_the_firmware_too(tmp_path: Path) -> None:
    if shutil.which(GCC) is None:
        pytest.skip(f"no {GCC}: apt-get install gcc-riscv64-unknown-elf")
    gcc = Toolchain.find({"PATH": os.environ["PATH"], "CROSS_COMPILE": GCC.removesuffix("gcc")})
    gcc.compile(firmware_sources(), tmp_path / "acal.elf", None)
    with (tmp_path / "acal.elf").open("rb") as file:
        assert ELFFile(file)["e_entry"] == 0x8000_0000


def test_is_the_result_the_same_every_time(compiler: Toolchain, tmp_path: Path) -> None:
    sources = tiny(tmp_path / "source")
    built = [compiler.compile(sources, tmp_path / name / "a.elf", None).read_bytes() for name in ("one", "two")]
    assert built[0] == built[1]


def test_is_a_program_built_once(compiler: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, cache = tiny(tmp_path / "source"), tmp_path / "cache"
    first = compiler.compile(sources, tmp_path / "one.elf", cache).read_bytes()
    monkeypatch.setattr(Toolchain, "_build", lambda *_: pytest.fail("built again"))
    assert compiler.compile(sources, tmp_path / "two.elf", cache).read_bytes() == first


def test_does_a_changed_header_build_anew(compiler: Toolchain, tmp_path: Path) -> None:
    sources = tiny(tmp_path / "source", '#include "value.h"\nint _start(void) { return VALUE; }\n')
    results = set()
    for value in (1, 2):
        changed = Sources(sources.files, sources.linker_script, (), {"value.h": f"#define VALUE {value}\n"})
        results.add(compiler.compile(changed, tmp_path / "a.elf", tmp_path / "cache").read_bytes())
    assert len(results) == 2


def test_do_two_builds_at_once_do_no_harm(compiler: Toolchain, tmp_path: Path) -> None:
    sources, cache = tiny(tmp_path / "source"), tmp_path / "cache"
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda i: compiler.compile(sources, tmp_path / f"{i}.elf", cache), range(4)))
    assert len({path.read_bytes() for path in paths}) == 1
    assert [p.name for p in cache.iterdir()] == ["elf"]
    assert len(list((cache / "elf").iterdir())) == 1, "no unfinished files are left"


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "gone"])
def test_is_a_damaged_cache_entry_built_anew(compiler: Toolchain, tmp_path: Path, damage: str) -> None:
    sources, cache = tiny(tmp_path / "source"), tmp_path / "cache"
    first = compiler.compile(sources, tmp_path / "a.elf", cache).read_bytes()
    (entry,) = (cache / "elf").iterdir()
    whole = entry.read_bytes()
    match damage:
        case "cut":
            entry.write_bytes(whole[:10])
        case "empty":
            entry.write_bytes(b"")
        case "changed":
            entry.write_bytes(bytes([*whole[:100], whole[100] ^ 1, *whole[101:]]))
        case "gone":
            entry.unlink()
    assert compiler.compile(sources, tmp_path / "a.elf", cache).read_bytes() == first
    assert entry.read_bytes() == whole


BUILD = """
import sys
from pathlib import Path
from acalsim_backend import toolchain
from acalsim_backend.toolchain import Sources, Toolchain
toolchain.CACHE_LIMIT_BYTES = 0
Toolchain._build = lambda self, sources: b"ELF of " + sources.files[0].name.encode()
folder, cache, out = map(Path, sys.argv[1:])
for i in range(200):
    name = f"{i % 3}.c"
    sources = Sources((folder / name,), folder / "tiny.ld")
    built = Toolchain("none", (sys.executable,), ()).compile(sources, out, cache)
    assert built.read_bytes() == b"ELF of " + name.encode()
print("good")
"""


def test_do_builds_survive_that_others_empty_the_cache(tmp_path: Path) -> None:
    """Processes share a cache that holds one entry at most, so that each removes what the others just made."""
    for i in range(3):
        (tmp_path / f"{i}.c").write_text(str(i))
    (tmp_path / "tiny.ld").write_text(SCRIPT)
    cache = tmp_path / "cache"
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(tmp_path), str(cache), str(tmp_path / f"{i}.elf")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    assert [builder.communicate()[0] for builder in builders] == ["good\n"] * 4


def test_is_an_unfinished_file_left_alone_for_a_day(tmp_path: Path) -> None:
    fresh, old = tmp_path / ".acalsim-1", tmp_path / ".acalsim-2"
    for path in (fresh, old, tmp_path / "a", tmp_path / "b"):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    toolchain._prune(tmp_path, 0)
    assert fresh.exists()
    assert not old.exists()


def test_is_the_cache_bounded(compiler: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    for i in range(3):
        sources = tiny(tmp_path / "source", f"int _start(void) {{ return {i}; }}\n")
        size = compiler.compile(sources, tmp_path / "a.elf", cache).stat().st_size
        monkeypatch.setattr(toolchain, "CACHE_LIMIT_BYTES", 2 * size + size // 2)
    kept = list((cache / "elf").iterdir())
    assert len(kept) == 2


def test_does_a_failed_compiler_show_its_message(compiler: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"(?s)failed with code 1:.*tiny\.c:1.*undeclared"):
        compiler.compile(tiny(tmp_path, "int _start(void) { return missing; }\n"), tmp_path / "a.elf", None)
    assert not (tmp_path / "a.elf").exists()


def test_is_a_missing_source_named(compiler: Toolchain, tmp_path: Path) -> None:
    sources = tiny(tmp_path)
    sources.files[0].unlink()
    with pytest.raises(InputError, match=r"tiny\.c: cannot be read: No such file"):
        compiler.compile(sources, tmp_path / "a.elf", tmp_path / "cache")


def test_says_what_to_install_when_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingToolError, match="pip install ziglang"):
        Toolchain.find({"PATH": ""})


def test_says_when_cross_compile_names_nothing() -> None:
    with pytest.raises(MissingToolError, match="CROSS_COMPILE is 'mips-', but there is no mips-gcc on the path"):
        Toolchain.find({"PATH": os.environ["PATH"], "CROSS_COMPILE": "mips-"})


def test_is_a_folder_that_cannot_be_written_named(compiler: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # not even root can make a folder in a file
    sources = tiny(tmp_path / "source")
    with pytest.raises(InputError, match="file/folder: cannot write there: Not a directory"):
        compiler.compile(sources, tmp_path / "file" / "folder" / "a.elf", None)
    with pytest.raises(InputError, match=r"cannot write there: .*ACALSIM_CACHE_DIR"):
        compiler.compile(sources, tmp_path / "a.elf", tmp_path / "file" / "cache")


def test_where_is_the_cache() -> None:
    assert cache_dir({"ACALSIM_CACHE_DIR": "/x", "XDG_CACHE_HOME": "/y", "HOME": "/z"}) == Path("/x")
    assert cache_dir({"XDG_CACHE_HOME": "/y", "HOME": "/z"}) == Path("/y/acalsim")
    assert cache_dir({"HOME": "/z"}) == Path("/z/.cache/acalsim")


def test_does_the_command_report_errors_without_a_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "CROSS_COMPILE": "mips-"}
    command = [sys.executable, "-m", "acalsim_backend.toolchain", "firmware", "--out", str(tmp_path / "a.elf")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == MissingToolError.exit_code
    assert run.stderr.startswith("error: CROSS_COMPILE is 'mips-'")
    assert "Traceback" not in run.stderr
