"""Do real models run whole on the machine and give eager PyTorch's outputs?

All are small (`benchmarks/models.py` has the full sizes) and have random weights.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers
from tiny import TINY
from torch.utils import _pytree as pytree

from acalsim_backend import ACALSimBackend
from acalsim_backend.backend import FallbackWarning
from acalsim_backend.errors import MissingToolError
from acalsim_backend.models import CATALOGUE, build, load_target

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # of an output's largest value


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Every test has a Dynamo of its own, and only operators that run on the host may cause warnings."""
    torch._dynamo.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        yield
    torch._dynamo.reset()


def assert_equal(got: Any, expected: Any) -> None:
    """Same structure, shapes, dtypes and, in units of the output's largest value, nearly the same numbers."""
    got_leaves, got_tree = pytree.tree_flatten(got)
    leaves, tree = pytree.tree_flatten(expected)
    assert got_tree == tree
    for a, b in zip(got_leaves, leaves, strict=True):
        if isinstance(b, torch.Tensor):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            if b.dtype in TOLERANCE and b.numel():
                limit = TOLERANCE[b.dtype] * b.abs().max().item()
                assert limit > 0, "an output of zeros tells nothing"
                torch.testing.assert_close(a, b, rtol=0.0, atol=limit)
                continue
        assert torch.equal(a, b) if isinstance(b, torch.Tensor) else a == b


class Pair:
    """A model run eagerly and on the machine: each call compares both and checks that one graph was run."""

    def __init__(self, model: Callable[..., Any], **options: Any) -> None:
        self.model = model
        self.backend = ACALSimBackend(mode="simulate")
        self.compiled = torch.compile(model, backend=self.backend, **options)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        before = len(self.backend.reports)
        got = self.compiled(*inputs, **keywords)
        assert len(self.backend.reports) == before + 1, "the call ran one graph"
        assert_equal(got, self.model(*inputs, **keywords))
        return got


@pytest.mark.parametrize("name", TINY)
def test_does_a_model_run_in_one_graph_and_equal_eager(name: str) -> None:
    model, inputs = build(TINY[name], seed=1)
    pair = Pair(model)
    first = pair(*inputs)
    for a, b in zip(pytree.tree_leaves(pair(*inputs)), pytree.tree_leaves(first), strict=True):
        assert torch.equal(a, b), "the second call gave something else"
    print(
        f"\n{name} on the host:", ", ".join(sorted({f["op"] for f in pair.backend.reports[-1].fallbacks})) or "nothing"
    )


def test_is_every_model_of_the_catalogue_tried() -> None:
    elsewhere = {"matmul", "mlp", "attention", "resnet18", "resnet50"}  # small, or in tests/machine and tests/cli
    assert set(TINY) == set(CATALOGUE) - elsewhere - {"llama_1b"}  # llama, only larger


def language_model(name: str, **changes: Any) -> Any:
    """The transformers model itself, which takes keywords and returns its own classes."""
    model, _ = build(TINY[name], seed=1)
    return model.model


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(96, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_does_a_language_model_take_a_single_token(name: str) -> None:
    model, _ = build(TINY[name], seed=1)
    Pair(model)(tokens(1, 1))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_does_a_language_model_take_texts_of_several_lengths(name: str) -> None:
    model, _ = build(TINY[name], seed=1)
    pair = Pair(model)
    for length in (5, 9, 4, 12, 5):
        pair(tokens(1, length))


class Step(torch.nn.Module):
    """One call of a language model with a cache, which is written in place."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        return self.model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True).logits


def decode(step: Callable[..., torch.Tensor], cache: Any, runs: Callable[[], int] | None = None) -> list[torch.Tensor]:
    """Logits of a prompt of 5 tokens and of 4 more tokens, one at a time."""
    ids, logits = tokens(1, 9), []
    for start, stop in ((0, 5), (5, 6), (6, 7), (7, 8), (8, 9)):
        before = runs() if runs else 0
        logits.append(step(ids[:, start:stop], torch.arange(start, stop)[None], cache))
        assert runs is None or runs() == before + 1, "the call ran one graph"
    return logits


@pytest.mark.parametrize("cache", ["static", "dynamic"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_does_decoding_with_a_cache_equal_eager(name: str, cache: str) -> None:
    model = language_model(name)

    def fresh() -> Any:
        if cache == "static":
            return transformers.StaticCache(config=model.config, max_cache_len=16)
        return transformers.DynamicCache(config=model.config)

    step = Step(model)
    expected_cache, cached = fresh(), fresh()
    expected = decode(step, expected_cache)
    backend = ACALSimBackend(mode="simulate")
    got = decode(torch.compile(step, backend=backend), cached, lambda: len(backend.reports))
    assert_equal(got, expected)
    for mine, other in zip(cached.layers, expected_cache.layers, strict=True):
        assert_equal((mine.keys, mine.values), (other.keys, other.values))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_is_a_new_dynamic_cache_returned_like_eagers(name: str) -> None:
    model = language_model(name)

    def call(ids: torch.Tensor) -> tuple[Any, ...]:
        result = model(input_ids=ids, use_cache=True)
        return result.logits, [(layer.keys, layer.values) for layer in result.past_key_values.layers]

    Pair(call)(tokens(2, 7))


def test_does_llama_in_bf16_equal_eager() -> None:
    model, inputs = build(TINY["llama"], seed=1)
    Pair(model.bfloat16())(*inputs)


def test_does_greedy_generation_give_eagers_tokens() -> None:
    model = language_model("llama")
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(tokens(1, 5), **settings)
    backend = ACALSimBackend(mode="simulate")
    model.forward = torch.compile(model.forward, backend=backend)
    assert torch.equal(model.generate(tokens(1, 5), **settings), expected)
    assert len(backend.reports) == 4, "one graph a token"


def test_is_a_missing_library_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingToolError, match=r"gpt2 .*pip install 'acalsim_backend\[zoo\]'") as caught:
        load_target("gpt2")
    assert caught.value.exit_code == 4


def test_do_seeds_decide_weights_and_token_ids() -> None:
    (a, (x,)), (b, (y,)), (c, (z,)) = (build(TINY["gpt2"], seed) for seed in (3, 3, 4))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(x, y)
    assert not torch.equal(x, z)
    assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))
