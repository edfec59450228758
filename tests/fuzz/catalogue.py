"""What a random program is made of: statements, each drawn for the tensors that are at hand.

A statement is Python text with ``{0}``, ``{1}`` for its operands. Nothing here has to be valid: the generator runs each
statement in eager PyTorch and drops what eager refuses.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTS = ("int64", "int32", "int16", "int8", "uint8")
DTYPES = (*FLOATS, *INTS, "bool")


@dataclass(frozen=True)
class Input:
    """A tensor argument. ``shape`` has numbers and names of sizes; ``of`` makes it a view of another input."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    layout: str = "dense"
    values: str = "normal"
    requires_grad: bool = False
    of: str = ""


@dataclass(frozen=True)
class Statement:
    """``results = text`` with the operands' names in the text; without results the text changes an operand."""

    text: str
    operands: tuple[str, ...]
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = self.text.format(*self.operands)
        return f"{', '.join(self.results)} = {text}" if self.results else text


@dataclass
class Draw:
    """The state a statement is drawn from: random numbers, the tensors so far, and inputs that it may ask for."""

    rng: random.Random
    tensors: dict[str, torch.Tensor]
    new_inputs: list[Input] = field(default_factory=list)
    inputs: int = 0

    def tensor(self, fits: Callable[[torch.Tensor], bool] = lambda t: True) -> str:
        """A name, later ones more often; of a tensor that fits where there is one."""
        names = [n for n, t in self.tensors.items() if fits(t)] or list(self.tensors)
        return names[max(self.rng.randrange(len(names)), self.rng.randrange(len(names)))]

    def floating(self, rank: int = 0) -> str:
        return self.tensor(lambda t: t.is_floating_point() and t.dim() >= rank)

    def integer(self) -> str:
        return self.tensor(lambda t: not t.is_floating_point())

    def ranked(self, rank: int = 1) -> str:
        return self.tensor(lambda t: t.dim() >= rank)

    def like(self, name: str) -> str:
        """A tensor that broadcasts with ``name``."""
        shape = self.tensors[name].shape

        def fits(other: torch.Tensor) -> bool:
            try:
                torch.broadcast_shapes(shape, other.shape)
            except RuntimeError:
                return False
            return True

        return self.tensor(fits)

    def argument(self, shape: tuple[int, ...], dtype: str, values: str = "normal") -> str:
        """The name of a new input, such as a weight."""
        name = f"x{self.inputs + len(self.new_inputs)}"
        self.new_inputs.append(Input(name, shape, dtype, self.rng.choice(("dense", "dense", "permuted")), values))
        return name

    def dim(self, name: str) -> int:
        rank = max(self.tensors[name].dim(), 1)
        return self.rng.randrange(-rank, rank)

    def dims(self, name: str) -> str:
        rank = max(self.tensors[name].dim(), 1)
        chosen = self.rng.sample(range(rank), self.rng.randint(1, rank))
        return repr(tuple(d - rank if self.rng.random() < 0.3 else d for d in chosen))

    def size(self, name: str, dim: int) -> int:
        shape = self.tensors[name].shape
        return shape[dim] if shape else 1

    def scalar(self) -> str:
        return self.rng.choice(
            ("2", "-3", "0", "1", "7", "0.5", "-1.5", "0.1", "3.3", "1e-3", "100.0", "0.0", "True", "-0.0", "65536.0",
             "float('inf')", "float('nan')", "127", "1e10")
        )  # fmt: skip

    def dtype(self, choices: tuple[str, ...] = DTYPES) -> str:
        return f"torch.{self.rng.choice(choices)}"

    def name_of(self, name: str) -> str:
        return str(self.tensors[name].dtype).removeprefix("torch.")

    def index(self, name: str) -> str:
        """A basic index: ints, slices with steps, None, Ellipsis."""
        parts = []
        for size in self.tensors[name].shape:
            kind = self.rng.randrange(6)
            if kind == 0 and size:
                parts.append(str(self.rng.randrange(-size, size)))
            elif kind == 1:
                parts.append(f"{self.rng.randint(0, size)}:")
            elif kind == 2:
                parts.append(f"::{self.rng.randint(1, 3)}")
            elif kind == 3:
                parts.append(f"{self.rng.randint(-size - 1, size)}:{self.rng.randint(-size - 1, size + 1)}")
            elif kind == 4:
                parts.append(":-1")
            else:
                parts.append(":")
        if self.rng.random() < 0.15:
            parts.insert(self.rng.randint(0, len(parts)), "None")
        while len(parts) > 1 and self.rng.random() < 0.2:
            parts.pop()
        if self.rng.random() < 0.1:
            parts = ["...", *parts[-1:]]
        return ", ".join(parts) or "..."

    def indices(self, name: str, dim: int, rank: int = 1, negative: bool = False) -> str:
        """The text of a tensor of positions along a dimension."""
        size = self.size(name, dim)
        low = -size if negative else 0

        def draw(depth: int) -> object:
            if depth == 0:
                return self.rng.randrange(low, size) if size else 0
            return [draw(depth - 1) for _ in range(count)]

        count = self.rng.randint(1, 3)
        return f"torch.tensor({draw(rank)})"


