"""The IR as text that can be read back.

The text is what ``str(ir)`` prints, a line for a tensor and a line for an operation. Behind ``  #`` a line may say, as
a Python dict, what does not follow from the rest; what it leaves out has its default, and the roles, ATen target and
results of an operation are filled in by :func:`acalsim_backend.ops.defaults.complete`. So both a printed IR and one
that a person wrote are read.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import torch

from acalsim_backend.errors import AcalsimError, InputError
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc

_TITLE = re.compile(r"=== ACALSim IR: (?P<name>.*) ===")
_TENSOR = re.compile(
    r"(?P<name>[\w.]+): \((?P<shape>[\d, ]*)\) (?P<dtype>\w+)(?: \[(?P<mark>input|param|output)\])?(?: = (?P<data>.*))?"
)
_CALL = re.compile(r"(?:(?P<outputs>[\w., ]*) )?= (?P<type>\w+)\((?P<inputs>[\w., ]*)\)(?P<rest>.*)")
_STRING = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
_LISTS = {"Inputs": "input_names", "Outputs": "output_names", "Mutations": "mutations"}
_NOTED = (
    "name", "roles", "results", "target", "compute", "module", "source", "covers", "compute_cycles", "memory_cycles"
)  # fmt: skip


def print_whole(ir: ACALSimIR) -> str:
    """The text with everything but ``examples``; ``parse`` gives an equal IR."""
    return "\n".join(_lines(ir)) + "\n"


def _lines(ir: ACALSimIR) -> Iterator[str]:
    ops = iter(ir.ops)
    section = ""
    own = dataclasses.replace(ir, prepare=None)
    for line in own.lines():
        section = line.strip() if line.strip() in ("Tensors:", "Operations:") else section
        if section == "Tensors:" and line.startswith("  "):
            yield line + _tensor_notes(ir, line.partition(":")[0].strip())
        elif section == "Operations:" and line.startswith("  "):
            yield line + _noted(_op_notes(next(ops)))
        else:
            yield line
    if ir.prepare is not None:
        yield f"\nPrepared: {list(ir.prepared)}"
        yield from _lines(ir.prepare)


def _tensor_notes(ir: ACALSimIR, name: str) -> str:
    desc, notes = ir.tensors[name], {}
    for field in ("memory_addr", "strides"):
        if getattr(desc, field) is not None:
            notes[field] = getattr(desc, field)
    if name in ir.arguments:
        notes["argument"] = ir.arguments[name]
    marks = [mark for mark in ("is_input", "is_param", "is_output") if getattr(desc, mark)]
    if len(marks) > 1:
        notes["marks"] = marks
    data = f" = {json.dumps(torch.as_tensor(ir.constants[name]).tolist())}" if name in ir.constants else ""
    return data + _noted(notes)


def _op_notes(op: ACALSimOp) -> dict[str, Any]:
    default = ACALSimOp(op.op_type, "", [], [])
    notes = {name: getattr(op, name) for name in _NOTED if getattr(op, name) != getattr(default, name)}
    if op.body:
        notes["body"] = [_op_notes(inner) for inner in op.body]
    return notes


def _noted(notes: dict[str, Any]) -> str:
    return f"  # {notes!r}" if notes else ""


def parse(text: str) -> ACALSimIR:
    """Read an IR back, or read one that was written by hand.

    Raises:
        InputError: a line that is neither of the forms above; names it.
    """
    graphs: list[ACALSimIR] = []
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            section = _read_line(line, section, graphs)
        except (AcalsimError, ValueError, SyntaxError, KeyError, TypeError) as error:
            raise InputError(f"IR, line {number}: {line.strip()!r} cannot be read: {error}") from None
    if not graphs:
        raise InputError("not an IR: expected a line '=== ACALSim IR: NAME ==='")
    for owner, prepare in itertools.pairwise(graphs):
        owner.prepare = prepare
    return graphs[0]


def _read_line(line: str, section: str, graphs: list[ACALSimIR]) -> str:
    """Take one line into the last graph; returns the section that the next line is in."""
    stripped = line.strip()
    title = _TITLE.fullmatch(stripped)
    if title:
        graphs.append(ACALSimIR(title["name"]))
        return ""
    if not stripped:
        return section
    if not graphs:
        raise ValueError("expected a line '=== ACALSim IR: NAME ===' first")
    ir = graphs[-1]
    key, _, value = stripped.partition(": ")
    if stripped in ("Tensors:", "Operations:"):
        return stripped
    if key in _LISTS:
        setattr(ir, _LISTS[key], [tuple(v) if isinstance(v, tuple) else v for v in ast.literal_eval(value)])
    elif key == "Prepared":
        ir.prepared = tuple(ast.literal_eval(value))
    elif section == "Tensors:":
        _read_tensor(stripped, ir)
    elif section == "Operations:":
        body, notes = _split_notes(re.sub(r"^\d+: ", "", stripped))
        ir.add_op(_read_op(body, notes))
    else:
        raise ValueError("expected 'Tensors:' or 'Operations:' before it")
    return section


def _split_notes(line: str) -> tuple[str, dict[str, Any]]:
    at = _masked(line).find("  # ")
    return (line, {}) if at < 0 else (line[:at], ast.literal_eval(line[at + 4 :]))


def _read_tensor(line: str, ir: ACALSimIR) -> None:
    body, notes = _split_notes(line)
    found = _TENSOR.fullmatch(body)
    if found is None:
        raise ValueError("expected NAME: (DIMS) DTYPE [input|param|output]")
    marks = notes.get("marks", [f"is_{found['mark']}"] if found["mark"] else [])
    shape = tuple(int(d) for d in found["shape"].split(",") if d.strip())
    desc = ir.add_tensor(TensorDesc(found["name"], shape, found["dtype"]))
    for mark in marks:
        setattr(desc, mark, True)
    desc.memory_addr, desc.strides = notes.get("memory_addr"), notes.get("strides")
    if "argument" in notes:
        ir.arguments[desc.name] = notes["argument"]
    if found["data"]:
        values = json.loads(found["data"])
        ir.constants[desc.name] = torch.tensor(values, dtype=getattr(torch, desc.dtype)).reshape(shape)


def _read_op(text: str, notes: dict[str, Any]) -> ACALSimOp:
    found = _CALL.fullmatch(text.strip())
    if found is None:
        raise ValueError("expected OUTPUTS = TYPE(INPUTS) {ATTRIBUTES}")
    if found["type"] not in ACALSimOpType.__members__:
        raise ValueError(f"there is no operation {found['type']}")
    rest, attrs = found["rest"].strip(), {}
    body: tuple[ACALSimOp, ...] = ()
    if rest.startswith("{ "):
        end = _masked(rest).index(" }")
        parts = _split(rest[2:end], "; ")
        body = tuple(_read_op(p, n) for p, n in zip(parts, notes.get("body", [{}] * len(parts)), strict=True))
        rest = rest[end + 2 :].strip()
    if rest:
        attrs = dict(_read_attribute(item) for item in _split(rest.removeprefix("{").removesuffix("}")))
    kept = {name: notes[name] for name in _NOTED if name in notes}
    return ACALSimOp(
        ACALSimOpType[found["type"]],
        kept.pop("name", ""),
        _names(found["inputs"]),
        _names(found["outputs"] or ""),
        attrs,
        body=body,
        **kept,
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _masked(text: str) -> str:
    """The text with _ for all that stands in strings, so that what it is searched for is no part of one."""
    return _STRING.sub(lambda found: "_" * len(found[0]), text)


def _split(text: str, separator: str = ",") -> list[str]:
    """Parts between separators that stand in no bracket and in no string."""
    parts, depth, start = [], 0, 0
    masked = _masked(text)
    for i, c in enumerate(masked):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and masked.startswith(separator, i):
            parts.append(text[start:i])
            start = i + len(separator)
    return [*parts, text[start:]]


def _read_attribute(item: str) -> tuple[str, Any]:
    key, equals, value = item.strip().partition("=")
    if not equals:
        raise ValueError(f"{item.strip()!r} is not KEY=VALUE")
    if value in ("inf", "-inf", "nan"):
        return key, math.nan if value == "nan" else float(value)
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
