"""What does each pass make of an IR, as text? ``pytest --update-golden`` writes what they make now."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from acalsim_backend.ir_text import parse
from acalsim_backend.ops.defaults import complete
from acalsim_backend.passes import COMMAND_PASSES, IR_PASSES, Target, in_order

GOLDEN = Path(__file__).parent / "golden"
PASSES = {p.name: p for p in IR_PASSES}


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.txt")), ids=lambda f: f.stem)
def test_does_the_pass_make_this_of_it(file: Path, request: pytest.FixtureRequest) -> None:
    """A file holds an IR, a line ``--- PASS PASS ...``, and what these passes make of it."""
    before, line, after = file.read_text(encoding="utf-8").partition("\n--- ")
    names, _, expected = after.partition("\n")
    assert line, "the file has no line '--- PASS'"
    ir = complete(parse(before))
    for name in names.split():
        ir = PASSES[name].apply(ir, Target())
        ir.verify()
    if request.config.getoption("--update-golden"):
        file.write_text(f"{before}\n--- {names}\n{ir}\n", encoding="utf-8")
    else:
        assert f"{ir}\n" == expected


def test_has_every_pass_a_golden_file() -> None:
    headers = [f.read_text(encoding="utf-8").partition("\n--- ")[2].partition("\n")[0] for f in GOLDEN.glob("*.txt")]
    used = {name for header in headers for name in header.split()}
    assert used == set(PASSES)


@pytest.mark.parametrize("passes", [IR_PASSES, COMMAND_PASSES], ids=["ir", "commands"])
def test_is_an_order_in_which_a_pass_misses_another_refused(passes: Sequence[Any]) -> None:
    for a, b in itertools.combinations(range(len(passes)), 2):
        swapped = list(passes)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        position = {p.name: i for i, p in enumerate(swapped)}
        if all(position[name] < position[p.name] for p in swapped for name in p.after):
            assert in_order(*swapped) == tuple(swapped)
        else:
            with pytest.raises(ValueError, match="relies on"):
                in_order(*swapped)
