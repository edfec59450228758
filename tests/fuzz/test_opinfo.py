"""Is a part of PyTorch's operator database right on the machine? ``make opinfo`` runs all of it, in more types."""

from __future__ import annotations

import warnings
from collections import Counter

from opinfo import judge, samples

from acalsim_backend import ACALSimBackend

PART = 5, 12
"""Every twelfth entry, one sample of each."""


def test_is_a_part_of_the_operator_database_right() -> None:
    backend = ACALSimBackend(mode="simulate")
    wrong, outcomes = [], Counter[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for label, _, op, sample in samples(["float32"], "", 1, PART):
            outcome, detail, kind = judge(op, sample, backend, label)
            if kind == "real":
                outcomes[outcome] += 1
                if outcome in ("wrong", "crash"):
                    wrong.append(f"{outcome} {label}: {detail}")
    assert not wrong, "\n".join(wrong)
    assert outcomes["right"] >= 0.8 * (outcomes.total() - outcomes["skipped"]), outcomes
