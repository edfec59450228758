"""Do files appear complete or not at all, whatever happens and whoever else writes them?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend import files
from acalsim_backend.errors import InputError

LIMITED = """
import resource, signal, sys
from acalsim_backend import files
from acalsim_backend.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write(sys.argv[1], b"x" * 5000)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("content", ["", "text, äöü\n", b"\0\xff", "x" * 100_000])
def test_is_what_was_written_there_and_nothing_else(tmp_path: Path, content: bytes | str) -> None:
    for _ in range(2):  # new, and over itself
        files.write(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_does_a_failure_leave_the_old_content_and_no_other_file(tmp_path: Path) -> None:
    files.write(tmp_path / "a", "old")

    def fail(error: type[BaseException]) -> None:
        with files.replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise error

    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            fail(error)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_does_a_full_disk_leave_the_old_content_and_no_other_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: both fail in the middle of a write."""
    (tmp_path / "a").write_text("old")
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "a")], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{tmp_path / 'a'}: cannot write there: File too large; choose another place\n"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_do_readers_and_other_writers_see_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [letter * 300_000 for letter in "abcd"]
    files.write(path, contents[0])

    def write(content: str) -> None:
        for _ in range(20):
            files.write(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in contents
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_are_links_followed_and_permissions_kept(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("made")
    files.write(tmp_path / "link", "new")
    files.write(tmp_path / "dangling", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == (tmp_path / "made").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o666 & ~umask


def test_is_what_is_no_regular_file_written_in_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    files.write(tmp_path / "pipe", "through")
    reader.join()
    assert got == ["through"]
    files.write(os.devnull, "gone")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("folder", "Is a directory"),
        ("absent/a", "No such file or directory"),
        ("file/a", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_is_a_place_that_cannot_be_written_refused_with_the_reason(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    for refuse in (lambda path: files.write(path, ""), files.check_writable):
        with pytest.raises(InputError, match=f"cannot write there: {reason}; choose another place"):
            refuse(tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_does_the_check_leave_nothing(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "a")
    assert files.make_folder(tmp_path / "b" / "c") == tmp_path / "b" / "c"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_is_a_full_device_an_input_error() -> None:
    with pytest.raises(InputError, match="/dev/full: cannot write there: No space left on device"):
        files.write("/dev/full", "x")


@given(st.text())
def test_is_text_read_as_written_with_and_without_a_mark(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "a"
    plain = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").encode(errors="ignore").decode()
    for mark in ("", "\ufeff"):
        files.write(path, mark + plain)
        assert files.read_text(path) == plain.removeprefix("" if mark else "\ufeff")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = \n", r":1: not valid TOML: Invalid value \(column 5\)"),
        ("a = 1\n\nb = [1,\n", r":3: not valid TOML: .* \(at the end of the file\)"),
        ("a = 1\na = 2\n", r":2: not valid TOML: Cannot overwrite a value"),
        ("a = " + "[" * 5000, ": not valid TOML: nested too deeply"),
        ("a = " + "9" * 5000, ": not valid TOML: "),
    ],
)
def test_does_a_syntax_error_name_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError, match="a.toml" + message):
        files.read_toml(tmp_path / "a.toml")


def test_is_what_is_no_text_file_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("absent")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "wide").write_bytes("a = 1\n".encode("utf-16"))
    messages = {
        ".": "is a folder, expected a file",
        "pipe": "is no regular file",
        "link": "is a link to absent, which does not exist",
        "absent": "no such file",
        "wide": "is not text in UTF-8",
        "loop": "cannot be read: Too many levels of symbolic links",
        "x" * 300: "cannot be read: File name too long",
    }
    for name, message in messages.items():
        with pytest.raises(InputError, match=message):
            files.read_text(tmp_path / name)
