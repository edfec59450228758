"""Runs compiled graphs on a session: binds tensors, keeps weights resident, and brings outputs back to PyTorch."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from acalsim_backend.codegen.snapshot import Snapshot
from acalsim_backend.ir import DTYPES, ACALSimOp
from acalsim_backend.ops.evaluate import evaluate, with_strides
from acalsim_backend.passes import Compiled
from acalsim_backend.program.abi import View
from acalsim_backend.program.program import Program, TensorKind
from acalsim_backend.weights import Resident, WeightCache, raw_bytes

if TYPE_CHECKING:
    from acalsim_backend.device.memory import Memory
    from acalsim_backend.generated import GeneratedProgram
    from acalsim_backend.machine.session import Block, RunResult, Session

_TORCH_DTYPES = {value: getattr(torch, name) for name, value in DTYPES.items()}


def guest_tensor(ram: Memory, view: View) -> torch.Tensor:
    """A zero-copy tensor over guest RAM; ``view.offset`` is an absolute address."""
    low, high = view.extent
    base = torch.from_numpy(ram.view(low, max(high - low, 0))).view(_TORCH_DTYPES[view.dtype])
    start = (view.offset - low) // view.dtype.itemsize
    return base.as_strided(view.dims, view.strides, start)


@dataclass
class HostCall:
    """One HOST command: runs an ATen operator on guest memory and keeps count of the time that takes."""

    op: ACALSimOp
    calls: int = 0
    seconds: float = 0.0

    def __call__(self, inputs: Sequence[View], outputs: Sequence[View], ram: Memory) -> None:
        start = time.perf_counter()
        tensors = {n: guest_tensor(ram, v) for n, v in zip(self.op.inputs, inputs, strict=True)}
        results = evaluate(self.op, tensors)
        for index, view in zip(self.op.results, outputs, strict=True):
            guest_tensor(ram, view).copy_(results[index])
        self.calls += 1
        self.seconds += time.perf_counter() - start


@dataclass(frozen=True)
class OutputSpec:
    """One output of the captured graph: an argument, a constant, or the next tensor that the IR lists."""

    kind: str  # "tensor", "argument" or "value"
    value: Any = None
    strides: tuple[int, ...] | None = None


@dataclass
class _Prepared:
    """Results of a prepare Program for one set of weights."""

    blocks: dict[int, Block]
    generations: tuple[int, ...]


@dataclass
class Executable:
    """A compiled graph on a session. Any number of weight sets may run through it; each keeps its own prepared data."""

    compiled: Compiled
    session: Session
    weights: WeightCache
    outputs: tuple[OutputSpec, ...]
    host_calls: list[HostCall] = field(default_factory=list)
    generated: GeneratedProgram | None = None
    """Runs the Program in its C form; None runs its image on the session."""
    _prepared: dict[tuple[int, ...], _Prepared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.host_calls = [HostCall(op) for op in self.compiled.lowered.host_calls]
        self.program = self.compiled.program
        if self.host_calls:
            self.program = replace(self.program, host_calls=tuple(self.host_calls))
        self._loaded = self.session.load(self.program)
        self._prepare = self.session.load(self.compiled.prepare.program) if self.compiled.prepare else None

    def run(self, args: Sequence[Any]) -> tuple[list[Any], RunResult]:
        """Run once on the captured graph's arguments; returns its outputs and what the machine measured."""
        if self.generated is not None:
            result = self.generated.run(self.snapshot(args))
            return self._collect(args, result, self._prepare_weights(args)), result
        bindings: dict[int, Block | np.ndarray[Any, Any]] = {}
        for tensor in self.program.tensors:
            if tensor.kind is TensorKind.WEIGHT:
                bindings[tensor.id] = self._weight(tensor.name, args).block
            elif tensor.kind is TensorKind.INPUT:
                bindings[tensor.id] = raw_bytes(args[self.compiled.ir.arguments[tensor.name]])
        prepared = self._prepare_weights(args)
        bindings.update(prepared)
        result = self.session.run(self._loaded, bindings)
        return self._collect(args, result, prepared), result

    def snapshot(self, args: Sequence[Any]) -> Snapshot:
        """The Program with the weights and inputs in ``args``; what depends on weights is computed on the session."""
        prepared = self._prepare_weights(args)
        data = {number: block.array.tobytes() for number, block in prepared.items()}
        for tensor in self.program.tensors:
            if tensor.kind in (TensorKind.WEIGHT, TensorKind.INPUT):
                data[tensor.id] = raw_bytes(args[self.compiled.ir.arguments[tensor.name]]).tobytes()
        lowered = self.compiled.lowered
        labels = [*self.compiled.ir.outputs, *(f"new value of {name}," for name, _ in lowered.mutations)]
        views = (*lowered.outputs, *(view for _, view in lowered.mutations))
        return Snapshot(self.program.name, self.program, data, views, tuple(labels))

    def unload(self) -> None:
        """Give the guest memory of the Programs and of what was prepared for them back; it cannot run any more."""
        for key in list(self._prepared):
            self._forget(key)
        for loaded in (self._loaded, self._prepare):
            if loaded is not None:
                self.session.unload(loaded)

    def _weight(self, name: str, args: Sequence[Any]) -> Resident:
        return self.weights.bind(args[self.compiled.ir.arguments[name]])

    def _prepare_weights(self, args: Sequence[Any]) -> dict[int, Block]:
        """Blocks of the PREPARED tensors, computed again on the machine when a weight changed."""
        inner, link = self.compiled.prepare, self.program.prepare
        if inner is None or link is None or self._prepare is None:
            return {}
        sources = {
            t.id: self.weights.bind(args[inner.ir.arguments[t.name]]) for t in inner.program.of_kind(TensorKind.WEIGHT)
        }
        key = tuple(id(r.block) for r in sources.values())
        generations = tuple(r.generation for r in sources.values())
        entry = self._prepared.get(key)
        if entry is not None and entry.generations == generations:
            return entry.blocks
        if entry is None:
            blocks = {owner: self.session.allocate(self.program.tensors[owner].nbytes) for _, owner in link.results}
            entry = self._prepared[key] = _Prepared(blocks, ())
            for source in sources.values():  # the results go when one of their weights goes
                weakref.finalize(source.block, self._forget, key)
        bindings: dict[int, Block | np.ndarray[Any, Any]] = {t: r.block for t, r in sources.items()}
        bindings.update({own: entry.blocks[owner] for own, owner in link.results})
        self.session.run(self._prepare, bindings)
        entry.generations = generations
        return entry.blocks

    def _forget(self, key: tuple[int, ...]) -> None:
        entry = self._prepared.pop(key, None)
        for block in entry.blocks.values() if entry else ():
            self.session.free(block)

    def _collect(self, args: Sequence[Any], result: RunResult, prepared: dict[int, Block]) -> list[Any]:
        bases: dict[int, torch.Tensor] = {}

        def base(tensor_id: int) -> torch.Tensor:
            if tensor_id not in bases:
                bases[tensor_id] = self._base(self.program, tensor_id, args, result, prepared)
            return bases[tensor_id]

        tensors = iter(self.compiled.lowered.outputs)
        values: list[Any] = []
        for spec in self.outputs:
            if spec.kind == "argument":
                values.append(args[spec.value])
            elif spec.kind == "value":
                values.append(spec.value)
            else:
                values.append(_restrided(base, next(tensors), spec.strides))
        for name, view in self.compiled.lowered.mutations:
            with torch.no_grad():
                args[self.compiled.ir.arguments[name]].copy_(_viewed(base(view.tensor), view))
        return values

    def _base(
        self, program: Program, tensor_id: int, args: Sequence[Any], result: RunResult, prepared: dict[int, Block]
    ) -> torch.Tensor:
        """The whole tensor that an output is, or is a view of."""
        tensor = program.tensors[tensor_id]
        if tensor.kind in (TensorKind.INPUT, TensorKind.WEIGHT):
            value = args[self.compiled.ir.arguments[tensor.name]]
            assert isinstance(value, torch.Tensor)
            return value
        if tensor.nbytes == 0:
            return torch.empty(tensor.shape, dtype=_TORCH_DTYPES[tensor.dtype])
        if tensor.kind is TensorKind.PREPARED:
            raw = prepared[tensor_id].array.copy()
        elif tensor.kind is TensorKind.CONSTANT:
            raw = np.frombuffer(bytearray(tensor.data or b""), np.uint8)
        else:
            raw = result.outputs[tensor_id]
        return torch.from_numpy(raw).view(_TORCH_DTYPES[tensor.dtype]).reshape(tensor.shape)


def _viewed(base: torch.Tensor, view: View) -> torch.Tensor:
    if base.is_contiguous() and tuple(base.shape) == view.dims and view.is_contiguous and view.offset == 0:
        return base
    dense = base.contiguous()
    return dense.as_strided(view.dims, view.strides, dense.storage_offset() + view.offset // view.dtype.itemsize)


def _restrided(base: Any, view: View, strides: tuple[int, ...] | None) -> torch.Tensor:
    """The output with the strides that PyTorch predicted, which its callers may rely on."""
    whole = base(view.tensor)
    if (
        tuple(whole.shape) == view.dims
        and view.is_contiguous
        and view.offset == 0
        and strides in (None, whole.stride())
    ):
        return whole  # type: ignore[no-any-return]
    value = _viewed(whole, view)
    return value if strides is None or value.stride() == strides else with_strides(value, strides)