Drawn = tuple[str, tuple[str, ...], int]
"""Text, operands, and how many tensors result; 0: in place."""

CATALOGUE: list[tuple[float, Callable[[Draw], Drawn]]] = []


def row(weight: float) -> Callable[[Callable[[Draw], Drawn]], Callable[[Draw], Drawn]]:
    def add(function: Callable[[Draw], Drawn]) -> Callable[[Draw], Drawn]:
        CATALOGUE.append((weight, function))
        return function

    return add


UNARY = (
    "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid", "erf", "floor", "ceil",
    "round", "trunc", "sign", "relu", "square", "logical_not", "bitwise_not", "isnan", "isinf", "isfinite", "signbit",
    "log1p", "expm1", "exp2", "log2", "log10", "frac", "sgn", "clone", "nan_to_num", "atan", "sinh", "asinh", "erfc",
    "tan", "asin", "acos", "cosh", "atanh", "i0", "angle",
)  # fmt: skip
ACTIVATIONS = (
    "relu({0})", "gelu({0})", "gelu({0}, approximate='tanh')", "silu({0})", "elu({0})", "leaky_relu({0}, 0.1)",
    "softplus({0})", "hardtanh({0})", "relu6({0})", "hardswish({0})", "hardsigmoid({0})", "mish({0})",
    "logsigmoid({0})", "celu({0})", "selu({0})", "softsign({0})", "tanhshrink({0})", "hardshrink({0})",
    "threshold({0}, 0.1, 20)", "dropout({0}, 0.5, training=False)", "glu({0}, -1)",
)  # fmt: skip
BINARY = (
    "{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / {1}", "{0} // {1}", "{0} % {1}", "torch.add({0}, {1}, alpha=2)",
    "torch.sub({0}, {1}, alpha=0.5)", "torch.maximum({0}, {1})", "torch.minimum({0}, {1})", "torch.pow({0}, {1})",
    "torch.fmod({0}, {1})", "torch.div({0}, {1}, rounding_mode='floor')", "torch.div({0}, {1}, rounding_mode='trunc')",
    "torch.atan2({0}, {1})", "torch.fmax({0}, {1})", "torch.hypot({0}, {1})", "torch.copysign({0}, {1})",
    "torch.xlogy({0}, {1})", "torch.logaddexp({0}, {1})", "torch.rsub({0}, {1})", "torch.heaviside({0}, {1})",
)  # fmt: skip
COMPARE = (
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
    "bitwise_xor",
)  # fmt: skip
REDUCTIONS = (
    "sum", "mean", "amax", "amin", "sum", "mean", "prod", "any", "all", "var", "std", "logsumexp", "norm", "argmax",
    "argmin",
)  # fmt: skip
SCALAR = (
    "{0} + {s}", "{s} - {0}", "{0} * {s}", "{0} / {s}", "{s} / {0}", "{0} ** 2", "{0} ** 3", "{0} ** 0.5", "{0} ** -1",
    "2 ** {0}", "{0} // {s}", "{0} % {s}", "torch.add({0}, {s}, alpha=3)", "{0} > {s}", "{0} == {s}", "{0} < {s}",
    "torch.clamp({0}, max={s})", "torch.clamp({0}, min={s})", "torch.clamp({0}, -1, {s})", "{0} & 3", "{0} | 1",
    "{0} << 1", "{0} >> 1", "torch.fmod({0}, {s})", "torch.float_power({0}, 2)", "{0} != {s}", "{0} - {s}",
)  # fmt: skip


@row(9)
def unary(d: Draw) -> Drawn:
    return f"torch.{d.rng.choice(UNARY)}({{0}})", (d.tensor(),), 1


