"""hoist: what depends on weights alone moves to the prepare graph, to run once per version of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from acalsim_backend.ir import ACALSimIR
from acalsim_backend.ops import operator_of
from acalsim_backend.passes.fold import remove_dead
from acalsim_backend.passes.rewrite import depends_on_weights_alone
from acalsim_backend.passes.target import Target


@dataclass(frozen=True)
class Hoist:
    """Views stay where they are used (they cost nothing) and are repeated in the prepare graph where it needs them."""

    name: str = "hoist"
    after: tuple[str, ...] = ("fold_batch_norm",)

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        static = depends_on_weights_alone(ir)
        inner = [op for op in ir.ops if op.outputs and all(n in static for n in op.outputs)]
        moved = [op for op in inner if not operator_of(op).is_view]
        if not moved:
            return ir
        results = {name for op in moved for name in op.outputs}
        main = remove_dead(replace(ir, ops=[op for op in ir.ops if not results.intersection(op.outputs)]))
        read = {name for op in main.ops for name in op.inputs} | ir.escaping()
        prepared = tuple(name for op in moved for name in op.outputs if name in read)
        prepare = ACALSimIR(
            f"{ir.name}_prepare",
            tensors={n: replace(t, is_input=False, is_output=False) for n, t in ir.tensors.items() if n in static},
            ops=inner,
            output_names=list(prepared),
            constants=dict(ir.constants),
            arguments={n: p for n, p in ir.arguments.items() if n in static},
        )
        tensors = main.tensors | {n: ir.tensors[n] for n in prepared}
        return replace(main, tensors=tensors, prepare=_pruned(prepare), prepared=prepared)


def _pruned(prepare: ACALSimIR) -> ACALSimIR:
    """Without weights that the prepared tensors do not need."""
    prepare = remove_dead(prepare)
    used = {name for op in prepare.ops for name in (*op.inputs, *op.outputs)}
    return replace(
        prepare,
        tensors={n: t for n, t in prepare.tensors.items() if n in used},
        arguments={n: p for n, p in prepare.arguments.items() if n in used},
    )
