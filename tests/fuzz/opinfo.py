"""PyTorch's operator database through the backend: ``python opinfo.py [--samples N] [--only TEXT] [--dtype NAME]``.

Every entry of ``op_db`` with its first samples of each dtype runs in eager, and under no_grad through torch.compile
with this backend. Each sample is right (on the device alone), host (right, with operators that ran on the host), wrong,
crash, skipped (eager refuses it) or empty (nothing ran on the machine: Dynamo left the whole frame to Python). Where it
is not right, PyTorch's aot_eager with its own decompositions says whether that is PyTorch's own doing. Exit status 1
where it is not. Needs the package expecttest, which PyTorch's test library imports.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from oracle import aot_eager, describe, is_close
from torch.utils import _pytree as pytree

from acalsim_backend.backend import ACALSimBackend

DTYPES = ("float32", "int64", "bool", "bfloat16", "float16")
PER_BACKEND = 100
"""Samples for one machine, before its memory is given back."""
UNDEFINED = ("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided")
"""Results without a defined value: memory as it was."""
LINALG = ("cholesky", "cholesky_inverse", "cholesky_solve", "geqrf", "inverse", "logdet", "lu", "lu_solve", "lu_unpack",
          "matrix_exp", "ormqr", "pca_lowrank", "pinverse", "qr", "svd", "svd_lowrank",
          "triangular_solve")  # fmt: skip
"""Entries of linear algebra that are not called so."""


TIES = {"sort": 0, "argsort": 0, "mode": 0, "median": 0, "nanmedian": 0, "topk": 1, "kthvalue": 1}
"""Which of equal values their indices name is not defined, except where a sort is asked to be stable; with the place of
the argument ``dim``."""


def samples(names: list[str], only: str, count: int, part: tuple[int, int]) -> Iterator[tuple[str, str, Any, Any]]:
    """Name, dtype, function and sample of all that is asked for."""
    from torch.testing._internal import common_methods_invocations as database

    # it seeds and restores the generator around operators that draw, which Dynamo leaves to Python; run() seeds
    vars(database)["wrapper_set_seed"] = lambda operator, *args, **kwargs: operator(*args, **kwargs)
    op_db: list[Any] = database.op_db
    entries = [op for op in op_db if only in op.name]
    for op, name in itertools.product(entries[part[0] :: part[1]], names):
        dtype = getattr(torch, name)
        if dtype not in op.supported_dtypes("cpu"):
            continue
        label = f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name
        inputs = op.sample_inputs("cpu", dtype)
        try:
            taken = list(itertools.islice(inputs, count))
        except Exception as error:
            print(f"no samples: {label} {name}: {type(error).__name__}: {error}"[:200])
            continue
        for sample in taken:
            yield label, name, op, sample


def clone(value: Any) -> Any:
    """Arguments of their own for each run; some operators write to them."""
    return pytree.tree_map(lambda t: t.detach().clone() if isinstance(t, torch.Tensor) else t, value)


def run(function: Callable[..., Any], sample: Any) -> list[Any]:
    """All tensors and numbers that a call gives."""
    value, args, kwargs = clone((sample.input, sample.args, sample.kwargs))
    torch.manual_seed(0)
    with torch.no_grad():
        return list(pytree.tree_leaves(function(value, *args, **kwargs)))


def without_ties(label: str, sample: Any, results: list[Any]) -> list[Any]:
    """Instead of indices, the values that they select, and whether each index is there once."""
    position, stable = TIES.get(label.split(".")[0]), sample.kwargs.get("stable")
    if position is None or stable or not results or results[-1].dtype is not torch.int64:
        return results
    if len(results) == 1 and label != "argsort":
        return results  # values alone
    x, indices = sample.input, results[-1]
    dim = sample.args[position] if len(sample.args) > position else sample.kwargs.get("dim", -1)
    full = indices.unsqueeze(dim) if indices.dim() < x.dim() else indices
    repeated = bool((full.sort(dim).values.diff(dim=dim) == 0).any()) if full.dim() else False
    return [*results[:-1], x.gather(dim, full), repeated]


def difference(got: list[Any], expected: list[Any], defined: bool) -> str:
    """What is wrong, or nothing."""
    if len(got) != len(expected):
        return f"{len(got)} results, expected {len(expected)}"
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        if not isinstance(b, torch.Tensor):
            if a != b and defined:
                return f"result {i}: {a}, expected {b}"
            continue
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"result {i}: {a.dtype} {tuple(a.shape)}, expected {b.dtype} {tuple(b.shape)}"
        if defined and not is_close(a, b):
            return f"result {i}: {a.flatten()[:8].tolist()}, expected {b.flatten()[:8].tolist()}"
    return ""


def judge(op: Any, sample: Any, backend: ACALSimBackend, label: str) -> tuple[str, str, str]:
    """Outcome and detail of a sample, and the kind of its entry."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return op.op(*args, **kwargs)

    try:
        expected = without_ties(label, sample, run(function, sample))
    except Exception as error:
        return "skipped", type(error).__name__, "real"
    kind = _kind(label, sample, expected)
    defined = label not in UNDEFINED
    before = len(backend.reports)
    problem, outcome = "", "wrong"
    torch._dynamo.reset()
    try:
        got = without_ties(label, sample, run(torch.compile(function, backend=backend), sample))
        problem = difference(got, expected, defined)
    except Exception as error:
        outcome, problem = "crash", " | ".join(describe(error))
    if not problem:
        reports = backend.reports[before:]
        if not reports:
            return "empty", "", kind
        fallbacks = sorted({f["op"] for report in reports for f in report.fallbacks})
        return ("host", ", ".join(fallbacks), kind) if fallbacks else ("right", "", kind)
    torch._dynamo.reset()
    try:
        got = without_ties(label, sample, run(torch.compile(function, backend=aot_eager), sample))
        own = bool(difference(got, expected, defined))
    except Exception:
        own = True
    return ("pytorch" if own else outcome), problem, kind