@row(4)
def activation(d: Draw) -> Drawn:
    return f"F.{d.rng.choice(ACTIVATIONS)}", (d.floating(),), 1


@row(10)
def binary(d: Draw) -> Drawn:
    a = d.tensor()
    pair = (a, d.like(a))
    text = d.rng.choice(BINARY[:4]) if d.rng.random() < 0.5 else d.rng.choice(BINARY)
    return text, pair if d.rng.random() < 0.5 else pair[::-1], 1


@row(3)
def compare(d: Draw) -> Drawn:
    a = d.tensor()
    return f"torch.{d.rng.choice(COMPARE)}({{0}}, {{1}})", (a, d.like(a)), 1


@row(7)
def with_scalar(d: Draw) -> Drawn:
    return d.rng.choice(SCALAR).replace("{s}", d.scalar()), (d.tensor(),), 1


@row(2)
def with_captured(d: Draw) -> Drawn:
    text = d.rng.choice(("{0} + {c}", "{0} * {c}", "{c} - {0}", "{0} / {c}", "torch.where({0} > {c}, {0}, {c})"))
    captured = d.rng.choice(("HALF", "THREE", "DOUBLE", "FLAG", "TINY", "VECTOR"))
    return text.replace("{c}", captured), (d.tensor(),), 1


@row(2)
def with_size(d: Draw) -> Drawn:
    texts = (
        "{0} * {1}.shape[0]", "torch.full_like({0}, {1}.shape[-1])", "{0} + {1}.numel()", "{0} / {1}.shape[0]",
        "torch.arange({1}.shape[0]) + {0}", "{0} / {1}.shape[-1] ** 0.5", "torch.ones({1}.shape[-1]) * {0}",
    )  # fmt: skip
    return d.rng.choice(texts), (d.tensor(), d.ranked()), 1


@row(3)
def select(d: Draw) -> Drawn:
    a = d.tensor()
    text = d.rng.choice(
        (
            "torch.where({0} > 0, {1}, {2})", "torch.where({0}.bool(), {1}, 1.5)", "torch.where({0} == {1}, {2}, 0)",
            "{1}.masked_fill({0} > 0, {s})", "{1}.masked_fill({0}.bool(), {s})", "torch.clamp({0}, {1}, {2})",
            "torch.lerp({0}, {1}, 0.3)", "torch.lerp({0}, {1}, {2})", "torch.addcmul({0}, {1}, {2}, value=0.5)",
            "torch.addcdiv({0}, {1}, {2}, value=2)", "torch.where({0}.isnan(), 0, {1})",
        )
    )  # fmt: skip
    return text.replace("{s}", d.scalar()), (a, d.like(a), d.like(a)), 1


@row(7)
def reduction(d: Draw) -> Drawn:
    a = d.tensor()
    name = d.rng.choice(REDUCTIONS)
    name = d.rng.choice((name, "count_nonzero", "cumsum", "median")) if d.rng.random() < 0.1 else name
    keep = d.rng.choice(("", ", keepdim=True"))
    if name in ("prod", "any", "all", "argmax", "argmin", "cumsum", "count_nonzero"):
        dims = str(d.dim(a))
        keep = "" if name in ("cumsum", "count_nonzero") else keep
    else:
        dims = d.dims(a)
    if name == "norm":
        return (
            f"torch.linalg.vector_norm({{0}}, {d.rng.choice(('2', '1', 'float(`inf`)'))}, {dims}{keep})".replace(
                "`", "'"
            ),
            (a,),
            1,
        )
    if name in ("var", "std") and d.rng.random() < 0.5:
        keep += ", correction=0"
    if name in ("sum", "mean", "prod") and d.rng.random() < 0.25:
        chosen = d.dtype()
        # eager converts large integers to float16 before or after it adds them up, depending on the axes
        if "float16" not in chosen or d.tensors[a].is_floating_point():
            keep += f", dtype={chosen}"
    if name in ("median",) or (name not in ("logsumexp", "cumsum") and d.rng.random() < 0.25):
        return f"{{0}}.{name}()", (a,), 1
    return f"{{0}}.{name}({dims}{keep})", (a,), 1


