"""Runs a captured graph's Program on a session: binds tensors, keeps weights resident, brings outputs back."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from acalsim_backend.errors import InputError, UsageError
from acalsim_backend.program.interface import Interface
from acalsim_backend.program.program import Tensor, TensorKind
from acalsim_backend.program.snapshot import Snapshot
from acalsim_backend.program.view import View
from acalsim_backend.run.weights import Resident, WeightCache
from acalsim_backend.tensors import TORCH_DTYPES, laid_over, raw_bytes

if TYPE_CHECKING:
    from acalsim_backend.codegen.generated import GeneratedProgram
    from acalsim_backend.run.heap import Block
    from acalsim_backend.run.result import RunResult
    from acalsim_backend.run.session import LoadedProgram, Session


@dataclass(eq=False)
class _Prepared:
    """Results of a prepare Program for one set of weights."""

    sources: tuple[weakref.ref[Resident], ...]
    blocks: dict[int, Block]
    generations: tuple[int, ...] | None = None
    """Those of the sources when they were computed; None: they were not yet."""

    @property
    def is_gone(self) -> bool:
        return any(source() is None for source in self.sources)


class Executable:
    """A Program on a session, called with a captured graph's arguments.

    Any number of weight sets may run through it; each keeps its own prepared data. ``generated`` runs the Program in
    its C form instead of its image. Guest memory is given back when the Executable dies.
    """

    def __init__(
        self,
        interface: Interface,
        session: Session,
        weights: WeightCache,
        generated: GeneratedProgram | None = None,
    ) -> None:
        self.interface = interface
        self.program = interface.program
        self.generated = generated
        self._session = session
        self._weights = weights
        self._loaded: LoadedProgram | None = session.load(self.program)
        self._prepare = session.load(interface.prepare.program) if interface.prepare else None
        self._prepared: dict[tuple[int, ...], _Prepared] = {}
        session.register(self)

    @property
    def nbytes(self) -> int:
        """Guest RAM that belongs to this Executable: images, buffers and what was prepared, in bytes."""
        loaded = [p for p in (self._loaded, self._prepare) if p is not None]
        blocks = [b for p in loaded for b in (p.image, *p.buffers.values())]
        blocks += [b for entry in self._prepared.values() for b in entry.blocks.values()]
        return sum(block.nbytes for block in blocks)

    def run(self, args: Sequence[Any], inference: bool = False) -> tuple[list[torch.Tensor], RunResult]:
        """Run once on the captured graph's arguments; returns its result tensors and what the machine measured.

        Arguments that the graph writes to are changed. Results are inference tensors if ``inference`` is set.

        Raises:
            InputError: an argument that is absent, no tensor, or of another shape or element type than the Program's.
        """
        with self._session.lock:
            result, prepared = self._run(args)
            with torch.inference_mode(inference):
                return self._collect(args, result, prepared), result

    def _run(self, args: Sequence[Any]) -> tuple[RunResult, dict[int, Block]]:
        if self.generated is not None:
            return self.generated.run(self.snapshot(args)), self._prepare_weights(args)
        bindings: dict[int, Block | np.ndarray[Any, Any]] = {}
        weights: dict[int, torch.Tensor] = {}
        for number, position in self.interface.arguments.items():
            value = _argument(args, position, self.program.tensors[number])
            if self.program.tensors[number].kind is TensorKind.WEIGHT:
                weights[number] = value
            else:
                bindings[number] = raw_bytes(value)
        held = self._weights.bind_all(list(weights.values()))  # a resident's block is bound by address alone
        bindings.update((number, resident.block) for number, resident in zip(weights, held, strict=True))
        prepared = self._prepare_weights(args)
        bindings.update(prepared)
        if self._loaded is None:
            raise UsageError(f"{self.program.name} was closed with its backend; compile the model again")
        return self._session.run(self._loaded, bindings), prepared

    def snapshot(self, args: Sequence[Any]) -> Snapshot:
        """The Program with the weights and inputs in ``args``; what depends on weights is computed on the session.

        Raises:
            InputError: as ``run`` does.
        """
        with self._session.lock:
            data = {number: block.array.tobytes() for number, block in self._prepare_weights(args).items()}
            for number, position in self.interface.arguments.items():
                data[number] = raw_bytes(_argument(args, position, self.program.tensors[number])).tobytes()
        results = (*self.interface.results, *(m.result for m in self.interface.mutations))
        return Snapshot(
            self.program.name, self.program, data, tuple(r.view for r in results), tuple(r.label for r in results)
        )

    def close(self) -> None:
        """Give guest memory back, and end the machine that runs the C form, if any; it cannot run any more."""
        with self._session.lock:
            self._loaded = self._prepare = None
            self._prepared.clear()
            if self.generated is not None:
                self.generated.close()

    def reclaim(self) -> None:
        """Forget what was prepared from weights that no longer exist."""
        self._prepared = {key: entry for key, entry in self._prepared.items() if not entry.is_gone}

    def _prepare_weights(self, args: Sequence[Any]) -> dict[int, Block]:
        """Blocks of the PREPARED tensors, computed again on the machine when a weight changed."""
        inner, link = self.interface.prepare, self.program.prepare
        if inner is None or link is None or self._prepare is None:
            return {}
        weights = {n: _argument(args, position, inner.program.tensors[n]) for n, position in inner.arguments.items()}
        sources = {number: self._weights.bind(weight) for number, weight in weights.items()}
        key = tuple(id(r) for r in sources.values())
        generations = tuple(r.generation for r in sources.values())
        entry = self._prepared.get(key)
        if entry is not None and entry.is_gone:  # other weights at the same addresses
            entry = None
        if entry is None:
            self.reclaim()
            blocks = {owner: self._session.allocate(self.program.tensors[owner].nbytes) for _, owner in link.results}
            entry = self._prepared[key] = _Prepared(tuple(map(weakref.ref, sources.values())), blocks)
        if entry.generations != generations:
            bindings: dict[int, Block | np.ndarray[Any, Any]] = {t: r.block for t, r in sources.items()}
            bindings.update({own: entry.blocks[owner] for own, owner in link.results})
            self._session.run(self._prepare, bindings)
            entry.generations = generations
        return entry.blocks

    def _collect(self, args: Sequence[Any], result: RunResult, prepared: dict[int, Block]) -> list[torch.Tensor]:
        bases: dict[int, torch.Tensor] = {}

        def base(number: int) -> torch.Tensor:
            if number not in bases:
                bases[number] = self._base(number, args, result, prepared)
            return bases[number]

        values = [_viewed(base(r.view.tensor), r.view) for r in self.interface.results]
        written = [_viewed(base(m.result.view.tensor), m.result.view) for m in self.interface.mutations]
        if len(written) > 1:  # one argument's new value may be another one's old value
            written = [
                value.clone() if mutation.result.view.tensor in self.interface.arguments else value
                for mutation, value in zip(self.interface.mutations, written, strict=True)
            ]
        with torch.no_grad():
            for mutation, value in zip(self.interface.mutations, written, strict=True):
                args[mutation.argument].copy_(value)
        return values

    def _base(self, number: int, args: Sequence[Any], result: RunResult, prepared: dict[int, Block]) -> torch.Tensor:
        """The whole tensor that an output is, or is a view of."""
        tensor = self.program.tensors[number]
        if number in self.interface.arguments:
            value = args[self.interface.arguments[number]]
            return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
        if tensor.nbytes == 0:
            return torch.empty(tensor.shape, dtype=TORCH_DTYPES[tensor.dtype])
        if tensor.kind is TensorKind.PREPARED:
            raw = prepared[number].array.copy()
        elif tensor.kind is TensorKind.CONSTANT:
            raw = np.frombuffer(bytearray(tensor.data or b""), np.uint8)
        else:
            raw = result.outputs[number]
        return laid_over(torch.from_numpy(raw), TORCH_DTYPES[tensor.dtype], tensor.shape)


def _argument(args: Sequence[Any], position: int, tensor: Tensor) -> torch.Tensor:
    """The argument at ``position``, if it is what the Program takes for ``tensor``."""
    got = args[position] if position < len(args) else None
    dtype = TORCH_DTYPES[tensor.dtype]
    if isinstance(got, torch.Tensor) and got.dtype is dtype and got.shape == tensor.shape:
        return got
    described = f"{tuple(got.shape)} {got.dtype}" if isinstance(got, torch.Tensor) else type(got).__name__
    raise InputError(
        f"argument {position}, {tensor.name}: got {described if position < len(args) else 'none'}, "
        f"expected a tensor of {tensor.shape} {dtype}"
    )


def _viewed(base: torch.Tensor, view: View) -> torch.Tensor:
    """The part of ``base`` that a view describes; ``base`` itself where that is all of it."""
    if tuple(base.shape) == view.dims and view.is_contiguous and view.offset == 0:
        return base
    dense = base.contiguous()
    first = dense.storage_offset() + view.offset // view.dtype.itemsize
    return laid_over(dense, dense.dtype, view.dims, view.strides, first)
