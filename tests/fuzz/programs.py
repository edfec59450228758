"""Random PyTorch programs: drawn from a seed, valid in eager, written out as Python that runs on its own."""

from __future__ import annotations

import contextlib
import functools
import itertools
import linecache
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from catalogue import CATALOGUE, DTYPES, FLOATS, Draw, Input, Statement
from torch.nn import functional as F  # noqa: N812  # its name everywhere

MAX_ELEMENTS = 2000
MAX_RANK = 7
CONTEXTS = ("no_grad", "inference_mode", "grad", "autocast", "autocast_grad")
CAPTURED = {
    "HALF": "torch.tensor(0.5)",
    "THREE": "torch.tensor(3)",
    "DOUBLE": "torch.tensor(2.5, dtype=torch.float64)",
    "FLAG": "torch.tensor(True)",
    "TINY": "torch.tensor(2e-8)",
    "VECTOR": "torch.tensor([1.0, -2.0, 3.0])",
}
SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e30, 1e-30)


@dataclass(frozen=True)
class Call:
    """One call of a program: where its values come from, and the sizes that have names."""

    seed: int
    sizes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Program:
    """A function of tensors and how it is called."""

    inputs: tuple[Input, ...]
    statements: tuple[Statement, ...]
    outputs: tuple[str, ...]
    calls: tuple[Call, ...]
    context: str = "no_grad"
    dynamic: bool | None = None
    place: str = "auto"
    machine: str = "unicorn"

    @property
    def source(self) -> str:
        lines = [f"def program({', '.join(i.name for i in self.inputs)}):"]
        lines += [f"    {statement}" for statement in self.statements]
        lines += [f"    return {', '.join(self.outputs)}{',' if len(self.outputs) == 1 else ''}"]
        return "\n".join(lines) + "\n"

    @property
    def captured(self) -> list[str]:
        """Names of the tensors outside that the function uses."""
        return [name for name in CAPTURED if re.search(rf"\b{name}\b", self.source)]

    @property
    def needs_gradient(self) -> bool:
        return self.context in ("grad", "autocast_grad")

    def function(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The program as a Python function, with source that tracebacks find."""
        name = f"<program {hash(self.source):x}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(keepends=True), name)
        names = namespace()
        exec(compile(self.source, name, "exec"), names)
        function: Callable[..., tuple[torch.Tensor, ...]] = names["program"]
        return function

    def arguments(self, call: Call) -> list[torch.Tensor]:
        """New tensors for a call; the same ones each time."""
        made: dict[str, torch.Tensor] = {}
        for position, spec in enumerate(self.inputs):
            if spec.of:
                made[spec.name] = eval(spec.of, {}, dict(made))
            else:
                made[spec.name] = _tensor(spec, dict(call.sizes), call.seed * 100 + position)
        return list(made.values())

    @contextlib.contextmanager
    def mode(self) -> Iterator[None]:
        """The mode in which the program is called."""
        with contextlib.ExitStack() as stack:
            if self.context in ("no_grad", "autocast"):
                stack.enter_context(torch.no_grad())
            if self.context == "inference_mode":
                stack.enter_context(torch.inference_mode())
            if self.context.startswith("autocast"):
                stack.enter_context(torch.autocast("cpu", torch.bfloat16))
            yield

    def snippet(self) -> str:
        """Python text that shows the program's results in eager and through the backend."""
        modes = {
            "no_grad": "torch.no_grad()",
            "inference_mode": "torch.inference_mode()",
            "grad": "torch.enable_grad()",
            "autocast": 'torch.no_grad(), torch.autocast("cpu", torch.bfloat16)',
            "autocast_grad": 'torch.autocast("cpu", torch.bfloat16)',
        }
        options = "".join(
            f", {name}={value!r}"
            for name, value, usual in (("place", self.place, "auto"), ("machine", self.machine, "unicorn"))
            if value != usual
        )
        lines = ["import torch", "from torch.nn import functional as F", ""]
        lines += ["from acalsim_backend.backend import ACALSimBackend", ""]
        lines += [f"{name} = {CAPTURED[name]}" for name in self.captured]
        lines += ["", self.source, ""]
        lines += ["def calls():"]
        for call in self.calls:
            arguments = self.arguments(call)
            for spec, value in zip(self.inputs, arguments, strict=True):
                lines.append(f"    {spec.name} = {spec.of or _literal(value)}")
            lines.append(f"    yield {', '.join(i.name for i in self.inputs)}{',' if len(arguments) == 1 else ''}")
        dynamic = "" if self.dynamic is None else f", dynamic={self.dynamic}"
        lines += ["", f'backend = ACALSimBackend(mode="simulate"{options})']
        lines += [f"compiled = torch.compile(program, backend=backend{dynamic})"]
        lines += [f"with {modes[self.context]}:", "    for a, b in zip(calls(), calls()):"]
        lines += ["        print(program(*a), compiled(*b), a, b, sep='\\n')"]
        if self.needs_gradient:
            lines += ["        # and the gradients of all that requires one"]
        return "\n".join(lines).replace("\n\n\n\n", "\n\n\n") + "\n"


@functools.cache
def _captured() -> dict[str, Any]:
    return {name: eval(text, {"torch": torch}) for name, text in CAPTURED.items()}


def namespace() -> dict[str, Any]:
    """The globals of a program."""
    return {"torch": torch, "F": F, **_captured()}


def _tensor(spec: Input, sizes: dict[str, int], seed: int) -> torch.Tensor:
    shape = [sizes[n] if isinstance(n, str) else n for n in spec.shape]
    dtype = getattr(torch, spec.dtype)
    generator = torch.Generator().manual_seed(seed)
    stored = list(shape)
    if spec.layout == "permuted":
        stored = stored[::-1]
    elif spec.layout == "sliced" and shape:
        stored[-1] = 2 * stored[-1] + 1
    elif spec.layout == "expanded" and shape:
        stored[0] = min(stored[0], 1)
    if dtype.is_floating_point:
        value = torch.randn(stored, generator=generator, dtype=torch.float64)
        if spec.values == "large":
            value *= 1e3
        elif spec.values == "positive":
            value = value.abs() + 0.1
        elif spec.values == "whole":
            value = (3 * value).round()
        value = value.to(dtype)
        if spec.values == "special" and value.numel():
            which = torch.randint(0, len(SPECIAL), (value.numel(),), generator=generator)
            special = torch.tensor(SPECIAL, dtype=torch.float64)[which].to(dtype).reshape(value.shape)
            value = torch.where(torch.rand(value.shape, generator=generator) < 0.4, special, value)
    elif dtype is torch.bool:
        value = torch.randint(0, 2, stored, generator=generator).bool()
    else:
        info = torch.iinfo(dtype)
        low, high = (info.min, info.max) if spec.values in ("special", "large") else (-5, 6)
        value = torch.randint(max(low, info.min), high, stored, generator=generator).to(dtype)
    if spec.layout == "permuted":
        value = value.permute(tuple(reversed(range(len(shape)))))
    elif spec.layout == "sliced" and shape:
        value = value[..., 1::2]
    elif spec.layout == "expanded" and shape:
        value = value.expand(shape)
    elif spec.layout == "channels_last" and len(shape) == 4:
        value = value.to(memory_format=torch.channels_last)
    return value.requires_grad_() if spec.requires_grad and dtype.is_floating_point else value


def _literal(value: torch.Tensor) -> str:
    stored = value.detach().as_strided((value.untyped_storage().nbytes() // value.element_size(),), (1,), 0)
    numbers = re.sub(r"\b(nan|inf)\b", r"float('\1')", repr(stored.tolist()))
    text = f"torch.tensor({numbers}, dtype={value.dtype})"
    if value.shape != stored.shape or value.storage_offset():
        text += f".as_strided({tuple(value.shape)}, {value.stride()}, {value.storage_offset()})"
    return f"{text}.requires_grad_()" if value.requires_grad else text


def draw(seed: int, most: int = 15) -> Program | None:
    """The program of a seed, of 3 to ``most`` statements; None where the drawn one is not valid in eager."""
    rng = random.Random(seed)
    context = rng.choices(CONTEXTS, (4, 1.5, 3, 1, 0.7))[0]
    sizes = {name: rng.randint(2, 5) for name in "ABC"}
    grad = context in ("grad", "autocast_grad")
    inputs = [_draw_input(rng, i, grad) for i in range(rng.randint(1, 4))]
    if not grad and rng.random() < 0.12:
        first = inputs[0].name
        of = rng.choice(("{0}", "{0}[1:]", "{0}.t()", "{0}.view(-1)", "{0}[..., ::2]", "{0}.detach()")).format(first)
        inputs.append(Input(f"x{len(inputs)}", (), inputs[0].dtype, of=of))
    calls = [Call(rng.randrange(1 << 20), tuple(sizes.items()))]
    program = Program(tuple(inputs), (), (inputs[0].name,), tuple(calls), context)
    drawn = _draw_statements(rng, program, rng.randint(3, most))
    if drawn is None:
        return None
    program, names = drawn
    for _ in range(rng.choices((0, 1, 2), (5, 4, 1))[0]):
        other = {n: rng.randint(1, 6) if rng.random() < 0.5 else s for n, s in sizes.items()}
        calls.append(Call(rng.randrange(1 << 20), tuple((other if rng.random() < 0.6 else sizes).items())))
    outputs = [names[max(rng.randrange(len(names)), rng.randrange(len(names)))] for _ in range(rng.randint(1, 3))]
    if names[-1] not in outputs:
        outputs.insert(0, names[-1])
    program = replace(
        program,
        outputs=tuple(outputs),
        dynamic=rng.choices((None, True, False), (6, 2, 1))[0],
        place=rng.choices(("auto", "cpu"), (5, 1))[0],
        machine=rng.choices(("unicorn", "native"), (5, 1))[0],
    )
    accepted = tuple(call for call in calls if is_valid(replace(program, calls=(call,))))
    return replace(program, calls=accepted) if accepted else None


def _draw_input(rng: random.Random, position: int, grad: bool) -> Input:
    rank = rng.choices(range(5), (1, 2, 4, 3, 2))[0]
    dims: list[int | str] = ["A", "B", "C", "A", "B", 1, 1, 3]
    shape = tuple(0 if rng.random() < 0.02 else rng.choice(dims) for _ in range(rank))
    dtype = "float32" if rng.random() < 0.5 else rng.choice(FLOATS if rng.random() < 0.5 else DTYPES)
    layout = rng.choices(("dense", "permuted", "sliced", "expanded", "channels_last"), (8, 2, 2, 1, 1))[0]
    values = rng.choices(("normal", "special", "large", "whole", "positive"), (6, 2, 1, 2, 1))[0]
    requires_grad = grad and dtype in FLOATS and rng.random() < 0.8
    return Input(f"x{position}", shape, dtype, layout, values, requires_grad)


def _draw_statements(rng: random.Random, program: Program, count: int) -> tuple[Program, list[str]] | None:
    """Statements that eager accepts one after another, and the names of all tensors then."""
    weights = [weight for weight, _ in CATALOGUE]
    inputs = list(program.inputs)
    statements: list[Statement] = []
    call = program.calls[0]
    try:
        values = program.arguments(call)
    except (RuntimeError, IndexError):
        return None
    names = namespace()
    tensors = dict(zip((i.name for i in inputs), values, strict=True))
    attempts = 0
    with program.mode():
        while len(statements) < count and attempts < 12 * count:
            attempts += 1
            d = Draw(rng, tensors, inputs=len(inputs))
            try:
                text, operands, results = rng.choices(CATALOGUE, weights)[0][1](d)
            except (RuntimeError, IndexError):
                continue
            given = tuple(f"v{len(tensors) + i}" for i in range(results))
            statement = Statement(text, operands, given)
            extra = {
                spec.name: _tensor(spec, dict(call.sizes), call.seed * 100 + len(inputs) + i)
                for i, spec in enumerate(d.new_inputs)
            }
            if not results and not _may_write(operands, tensors):
                continue
            local = {**tensors, **extra}
            try:
                exec(str(statement), names, local)
            except Exception:
                continue
            new = [local[name] for name in given]
            if not all(map(_is_tame, [*new, *(local[n] for n in operands)])):
                if results:
                    continue
                return None  # what was written to is no longer what a program may hold
            inputs += d.new_inputs
            statements.append(statement)
            tensors = {**local}
    return replace(program, inputs=tuple(inputs), statements=tuple(statements)), list(tensors)


def _may_write(operands: Sequence[str], tensors: dict[str, torch.Tensor]) -> bool:
    """Whether the result of writing to the first operand is defined: no element twice, none also read."""
    target = tensors[operands[0]]
    if torch._debug_has_internal_overlap(target) != 0:
        return False
    storage = target.untyped_storage()._cdata
    return all(tensors[name] is target or tensors[name].untyped_storage()._cdata != storage for name in operands[1:])


def _is_tame(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.numel() <= MAX_ELEMENTS
        and value.dim() <= MAX_RANK
        and str(value.dtype).removeprefix("torch.") in DTYPES
    )


def is_valid(program: Program) -> bool:
    """Whether eager runs every call, and all that comes out is what a program may give."""
    try:
        function = program.function()
        for call in program.calls:
            arguments = program.arguments(call)
            with program.mode():
                outputs = function(*arguments)
            if not all(map(_is_tame, outputs)):
                return False
    except Exception:
        return False
    return True


def reductions(program: Program) -> Iterator[Program]:
    """Programs a little smaller than this one, the boldest first; most are not valid."""
    for output in program.outputs:
        if len(program.outputs) > 1 or program != _pruned(program):
            yield _pruned(replace(program, outputs=(output,)))
    count = len(program.statements)
    for part in (2, 4):
        for start in range(0, count, max(count // part, 1)):
            if count >= 2 * part:
                yield _without(program, range(start, min(start + count // part, count)))
    for i in range(len(program.calls)):
        if len(program.calls) > 1:
            yield replace(program, calls=program.calls[:i] + program.calls[i + 1 :])
    for i in range(len(program.outputs)):
        if len(program.outputs) > 1:
            yield replace(program, outputs=program.outputs[:i] + program.outputs[i + 1 :])
    for i in range(len(program.statements) - 1, -1, -1):
        yield _without(program, [i])
    for i, statement in enumerate(program.statements):
        for result, operand in itertools.product(statement.results, statement.operands):
            yield _substituted(program, i, result, operand)
    for i in range(len(program.inputs)):
        kept = program.inputs[:i] + program.inputs[i + 1 :]
        used = re.findall(r"\bx\d+\b", program.source.split("\n", 1)[1] + " ".join(k.of for k in kept))
        if program.inputs[i].name not in used and len(program.inputs) > 1:
            yield replace(program, inputs=kept)
    simple: dict[str, Any] = {"context": "no_grad", "dynamic": None, "machine": "unicorn", "place": "auto"}
    for name, value in simple.items():
        if getattr(program, name) != value:
            yield replace(program, **{name: value})
    if program.context.endswith("grad") and program.context != "no_grad":
        yield replace(program, context="grad")
    for i, spec in enumerate(program.inputs):
        simpler = [
            replace(spec, layout="dense"),
            replace(spec, values="whole"),
            replace(spec, values="normal"),
            replace(spec, dtype="float32"),
            replace(spec, requires_grad=False),
            replace(spec, of="", shape=(3,)),
            replace(spec, shape=spec.shape[1:]),
            replace(spec, shape=spec.shape[:-1]),
        ]
        for j, n in enumerate(spec.shape):
            for smaller in (1, 2):
                if isinstance(n, str) or n > smaller:
                    simpler.append(replace(spec, shape=(*spec.shape[:j], smaller, *spec.shape[j + 1 :])))
        for other in simpler:
            if other != spec and not (spec.values == "normal" and other.values == "whole"):
                yield replace(program, inputs=(*program.inputs[:i], other, *program.inputs[i + 1 :]))


def _pruned(program: Program) -> Program:
    """The program without statements that change nothing and whose results nothing uses."""
    used, kept = set(program.outputs), []
    for statement in reversed(program.statements):
        if not statement.results or used.intersection(statement.results):
            used.update(statement.operands)
            kept.append(statement)
    return replace(program, statements=tuple(reversed(kept)))


def _without(program: Program, positions: Sequence[int]) -> Program:
    """The program without some statements and all that used their results."""
    gone: set[str] = set()
    kept = []
    for i, statement in enumerate(program.statements):
        if i in positions or gone.intersection(statement.operands):
            gone.update(statement.results)
        else:
            kept.append(statement)
    outputs = tuple(o for o in program.outputs if o not in gone) or (program.inputs[0].name,)
    return replace(program, statements=tuple(kept), outputs=outputs)


def _substituted(program: Program, index: int, result: str, operand: str) -> Program:
    """The program without a statement, an operand of it in the place of a result."""

    def name(old: str) -> str:
        return operand if old == result else old

    statements = [
        replace(s, operands=tuple(map(name, s.operands))) for i, s in enumerate(program.statements) if i != index
    ]
    return replace(program, statements=tuple(statements), outputs=tuple(map(name, program.outputs)))