@row(3)
def with_indices(d: Draw) -> Drawn:
    a = d.ranked()
    dim = d.dim(a)
    k = d.rng.randint(0, d.size(a, dim)) if d.size(a, dim) else 0
    text = d.rng.choice(
        ("max({dim})", "min({dim})", "max({dim}, keepdim=True)", "sort({dim})", "sort({dim}, descending=True)",
         "topk({k}, {dim})", "topk({k}, {dim}, largest=False)", "sort(dim={dim}, stable=True)", "cummax({dim})",
         "median({dim})", "kthvalue({k}, {dim})", "aminmax(dim={dim})", "cummin({dim})", "nanmedian({dim})",
         "mode({dim})")
    )  # fmt: skip
    return "{0}." + text.replace("{dim}", str(dim)).replace("{k}", str(k)), (a,), 2


@row(2)
def scan(d: Draw) -> Drawn:
    a = d.ranked()
    name = d.rng.choice(("cumsum", "cumsum", "cumprod", "logcumsumexp", "diff", "argsort", "flipud"))
    if name == "flipud":
        return "torch.flipud({0})", (a,), 1
    return f"torch.{name}({{0}}, dim={d.dim(a)})", (a,), 1


@row(1)
def search(d: Draw) -> Drawn:
    a = d.ranked()
    text = d.rng.choice(
        ("torch.searchsorted({0}.sort()[0], {0}, right={r})", "torch.bucketize({0}, torch.tensor([-1.0, 0.0, 0.5]))",
         "torch.searchsorted(torch.tensor([-1.0, 0.0, 0.5]), {0}, out_int32={r})", "torch.histc({0}, 4, -1, 2)")
    )  # fmt: skip
    return text.replace("{r}", str(d.rng.random() < 0.5)), (a,), 1


@row(5)
def product(d: Draw) -> Drawn:
    a = d.floating(1)
    t = d.tensors[a]
    if t.dim() == 0:
        return "{0} * {0}", (a,), 1
    k, n, dtype = t.shape[-1], d.rng.randint(0 if d.rng.random() < 0.1 else 1, 4), d.name_of(a)
    kind = d.rng.randrange(9)
    if kind == 0:
        return "F.linear({0}, {1}, {2})", (a, d.argument((n, k), dtype), d.argument((n,), dtype)), 1
    if kind == 1:
        return "F.linear({0}, {1})", (a, d.argument((n, k), dtype)), 1
    if kind == 2:
        return "{0} @ {1}", (a, d.argument((k, n), dtype)), 1
    if kind == 3:
        return "{0} @ {0}.transpose(-1, -2)", (a,), 1
    if kind == 4:
        return "torch.matmul({0}, {1})", (a, d.tensor(lambda o: o.dim() > 0 and o.dtype == t.dtype and
                                                      o.shape[max(o.dim() - 2, 0)] == k)), 1  # fmt: skip
    if kind == 5 and t.dim() == 2:
        c = d.argument(d.rng.choice(((n,), (1, n), (t.shape[0], 1))), dtype)
        return "torch.addmm({0}, {1}, {2}, beta=0.5, alpha=2)", (c, a, d.argument((k, n), dtype)), 1
    if kind == 6:
        return "torch.einsum('...i,ji->...j', {0}, {1})", (a, d.argument((n, k), dtype)), 1
    if kind == 7:
        return "torch.outer({0}.flatten(), {1})", (a, d.argument((n,), dtype)), 1
    if t.dim() >= 2:
        causal = d.rng.choice(("", ", is_causal=True"))
        return f"F.scaled_dot_product_attention({{0}}, {{0}}, {{0}}{causal})", (a,), 1
    return "torch.dot({0}, {0})", (a,), 1


