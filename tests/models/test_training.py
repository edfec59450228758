"""Do gradients and training steps of a transformer block equal eager PyTorch's?"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from acalsim_backend import ACALSimBackend
from acalsim_backend.backend import FallbackWarning

BATCH, TOKENS, WIDTH, HEADS = 2, 7, 16, 4


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        yield
    torch._dynamo.reset()


class Block(nn.Module):
    """Pre-norm attention by ``scaled_dot_product_attention`` and a GELU feed-forward layer."""

    def __init__(self, mask: str) -> None:
        super().__init__()
        self.mask = mask
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        # Without bias: that of k has no gradient but rounding noise, which Adam would scale up.
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mask = None
        if self.mask == "given":
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.mask == "causal")
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def pair(mask: str) -> tuple[nn.Module, nn.Module]:
    """Two equal blocks."""
    torch.manual_seed(0)
    model = Block(mask)
    return model, copy.deepcopy(model)


def assert_close(got: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """To 1e-4 of the largest value."""
    limit = 1e-4 * expected.abs().max().item()
    assert limit > 0, what
    torch.testing.assert_close(got, expected, rtol=0.0, atol=limit, msg=lambda text: f"{what}: {text}")


def loss(model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(model(x), target)


MASKS = ["none", "causal", "given"]


@pytest.mark.parametrize("mask", MASKS)
def test_are_the_gradients_of_a_transformer_block_eagers(mask: str) -> None:
    model, reference = pair(mask)
    backend = ACALSimBackend(mode="simulate")
    compiled = torch.compile(model, backend=backend)
    x, target = torch.randn(BATCH, TOKENS, WIDTH), torch.randn(BATCH, TOKENS, WIDTH)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    value, expected = loss(compiled, mine, target), loss(reference, other, target)
    assert_close(value, expected, "loss")
    value.backward()
    expected.backward()
    assert backend.reports
    assert mine.grad is not None
    assert other.grad is not None
    assert_close(mine.grad, other.grad, "x")
    for (name, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert p.grad is not None, name
        assert q.grad is not None, name
        assert_close(p.grad, q.grad, name)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("mask", ["none", "causal"])
def test_do_five_training_steps_equal_eager(mask: str, optimizer: str) -> None:
    model, reference = pair(mask)
    backend = ACALSimBackend(mode="simulate")
    compiled = torch.compile(model, backend=backend)
    make: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3),
    }
    steps = [(run, make[optimizer](m.parameters())) for run, m in ((compiled, model), (reference, reference))]
    for _ in range(5):
        x, target = torch.randn(BATCH, TOKENS, WIDTH), torch.randn(BATCH, TOKENS, WIDTH)
        values = []
        for run, step in steps:
            step.zero_grad()
            value = loss(run, x, target)
            value.backward()
            step.step()
            values.append(value.detach())
        assert_close(values[0], values[1], "loss")
    for (name, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert_close(p.detach(), q.detach(), name)
