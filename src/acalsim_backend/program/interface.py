"""How the caller of a Program sees it: which arguments its tensors are bound to, and where its results lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from acalsim_backend.program.program import Program
from acalsim_backend.program.view import View


@dataclass(frozen=True)
class Result:
    """A tensor that the caller gets: where it lies, and what an error or a comment calls it."""

    view: View
    label: str


@dataclass(frozen=True)
class Mutation:
    """An argument that has the value ``result`` after a run."""

    argument: int
    result: Result


@dataclass(frozen=True)
class Interface:
    """A Program with the calling convention of the graph that it was made from.

    ``arguments`` gives INPUT and WEIGHT tensors by id their positions among the caller's arguments. ``results`` are the
    tensors among the outputs, in order. ``prepare`` is the same for the Program that computes what depends on weights
    alone; its arguments are the same caller's.
    """

    program: Program
    arguments: Mapping[int, int]
    results: tuple[Result, ...]
    mutations: tuple[Mutation, ...] = ()
    prepare: Interface | None = None
