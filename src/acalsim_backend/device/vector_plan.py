"""Where the intermediate results of a VECTOR command are kept when it runs one operation at a time over whole tensors.

A result is written straight into an output's memory, or over an argument that is not needed any more, wherever nothing
that is still read lies there: a chain such as add and relu then costs no memory besides its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acalsim_backend.program.commands import Vector
from acalsim_backend.program.enums import DType, VectorOp
from acalsim_backend.program.view import View


@dataclass(frozen=True)
class Fresh:
    """A new temporary."""


@dataclass(frozen=True)
class Over:
    """The temporary that ``register`` holds, an argument's."""

    register: int


@dataclass(frozen=True)
class Into:
    """The memory of output number ``output``."""

    output: int


Storage = Fresh | Over | Into


@dataclass
class _Value:
    """What one instruction computes."""

    dims: tuple[int, ...]
    dtype: DType
    last_use: int
    loaded: View | None = None
    storage: Storage | None = None


def distinct_dims(view: View) -> tuple[int, ...]:
    """Dims with broadcast axes of size 1."""
    return tuple(d if s else min(d, 1) for d, s in zip(view.dims, view.strides, strict=True))


def plan_storage(command: Vector) -> list[Storage | None]:
    """Storage of each instruction's result.

    None for a CONST, for a LOAD that may stay a view of the input, and for a STORE of what already lies in the output.
    """
    plan: list[Storage | None] = []
    values, reads = _values(command)
    stored = _stored_values(command, reads)
    held_until = dict.fromkeys(stored, -1)
    for at, instruction in enumerate(command.instructions):
        value = values[at]
        if instruction.op is VectorOp.STORE:
            source = values[reads[at][0]]
            in_place = source is not None and source.storage == Into(instruction.dst)
            plan.append(None if in_place else Into(instruction.dst))
        elif value is None or instruction.op is VectorOp.CONST:
            plan.append(None)
        elif value.loaded is not None:
            plan.append(Fresh() if _is_overwritten(command, value.loaded, value.last_use) else None)
        else:
            value.storage = _choose(command, at, values, reads, stored, held_until)
            plan.append(value.storage)
    return plan


def _values(command: Vector) -> tuple[list[_Value | None], list[tuple[int, ...]]]:
    """The value of each instruction, and the instructions whose values it reads."""
    values: list[_Value | None] = []
    reads: list[tuple[int, ...]] = []
    writer: dict[int, int] = {}
    for at, i in enumerate(command.instructions):
        sources = tuple(writer[r] for r in i.reads)
        reads.append(sources)
        dims: tuple[int, ...] = ()
        for source in sources:
            value = values[source]
            assert value is not None  # only STOREs have none, and nothing reads them
            value.last_use = at
            dims = _broadcast(dims, value.dims)
        if i.op is VectorOp.STORE:
            values.append(None)
            continue
        loaded = command.inputs[i.a] if i.op is VectorOp.LOAD else None
        values.append(_Value(distinct_dims(loaded) if loaded else dims, i.dtype, at, loaded))
        writer[i.dst] = at
    return values, reads


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if not a or not b:
        return a or b
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


def _stored_values(command: Vector, reads: Sequence[tuple[int, ...]]) -> dict[int, int]:
    """For each output whose memory may hold intermediate results, the instruction whose value it gets in the end."""
    stores: dict[int, list[int]] = {}
    for at, i in enumerate(command.instructions):
        if i.op is VectorOp.STORE:
            stores.setdefault(i.dst, []).append(reads[at][0])
    return {
        j: sources[0]
        for j, sources in stores.items()
        if len(sources) == 1
        and not any(_overlap(command.outputs[j], o) for k, o in enumerate(command.outputs) if k != j)
    }


def _overlap(a: View, b: View) -> bool:
    (a_low, a_high), (b_low, b_high) = a.extent, b.extent
    return a_low < b_high and b_low < a_high


def _choose(
    command: Vector,
    at: int,
    values: Sequence[_Value | None],
    reads: Sequence[tuple[int, ...]],
    stored: dict[int, int],
    held_until: dict[int, int],
) -> Storage:
    value = values[at]
    assert value is not None
    for j in sorted(stored, key=lambda j: stored[j] != at):
        out = command.outputs[j]
        keeps = stored[j] == at
        if (
            out.dtype is value.dtype
            and out.dims == value.dims
            and held_until[j] <= at
            and (keeps or value.last_use < _store_of(command, reads, stored[j]))
            and _is_dead(out, at, values, reads)
        ):
            held_until[j] = len(values) if keeps else value.last_use
            return Into(j)
    for register, source in zip(command.instructions[at].reads, reads[at], strict=True):
        argument = values[source]
        if (
            argument is not None
            and isinstance(argument.storage, Fresh | Over)
            and argument.last_use == at
            and argument.dims == value.dims
            and argument.dtype is value.dtype
        ):
            return Over(register)
    return Fresh()


def _is_overwritten(command: Vector, loaded: View, last_use: int) -> bool:
    """Whether a STORE before instruction ``last_use`` writes where the input lies: LOADs come before all STOREs."""
    return any(
        i.op is VectorOp.STORE and _overlap(command.outputs[i.dst], loaded) for i in command.instructions[:last_use]
    )


def _store_of(command: Vector, reads: Sequence[tuple[int, ...]], source: int) -> int:
    """The first STORE of a value."""
    return next(at for at, i in enumerate(command.instructions) if i.op is VectorOp.STORE and reads[at][0] == source)


def _is_dead(out: View, at: int, values: Sequence[_Value | None], reads: Sequence[tuple[int, ...]]) -> bool:
    """Whether no input that overlaps ``out`` is read after instruction ``at``; it may itself read ``out`` exactly."""
    for value in values:
        view = value.loaded if value else None
        if value is None or view is None or value.last_use < at or not _overlap(view, out):
            continue
        same = (view.offset, view.dtype, view.dims, view.strides) == (out.offset, out.dtype, out.dims, out.strides)
        if value.last_use > at or not same:
            return False
    return True