def _kind(label: str, sample: Any, expected: list[Any]) -> str:
    """Entries with complex values, which guest memory cannot hold, and linear algebra are counted apart."""
    values = pytree.tree_leaves((sample.input, sample.args, sample.kwargs, expected))
    if any(_is_complex(v) for v in values):
        return "complex"
    return "linalg" if label.startswith("linalg") or label in LINALG else "real"


def _is_complex(value: Any) -> bool:
    return isinstance(value, complex) or (
        isinstance(value, (torch.Tensor, torch.dtype))
        and (value if isinstance(value, torch.dtype) else value.dtype).is_complex
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3, help="samples of an entry and dtype")
    parser.add_argument("--only", default="", help="entries whose name has this in it")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="one dtype; may be repeated")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th entry from the I-th on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    first, parts = map(int, options.part.split("/"))
    entries: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    kinds: dict[tuple[str, str], str] = {}
    operators: dict[str, set[str]] = collections.defaultdict(set)
    backend, used = ACALSimBackend(mode="simulate"), 0
    for label, dtype, op, sample in samples(
        options.dtype or list(DTYPES), options.only, options.samples, (first, parts)
    ):
        if used == PER_BACKEND:
            backend.close()
            backend, used = ACALSimBackend(mode="simulate"), 0
        used += 1
        outcome, detail, kind = judge(op, sample, backend, label)
        entries[dtype, label].add(outcome)
        kinds[dtype, label] = min(kind, kinds.get((dtype, label), kind))  # complex, if one of the samples is
        if outcome == "host":
            operators[detail].add(label)
        if outcome in ("wrong", "crash", "pytorch"):
            print(f"{outcome:8} {label} {dtype}: {detail[:400]}", flush=True)
    print("\non the host:")
    for name in sorted(operators):
        print(f"  {name}  ({', '.join(sorted(operators[name]))})")
    print("\nentries all of whose samples are right on the machine alone:")
    grouped: dict[tuple[str, str], list[set[str]]] = collections.defaultdict(list)
    for (dtype, label), found in entries.items():
        if found != {"skipped"}:  # what eager refuses is no entry
            grouped[dtype, kinds[dtype, label]].append(found - {"skipped"})
    for (dtype, kind), outcomes in grouped.items():
        counts = collections.Counter(_worst(found) for found in outcomes)
        others = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common() if outcome != "right")
        share = counts["right"] / max(counts.total(), 1)
        print(f"  {dtype:9} {kind:8} {counts['right']} of {counts.total()} ({share:.1%}); {others or 'no others'}")
    return int(any(found & {"wrong", "crash"} for found in entries.values()))


def _worst(outcomes: set[str]) -> str:
    return next(o for o in ("wrong", "crash", "pytorch", "host", "empty", "right") if o in outcomes)


if __name__ == "__main__":
    sys.exit(main())