@row(3)
def spatial(d: Draw) -> Drawn:
    a = d.tensor(lambda t: t.is_floating_point() and t.dim() in (3, 4, 5) and t.numel() > 0)
    t = d.tensors[a]
    if t.dim() not in (3, 4, 5):
        a = d.argument((2, 3, 5, 4), d.rng.choice(FLOATS))
        t = torch.empty(2, 3, 5, 4)
    dtype = d.name_of(a) if a in d.tensors else d.new_inputs[-1].dtype
    n, c = t.dim() - 2, t.shape[1]
    o, kernel, pad = d.rng.randint(1, 3), [d.rng.randint(1, 3) for _ in range(n)], d.rng.randint(0, 1)
    kind = d.rng.randrange(13)
    if str(dtype).endswith("float16") and (n == 3 or kind in (4, 10)):
        kind = 9  # of which eager rounds each step
    if kind < 3:
        stride = d.rng.randint(1, 2)
        bias = d.rng.random() < 0.5
        weights = (d.argument((o, c, *kernel), dtype), *((d.argument((o,), dtype),) if bias else ()))
        text = f"F.conv{n}d({{0}}, {{1}}{', {2}' if bias else ''}, padding={pad}, stride={stride})"
        return text, (a, *weights), 1
    if kind == 3:
        return f"F.conv{n}d({{0}}, {{1}}, groups={c})", (a, d.argument((c, 1, *kernel), dtype)), 1
    if kind == 4:
        return f"F.conv_transpose{n}d({{0}}, {{1}}, stride=2)", (a, d.argument((c, o, *kernel), dtype)), 1
    if kind == 10:
        options = f"stride=2, padding={pad}, output_padding=1, groups={c}, dilation={d.rng.randint(1, 2)}"
        return f"F.conv_transpose{n}d({{0}}, {{1}}, {options})", (a, d.argument((c, o, *kernel), dtype)), 1
    if kind == 11:
        return (
            f"F.adaptive_max_pool{n}d({{0}}, {d.rng.randint(1, 3)}, return_indices=True)[{d.rng.randrange(2)}]",
            (a,),
            1,
        )
    if kind == 12:
        return f"F.max_pool{n}d({{0}}, 2, stride=1, return_indices=True)[1]", (a,), 1
    if kind == 5:
        return f"F.max_pool{n}d({{0}}, {d.rng.randint(1, 2)}, padding={pad})", (a,), 1
    if kind == 6:
        return f"F.avg_pool{n}d({{0}}, 2, stride=1)", (a,), 1
    if kind == 7:
        return f"F.adaptive_avg_pool{n}d({{0}}, {d.rng.randint(1, 3)})", (a,), 1
    if kind == 8:
        return "F.interpolate({0}, scale_factor=2)", (a,), 1
    return f"F.pad({{0}}, (1, {d.rng.randint(-1, 2)}), value={d.rng.choice(('0', '1.5'))})", (a,), 1


@row(4)
def norm(d: Draw) -> Drawn:
    a = d.floating(1)
    t = d.tensors[a]
    if not t.dim():
        return "torch.softmax({0}, 0)", (a,), 1
    dtype, dim = d.name_of(a), d.dim(a)
    kind = d.rng.randrange(12)
    if kind < 3:
        return f"torch.softmax({{0}}, {dim})", (a,), 1
    if kind == 3:
        return f"F.log_softmax({{0}}, {dim})", (a,), 1
    if kind == 4:
        last = (t.shape[-1],)
        weights = (d.argument(last, dtype), d.argument(last, dtype))
        return "F.layer_norm({0}, {0}.shape[-1:], {1}, {2})", (a, *weights), 1
    if kind == 5:
        return "F.layer_norm({0}, {0}.shape[-1:])", (a,), 1
    if kind in (6, 7) and t.dim() >= 2:
        c = (t.shape[1],)
        stats = (d.argument(c, dtype), d.argument(c, dtype, "positive"), d.argument(c, dtype), d.argument(c, dtype))
        return f"F.batch_norm({{0}}, {{1}}, {{2}}, {{3}}, {{4}}, training={kind == 7})", (a, *stats), 1
    if kind == 8 and t.dim() >= 2:
        return "F.group_norm({0}, 1)", (a,), 1
    if kind == 9:
        return f"F.normalize({{0}}, dim={dim})", (a,), 1
    if kind == 10:
        return "F.rms_norm({0}, {0}.shape[-1:])", (a,), 1
    return f"F.softmax({{0}}, {dim}, dtype=torch.float32)", (a,), 1


@row(1.5)
def loss(d: Draw) -> Drawn:
    a = d.floating()
    text = d.rng.choice(
        ("F.mse_loss({0}, {1})", "F.l1_loss({0}, {1})", "F.smooth_l1_loss({0}, {1})", "F.huber_loss({0}, {1})",
         "F.cosine_similarity({0}, {1}, dim=-1)", "F.binary_cross_entropy_with_logits({0}, {1})",
         "F.mse_loss({0}, {1}, reduction='none')", "F.kl_div({0}, {1}, reduction='sum')",
         "F.cross_entropy({0}, torch.zeros({0}.shape[0], dtype=torch.int64))")
    )  # fmt: skip
    return text, (a, d.like(a)), 1


