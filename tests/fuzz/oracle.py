"""Is what the backend makes of a program right? Eager says what right is; aot_eager, whose fault a difference is."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from programs import Program, is_valid, reductions
from torch._decomp import core_aten_decompositions
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from acalsim_backend.backend import ACALSimBackend

TOLERANCE = {
    torch.float64: (1e-7, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (4e-3, 1e-3),
    torch.bfloat16: (3e-2, 1e-2),
}
KINDS = (
    "crash",
    "count",
    "dtype",
    "shape",
    "value",
    "mutation",
    "gradient",
    "flags",
    "aliasing",
    "inference",
    "strides",
)
"""What can be wrong, the worst first."""
SOFT = ("strides",)
"""Reported, and no failure: PyTorch promises no strides where a layout is ambiguous."""


@dataclass
class Result:
    """All that a call leaves behind."""

    outputs: list[torch.Tensor]
    arguments: list[torch.Tensor]
    gradients: list[torch.Tensor | None]
    relations: list[tuple[int, int]]
    identities: list[int]


@dataclass(frozen=True)
class Finding:
    """What is wrong. ``signature`` groups findings of one cause."""

    kind: str
    signature: str
    detail: str = ""


class Crash(Exception):  # noqa: N818  # carries one, and is none
    """An exception of a program that eager runs."""


def call(function: Callable[..., Any], program: Program, position: int) -> Result:
    """Call a function with the arguments of one call of the program."""
    arguments = program.arguments(program.calls[position])
    leaves = [a for a in arguments if a.requires_grad]
    with program.mode():
        outputs = list(function(*arguments))
    gradients: list[torch.Tensor | None] = []
    if program.needs_gradient and leaves:
        parts = [o for o in outputs if o.requires_grad]
        if parts:
            weights = [_weights(o) for o in parts]
            gradients = list(torch.autograd.grad(parts, leaves, weights, allow_unused=True))
    everything = [*outputs, *arguments]
    storages = [t.untyped_storage()._cdata for t in everything]
    relations = [
        (i, j) for i in range(len(everything)) for j in range(i) if storages[i] == storages[j] and i < len(outputs)
    ]
    identities = [next((j for j, other in enumerate(everything[len(outputs) :]) if o is other), -1) for o in outputs]
    return Result(outputs, arguments, gradients, relations, identities)


def _weights(output: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(output.numel())
    return torch.randint(-2, 3, output.shape, generator=generator).to(output.dtype)


def compare(got: Result, expected: Result) -> Finding | None:
    """The worst difference between two results."""
    if len(got.outputs) != len(expected.outputs):
        return Finding("count", "outputs", f"{len(got.outputs)} tensors, expected {len(expected.outputs)}")
    findings = []
    groups = (("value", got.outputs, expected.outputs), ("mutation", got.arguments, expected.arguments))
    for kind, ours, theirs in groups:
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            findings += _differences(f"{'output' if kind == 'value' else 'argument'} {i}", kind, a, b)
    if len(got.gradients) != len(expected.gradients):
        findings.append(Finding("flags", "requires_grad", "the outputs' requires_grad differs"))
    else:
        for i, (own, true) in enumerate(zip(got.gradients, expected.gradients, strict=True)):
            if (own is None) != (true is None):
                findings.append(Finding("gradient", "None", f"gradient {i}: {own}, expected {true}"))
            elif own is not None and true is not None:
                findings += [f for f in _differences(f"gradient {i}", "gradient", own, true) if f.kind != "strides"]
    for i, (a, b) in enumerate(zip(got.outputs, expected.outputs, strict=True)):
        if a.requires_grad != b.requires_grad:
            findings.append(Finding("flags", "output", f"output {i}: requires_grad {a.requires_grad}"))
        if a.is_inference() != b.is_inference():
            findings.append(Finding("inference", "output", f"output {i}: is_inference {a.is_inference()}"))
    if got.relations != expected.relations or got.identities != expected.identities:
        detail = f"shares memory {got.relations}, expected {expected.relations}; is argument {got.identities}, "
        findings.append(Finding("aliasing", "relations", f"{detail}expected {expected.identities}"))
    return min(findings, key=lambda f: KINDS.index(f.kind), default=None)


def _differences(name: str, kind: str, got: torch.Tensor, expected: torch.Tensor) -> list[Finding]:
    got, expected = got.detach(), expected.detach()
    if got.dtype != expected.dtype:
        return [Finding("dtype", kind, f"{name}: {got.dtype}, expected {expected.dtype}")]
    if got.shape != expected.shape:
        return [Finding("shape", kind, f"{name}: {tuple(got.shape)}, expected {tuple(expected.shape)}")]
    if not is_close(got, expected):
        return [Finding(kind, str(expected.dtype), f"{name}: {got.tolist()}, expected {expected.tolist()}")]
    if _strides(got) != _strides(expected):
        return [Finding("strides", kind, f"{name}: {got.stride()}, expected {expected.stride()}")]
    return []


def is_close(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """Within the tolerance of the dtype."""
    rtol, atol = TOLERANCE.get(expected.dtype, (0.0, 0.0))
    return torch.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)


def _strides(value: torch.Tensor) -> list[tuple[int, int]]:
    return [(n, s) for n, s in zip(value.shape, value.stride(), strict=True) if n > 1] if value.numel() else []


def _boxed(gm: torch.fx.GraphModule, _: Sequence[Any]) -> Any:
    return make_boxed_func(gm.forward)


aot_eager = aot_autograd(
    fw_compiler=_boxed,
    bw_compiler=_boxed,
    inference_compiler=_boxed,
    decompositions=core_aten_decompositions(),
    keep_inference_input_mutations=True,
)
"""PyTorch's own capture with its own decompositions, run eagerly. This project's may be what is wrong."""


class Backends:
    """A backend for each placement and machine, given up after some programs, so that one machine holds few."""

    def __init__(self, programs: int = 50) -> None:
        self.limit = programs
        self.made: dict[tuple[str, str], tuple[ACALSimBackend, int]] = {}

    def get(self, program: Program) -> ACALSimBackend:
        key = program.place, program.machine
        backend, used = self.made.pop(key, (None, 0))
        if backend is not None and used >= self.limit:
            backend.close()
            backend, used = None, 0
        if backend is None:
            backend = ACALSimBackend(mode="simulate", place=program.place, machine=program.machine)
        self.made[key] = backend, used + 1
        return backend


def difference(program: Program, backend: Any, expected: Sequence[Result]) -> Finding | None:
    """What is wrong with the program through a backend."""
    torch._dynamo.reset()
    compiled = torch.compile(program.function(), backend=backend, dynamic=program.dynamic)
    worst: Finding | None = None
    for position, right in enumerate(expected):
        try:
            found = compare(call(compiled, program, position), right)
        except Exception as error:
            return Finding("crash", *describe(error))
        if found is not None and (worst is None or KINDS.index(found.kind) < KINDS.index(worst.kind)):
            worst = found
    return worst


def describe(error: BaseException) -> tuple[str, str]:
    """Signature and text of an exception."""
    inner = getattr(error, "inner_exception", None) or error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    frames = [f for f in traceback.extract_tb(inner.__traceback__) if "acalsim_backend" in f.filename]
    where = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].name}" if frames else "outside"
    message = (str(inner).strip() or "no message").splitlines()[0][:300]
    words = re.sub(r"(?<=\W)[a-z]+_\d+", "t", re.sub(r"\d+", "N", message))
    return f"{type(inner).__name__} in {where}: {words[:90]}", f"{type(inner).__name__}: {message}"


class Noise(TorchDispatchMode):
    """Moves results whose last bits are nobody's promise by a few of them, and notes what has no defined value.

    That is a cast that C leaves undefined, and moments of a row whose squares overflow: PyTorch's combination of
    partial moments then gives NaN or infinity by how the row's length divides (``inf * 0``); so does its GELU of
    infinity, by where the element stands (NaN in vector code, infinity in scalar code). And it is the sign of NaN,
    which IEEE 754 leaves to the processor: x86 computes negative ones, RISC-V positive ones.
    """

    INEXACT = re.compile(
        r"exp|log|sqrt|reciprocal|sin|cos|tan|sigmoid|erf|gelu|silu|mish|elu|pow|softplus|sum|mean|var|std|norm|prod|"
        r"mm|mv|dot|conv|linear|softmax|einsum|hypot|lerp|addc|attention|pool|upsample|loss|backward|div|atan|glu|"
        r"dist|outer|addr|baddbmm|interpolate|hard|binary_cross"
    )
    CASTS = re.compile(r"_to_copy|copy_|^to$|fill|type_as|sum|prod|mean|masked|where|scatter|index|clamp|full|scalar")
    MOMENTS = re.compile(r"(layer|group|batch|instance)_norm|^var|^std|_var|_std")

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = torch.Generator().manual_seed(seed)
        self.undefined = ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        exact = not self.INEXACT.search(name)
        if not exact and not function._schema.is_mutable:
            args = pytree.tree_map(lambda t: self._moved(t, (torch.float32, torch.float64)), args)
        result = function(*args, **kwargs)
        if name == "gelu":  # x * (1 + tanh(...)): of what cancels, nothing below an eps of x is left
            result = result + args[0] * torch.finfo(result.dtype).eps * self._signs(result)
            self._note("GELU of infinity", args[0].isposinf())
        if self.CASTS.search(name):
            self._note_cast(args, result)
        if self.MOMENTS.search(name):
            self._note_moments(args)
        if name.startswith(("copysign", "signbit")) and isinstance(args[-1], torch.Tensor):
            self._note("sign of NaN", args[-1].isnan())
        if function is torch.ops.aten.view.dtype:
            self._note("sign of NaN", args[0].isnan())
        if exact:
            return result
        if not function._schema.is_mutable:
            return pytree.tree_map(lambda t: self._moved(t, tuple(TOLERANCE)), result)
        if isinstance(result, torch.Tensor) and result.is_floating_point() and isinstance(args[0], torch.Tensor):
            counted = () if result.is_inference() else (result,)
            with _unsafe_preserve_version_counter(counted):
                result.copy_(self._moved(result, tuple(TOLERANCE)))
        return result

    def _moved(self, value: Any, dtypes: Sequence[torch.dtype]) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype not in dtypes:
            return value
        drawn = torch.rand(value.shape, generator=self.generator, dtype=torch.float64) * 4 - 2
        moved = (value.double() * (1 + torch.finfo(value.dtype).eps * drawn)).to(value.dtype)
        return torch.empty_like(value).copy_(torch.where(torch.isfinite(moved), moved, value))

    def _signs(self, like: torch.Tensor) -> torch.Tensor:
        """-1, 0 or 1 for each element."""
        return torch.randint(-1, 2, like.shape, generator=self.generator).to(like.dtype)

    def _note(self, what: str, where: torch.Tensor) -> None:
        self.undefined = self.undefined or (what if bool(where.any()) else "")

    def _note_moments(self, args: Any) -> None:
        x = args[0]
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            computed = torch.float64 if x.dtype is torch.float64 else torch.float32
            finite = x[torch.isfinite(x)].to(computed)
            if not bool(torch.isfinite(finite.square().sum())):
                self.undefined = "overflowing moments"

    def _note_cast(self, args: Any, result: Any) -> None:
        whole = [
            t
            for t in pytree.tree_leaves(result)
            if isinstance(t, torch.Tensor) and not t.is_floating_point() and t.dtype is not torch.bool
        ]
        if not whole:
            return
        info = torch.iinfo(whole[0].dtype)
        for value in pytree.tree_leaves(args):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
                wide = value.double()
                inside = (wide > info.min - 1) & (wide < info.max + (info.bits < 53))
                self.undefined = self.undefined or ("" if bool(inside.all()) else "undefined cast")
            elif isinstance(value, float) and not info.min - 1 < value < info.max + (info.bits < 53):
                self.undefined = self.undefined or "undefined cast"


def is_sensitive(program: Program, expected: Sequence[Result], seeds: Sequence[int] = range(5)) -> str:
    """Why the program's values are not determined to the tolerance; "" where they are."""
    for seed in seeds:
        noise = Noise(seed)
        try:
            for position, right in enumerate(expected):
                with noise:
                    got = call(program.function(), program, position)
                if noise.undefined:
                    return noise.undefined
                found = compare(got, right)
                if found is not None and found.kind in ("value", "mutation", "gradient"):
                    return "ill-conditioned"
        except Exception:
            return ""
    return ""


