"""link: numbers, dependencies, and the finished Program."""

from __future__ import annotations

from dataclasses import replace

from acalsim_backend.ops.lowering import Lowered
from acalsim_backend.program.dependencies import dependencies
from acalsim_backend.program.program import Prepare, Program, TensorKind


def link(lowered: Lowered, prepare: Prepare | None) -> Program:
    """The Program of lowered, placed and planned commands."""
    deps = dependencies(lowered.commands, lowered.tensors)
    commands = tuple(replace(c, id=i, deps=d) for i, (c, d) in enumerate(zip(lowered.commands, deps, strict=True)))
    fetched = [v.tensor for v in (*lowered.outputs, *(v for _, v in lowered.mutations))]
    return Program(
        name=lowered.name,
        tensors=lowered.tensors,
        commands=commands,
        inputs=tuple(t.id for t in lowered.tensors if t.kind is TensorKind.INPUT),
        outputs=tuple(dict.fromkeys(fetched)),
        arena_size=lowered.arena_size,
        origins=lowered.origins,
        prepare=prepare,
    )