@row(12)
def view(d: Draw) -> Drawn:
    a = d.ranked()
    t, dim, other = d.tensors[a], d.dim(a), d.dim(a)
    rank, size = t.dim(), d.size(a, dim)
    permutation = d.rng.sample(range(rank), rank)
    start = d.rng.randint(0, size)
    divisors = [k for k in range(1, t.numel() + 1) if t.numel() % k == 0] or [1]
    k = d.rng.choice(divisors)
    text = d.rng.choice(
        (
            f"{{0}}.permute({', '.join(map(str, permutation))})", f"{{0}}.transpose({dim}, {other})",
            "{0}.reshape(-1)", "{0}.view(-1)", f"{{0}}.reshape({k}, -1)", f"{{0}}.view({k}, -1)", "{0}.flatten()",
            f"{{0}}.expand({d.rng.randint(1, 3)}, *{{0}}.shape)", f"{{0}}.unsqueeze({dim})", "{0}.squeeze()",
            f"{{0}}.squeeze({dim})", f"{{0}}.select({dim}, {max(size - 1, 0)})", f"{{0}}[{d.index(a)}]",
            f"{{0}}[{d.index(a)}]", f"{{0}}[{d.index(a)}]", f"{{0}}.flip({dim})", "{0}.diagonal()",
            f"{{0}}.unfold({dim}, {d.rng.randint(1, max(size, 1))}, {d.rng.randint(1, 2)})", "{0}.mT", "{0}.t()",
            f"{{0}}.narrow({dim}, {start}, {d.rng.randint(0, size - start)})", f"{{0}}.movedim({dim}, {other})",
            f"{{0}}.unsqueeze({dim}).expand(*{{0}}.shape[:0], *[-1] * {rank + 1})", "{0}.ravel()",
            "{0}.view({0}.shape)", "{0}.view_as({0})", "{0}.expand_as({0})", f"{{0}}.swapaxes({dim}, {other})",
            f"{{0}}.unflatten({dim}, (1, -1))", f"{{0}}.flatten({min(dim % max(rank, 1), other % max(rank, 1))})",
            "{0}.detach()", "torch.atleast_2d({0})", "{0}.view(torch.int32)",
        )
    )  # fmt: skip
    return text, (a,), 1