@dataclass
class Verdict:
    """``outcome`` is right, invalid, ours, soft, pytorch, ill-conditioned, or what is undefined: see Noise."""

    outcome: str
    finding: Finding | None = None
    reference: Finding | None = field(default=None, repr=False)


def judge(program: Program, backends: Backends, known: Finding | None = None) -> Verdict:
    """Run a program in eager and through the backend, and say whose fault a difference is.

    ``known`` is what a larger program showed: the same exception again needs no second opinion.
    """
    try:
        expected = [call(program.function(), program, i) for i in range(len(program.calls))]
        again = [call(program.function(), program, i) for i in range(len(program.calls))]
    except Exception:
        return Verdict("invalid")
    if any(compare(a, b) for a, b in zip(again, expected, strict=True)):
        return Verdict("invalid")
    found = difference(program, backends.get(program), expected)
    if found is None:
        return Verdict("right")
    if known is not None:
        if (found.kind, found.signature) == ("crash", known.signature):
            return Verdict("ours", found)
        if found.kind != known.kind:
            return Verdict("another", found)
    reference = difference(program, aot_eager, expected)
    if reference is not None and KINDS.index(reference.kind) <= KINDS.index(found.kind):
        return Verdict("pytorch", found, reference)
    if found.kind in ("value", "mutation", "gradient"):
        why = is_sensitive(program, expected)
        if why:
            return Verdict(why, found)
    return Verdict("soft" if found.kind in SOFT else "ours", found, reference)


def minimise(program: Program, finding: Finding, backends: Backends, attempts: int = 100) -> Program:
    """The smallest program found that is still wrong in the same way."""

    def still(candidate: Program) -> bool:
        verdict = judge(candidate, backends, finding)
        if verdict.outcome not in ("ours", "soft") or verdict.finding is None:
            return False
        return verdict.finding.kind == finding.kind and (
            finding.kind != "crash" or verdict.finding.signature == finding.signature
        )

    smaller = True
    while smaller:
        smaller = False
        for candidate in reductions(program):
            if candidate == program or not is_valid(candidate):
                continue
            attempts -= 1
            if attempts < 0:
                return program
            if still(candidate):
                program, smaller = candidate, True
                break
    return program