@row(1)
def strided(d: Draw) -> Drawn:
    a = d.tensor()
    limit = max(d.tensors[a].untyped_storage().nbytes() // d.tensors[a].element_size(), 1)
    shape = [d.rng.randint(1, 3) for _ in range(d.rng.randint(1, 2))]
    stride = [d.rng.randint(0, 3) for _ in shape]
    reach = sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    offset = d.rng.randint(0, max(limit - reach - 1, 0))
    third = f", {offset}" if d.rng.random() < 0.5 else ""
    return f"torch.as_strided({{0}}, {tuple(shape)}, {tuple(stride)}{third})", (a,), 1


@row(2.5)
def several(d: Draw) -> Drawn:
    a = d.ranked()
    dim, size = d.dim(a), d.size(a, d.dim(a))
    n = d.rng.randint(1, 3)
    text = d.rng.choice(
        (f"{{0}}.chunk({n}, {dim})", f"{{0}}.split({max((size + n - 1) // n, 1)}, {dim})", f"{{0}}.unbind({dim})",
         f"{{0}}.tensor_split({n}, {dim})", f"torch.split({{0}}, [{size // 2}, {size - size // 2}], {dim})")
    )  # fmt: skip
    count = {"unbind": d.size(a, dim), "torch.split": 2}
    results = next((c for word, c in count.items() if word in text), n)
    return text, (a,), min(max(results, 1), 4)


@row(12)
def in_place(d: Draw) -> Drawn:
    a = d.tensor()
    b = d.like(a)
    s = d.scalar()
    text = d.rng.choice(
        (
            "{0}.add_({1})", "{0}.mul_({1})", "{0}.sub_({1})", "{0}.copy_({1})", "{0}.copy_({1})", "{0} += {1}",
            "{0}.div_({1})", f"{{0}}.fill_({s})", f"{{0}}.fill_({s})", "{0}.zero_()", "{0}.relu_()", "{0}.neg_()",
            f"{{0}}.add_({s})", f"{{0}}.mul_({s})", "{0}.clamp_(-1, 1)", "{0}.exp_()", f"{{0}} *= {s}",
            "{0}.logical_not_()", "{0}.lerp_({1}, 0.5)", "{0}.addcmul_({1}, {1})", "{0}.eq_({1})", "{0}.pow_(2)",
            "{0}.sigmoid_()", "{0}.clamp_(min={1})", "{0}.masked_fill_({1} > 0, 2)",
            "{0}.tril_()", "{0}.fill_diagonal_(1)",
            f"{{0}}.cumsum_({d.dim(a)})", "{0}.fill_({1}.sum())", "F.relu({0}, inplace=True)",
        )
    )  # fmt: skip
    return text, (a, b) if "{1}" in text else (a,), 0


@row(8)
def assign(d: Draw) -> Drawn:
    a = d.ranked()
    index = d.index(a)
    dim = d.dim(a)
    kind = d.rng.randrange(10)
    if kind < 3:
        return f"{{0}}[{index}] = {d.scalar()}", (a,), 0
    if kind < 5:
        try:
            part = eval(f"t[{index}]", {"t": d.tensors[a]})
        except (IndexError, TypeError, ValueError):
            part = d.tensors[a]
        b = d.tensor(lambda o: o.dim() <= part.dim() and all(
            m in (1, n) for m, n in zip(o.shape[::-1], part.shape[::-1], strict=False)))  # fmt: skip
        return f"{{0}}[{index}] = {{1}}", (a, b), 0
    if kind == 5:
        return f"{{0}}[{index}] += {d.scalar()}", (a,), 0
    if kind == 6:
        return f"{{0}}[{{0}} > 0] = {d.scalar()}", (a,), 0
    if kind == 7:
        return f"{{0}}.index_fill_({dim}, {d.indices(a, dim)}, {d.scalar()})", (a,), 0
    if kind == 8:
        return f"{{0}}[{d.indices(a, 0, negative=True)}] = {d.scalar()}", (a,), 0
    return f"{{0}}.index_add_({dim}, {d.indices(a, dim)[:-2].split(',')[0]}]), {{0}}.narrow({dim}, 0, 1) * 2)", (a,), 0


@row(2)
def geometry_in_place(d: Draw) -> Drawn:
    a = d.ranked()
    text = d.rng.choice(
        (f"{{0}}.transpose_({d.dim(a)}, {d.dim(a)})", f"{{0}}.unsqueeze_({d.dim(a)})", "{0}.squeeze_()", "{0}.t_()")
    )
    return text, (a,), 0


@row(6)
def constant(d: Draw) -> Drawn:
    n, m = d.rng.randint(0, 4), d.rng.randint(1, 4)
    a = d.ranked()
    text = d.rng.choice(
        (
            "torch.arange({n})", "torch.arange({n}, dtype={t})", "torch.ones({n}, {m})", "torch.zeros({m}, dtype={t})",
            "torch.full(({m},), {s})", "torch.full(({n}, {m}), 2, dtype={t})", "torch.tensor([1.0, 2.0, 3.0])",
            "torch.tensor([[1, 2], [3, 4]])", "torch.tensor({s})", "torch.eye({m})", "torch.linspace(0, 1, {m})",
            "torch.ones_like({0})", "torch.zeros_like({0})", "torch.full_like({0}, {s})", "{0}.new_zeros({m}, {n})",
            "{0}.new_full(({m},), {s})", "torch.ones_like({0}, dtype={t})", "torch.zeros_like({0}).bool()",
            "torch.arange({0}.shape[0], dtype={t})", "torch.zeros({0}.shape)", "torch.ones({0}.shape, dtype={t})",
            "torch.tril({0})", "torch.triu({0}, 1)", "torch.tril(torch.ones({m}, {m}))", "torch.arange(5, -5, -2)",
            "torch.tensor([True, False])", "torch.tensor([], dtype={t})", "torch.full({0}.shape, -float('inf'))",
            "torch.empty_like({0}).fill_(3)", "torch.tensor([float('nan'), -0.0, float('inf')], dtype={t})",
        )
    )  # fmt: skip
    text = text.replace("{n}", str(n)).replace("{m}", str(m)).replace("{s}", d.scalar()).replace("{t}", d.dtype())
    return text, (a,) if "{0}" in text else (), 1


@row(4)
def joined(d: Draw) -> Drawn:
    a = d.ranked()
    t, dim = d.tensors[a], d.dim(a)
    rank = max(t.dim(), 1)
    b = d.tensor(lambda o: o.dim() == t.dim() and all(
        x == y for i, (x, y) in enumerate(zip(o.shape, t.shape, strict=True)) if i != dim % rank))  # fmt: skip
    c = d.tensor(lambda o: o.shape == t.shape)
    text, operands = d.rng.choice(
        (
            (f"torch.cat([{{0}}, {{1}}], {dim})", (a, b)), (f"torch.cat([{{0}}, {{1}}, {{0}}], {dim})", (a, b)),
            (f"torch.stack([{{0}}, {{1}}], {dim})", (a, c)), ("{0}.repeat(2, *[1] * {0}.dim())", (a,)),
            (f"torch.roll({{0}}, 1, {dim})", (a,)), (f"torch.repeat_interleave({{0}}, 2, dim={dim})", (a,)),
            ("torch.tile({0}, (2,))", (a,)), (f"torch.cat([{{0}}, torch.zeros_like({{1}})], {dim})", (a, b)),
            ("torch.hstack([{0}, {1}])", (a, c)), ("torch.block_diag({0}, {1})", (a, b)), ("torch.rot90({0})", (a,)),
        )
    )  # fmt: skip
    return text, operands, 1


@row(4)
def indexed(d: Draw) -> Drawn:
    a = d.ranked()
    t, dim = d.tensors[a], d.dim(a)
    rank = t.dim()
    kind = d.rng.randrange(16)
    if kind >= 12:
        return _scattered(d, a, kind)
    if kind < 2:
        return f"{{0}}.index_select({dim}, {d.indices(a, dim)})", (a,), 1
    if kind < 4:
        return f"{{0}}[{d.indices(a, 0, d.rng.randint(1, 2), negative=True)}]", (a,), 1
    if kind == 4 and rank == 2:
        return f"F.embedding({d.indices(a, 0, 2)}, {{0}})", (a,), 1
    if kind == 5:
        return f"torch.gather({{0}}, {dim}, torch.zeros_like({{0}}, dtype=torch.int64))", (a,), 1
    if kind == 6:
        return f"torch.gather({{0}}, {dim}, {{0}}.argsort({dim}))", (a,), 1
    if kind == 7:
        return f"torch.take_along_dim({{0}}, {{0}}.argmax({dim}, keepdim=True), {dim})", (a,), 1
    if kind == 8 and rank >= 2:
        return f"{{0}}[:, {d.indices(a, 1, negative=True)}]", (a,), 1
    if kind == 9:
        return f"{{0}}.scatter({dim}, torch.zeros_like({{0}}, dtype=torch.int64), {d.scalar()})", (a,), 1
    if kind == 10:
        return f"{{0}}.index_add({dim}, torch.tensor([0]), {{0}}.narrow({dim}, 0, 1))", (a,), 1
    return f"F.one_hot({d.indices(a, dim)}, {max(d.size(a, dim), 1)})", (), 1


def _scattered(d: Draw, a: str, kind: int) -> Drawn:
    """Writes at places; where values are set and not reduced, no place is written twice."""
    dim = d.dim(a)
    if kind == 12:
        where = d.indices(a, 0, d.rng.randint(1, 2), negative=True)
        return f"{{0}}.index_put(({where},), {{0}}[{where}] * 2, accumulate=True)", (a,), 1
    if kind == 13:
        how = d.rng.choice(("sum", "prod", "amax", "amin", "mean"))
        text = f"{{0}}.scatter_reduce({dim}, {{0}}.argsort({dim}), {{0}}, '{how}', include_self={d.rng.random() < 0.5})"
        return text, (a,), 1
    if kind == 14:
        return f"{{0}}.scatter_add({dim}, torch.zeros_like({{0}}, dtype=torch.int64), {{0}})", (a,), 1
    return f"torch.slice_scatter({{0}}, {{0}}.narrow({dim}, 0, 1), {dim}, {max(d.size(a, dim) - 1, 0)})", (a,), 1


@row(6)
def cast(d: Draw) -> Drawn:
    a = d.tensor()
    text = d.rng.choice(
        (f"{{0}}.to({d.dtype()})", f"{{0}}.to({d.dtype(FLOATS)})", "{0}.float()", "{0}.half()", "{0}.bool()",
         "{0}.contiguous()", "{0}.to(memory_format=torch.channels_last)", "{0}.type_as({1})", "{0}.to({1})",
         "{0}.contiguous(memory_format=torch.channels_last)", "{0}.clone(memory_format=torch.contiguous_format)",
         "{0}.bfloat16()", f"{{0}}.to({d.dtype()}, copy=True)")
    )  # fmt: skip
    return text, (a, d.tensor()) if "{1}" in text else (a,), 1
