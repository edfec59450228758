"""Are the gradients of what training uses PyTorch's own, through the decompositions with which graphs are captured?

Eager computes them with kernels of its own; the captured graph and its backward are made of core ATen.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.backend import ACALSimBackend

labels = torch.tensor([0, 2, 1])
image, rows = (2, 3, 6, 6), (3, 4)

POINTWISE = (
    *(F.relu, F.gelu, F.silu, F.mish, F.elu, F.selu, F.celu, F.leaky_relu, F.softplus, F.hardswish, F.hardsigmoid),
    *(F.hardtanh, F.relu6, F.logsigmoid, F.softsign, F.tanhshrink, F.softshrink, F.hardshrink, torch.sigmoid),
    *(torch.tanh, torch.erf, torch.exp, torch.sin, torch.cos, torch.atan, torch.expm1, torch.square, torch.abs),
)
CASES = {
    **{function.__name__: (function, rows) for function in POINTWISE},
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), rows),
    "glu": (F.glu, rows),
    "softmax": (lambda x: F.softmax(x, -1), rows),
    "log_softmax": (lambda x: F.log_softmax(x, 0), rows),
    "logsumexp": (lambda x: torch.logsumexp(x, 1), rows),
    "cross_entropy": (lambda x: F.cross_entropy(x, labels), rows),
    "cross_entropy_smooth": (lambda x: F.cross_entropy(x, labels, label_smoothing=0.1), rows),
    "nll_loss": (lambda x: F.nll_loss(F.log_softmax(x, 1), labels, weight=torch.ones(4)), rows),
    "mse_loss": (lambda x: F.mse_loss(x, torch.ones_like(x)), rows),
    "l1_loss": (lambda x: F.l1_loss(x, torch.ones_like(x)), rows),
    "smooth_l1_loss": (lambda x: F.smooth_l1_loss(x, torch.ones_like(x)), rows),
    "huber_loss": (lambda x: F.huber_loss(x, torch.ones_like(x)), rows),
    "bce_with_logits": (lambda x: F.binary_cross_entropy_with_logits(x, torch.ones_like(x)), rows),
    "bce": (lambda x: F.binary_cross_entropy(torch.sigmoid(x), torch.ones_like(x)), rows),
    "kl_div": (lambda x: F.kl_div(F.log_softmax(x, 1), torch.full_like(x, 0.25), reduction="batchmean"), rows),
    "cosine_similarity": (lambda x: F.cosine_similarity(x, x.flip(0), dim=1), rows),
    "normalize": (lambda x: F.normalize(x, dim=1), rows),
    "layer_norm": (lambda x: F.layer_norm(x, (4,), torch.ones(4) * 2, torch.ones(4)), rows),
    "rms_norm": (lambda x: F.rms_norm(x, (4,)), rows),
    "group_norm": (lambda x: F.group_norm(x, 3), image),
    "instance_norm": (F.instance_norm, image),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), image),
    "batch_norm_eval": (lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3)), image),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), image),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2, padding=1), image),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), image),
    "interpolate_nearest": (lambda x: F.interpolate(x, scale_factor=2), image),
    "interpolate_bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), image),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x.reshape(2, 12, 3, 3), 2), image),
    "pad_reflect": (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), image),
    "pad": (lambda x: F.pad(x, (1, 2)), rows),
    "conv2d": (lambda x: F.conv2d(x, x[:, :, :3, :3], padding=1), image),
    "conv_transpose2d": (lambda x: F.conv_transpose2d(x, x[:1, :, :3, :3].transpose(0, 1)), image),
    "unfold": (lambda x: F.unfold(x, 2), image),
    "linear": (lambda x: F.linear(x, x, x[:, 0]), rows),
    "bilinear": (lambda x: F.bilinear(x, x, torch.ones(2, 4, 4)), rows),
    "matmul": (lambda x: x @ x.t() @ x, rows),
    "attention": (lambda x: F.scaled_dot_product_attention(x[None], x[None] * 2, x[None]), rows),
    "attention_causal": (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], is_causal=True), rows),
    "attention_mask": (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], torch.eye(3) > 0), rows),
    "embedding": (lambda x: F.embedding(labels, x), rows),
    "index": (lambda x: x[labels] * 2, rows),
    "gather": (lambda x: x.gather(1, labels[:, None]), rows),
    "scatter_add": (lambda x: x.scatter_add(0, labels[:, None].expand(3, 4), x), rows),
    "masked_fill": (lambda x: x.masked_fill(x > 0, 1.0) * x, rows),
    "where": (lambda x: torch.where(x > 0, x * 2, x.exp()), rows),
    "max": (lambda x: x.max(1).values, rows),
    "amax": (lambda x: x.amax(0), rows),
    "var": (lambda x: x.var(1), rows),
    "std": (lambda x: x.std(0), rows),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=1), rows),
    "cumsum": (lambda x: x.cumsum(1), rows),
    "cumprod": (lambda x: x.cumprod(1), rows),
    "cummax": (lambda x: x.cummax(0).values, rows),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), rows),
    "sort": (lambda x: x.sort(1, descending=True).values, rows),
    "topk": (lambda x: x.topk(2, 0).values, rows),
    "median": (lambda x: x.median(1).values, rows),
    "prod": (lambda x: x.prod(1), rows),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), rows),
    "pow": (lambda x: (x * x + 1) ** 1.5, rows),
    "cat": (lambda x: torch.cat([x, x * 2], 1).chunk(2, 0)[0], rows),
    "slice": (lambda x: x[1:, ::2] * 3, rows),
    "roll": (lambda x: x.roll(1, 1) * x, rows),
    "einsum": (lambda x: torch.einsum("ij,kj->ik", x, x), rows),
}


@pytest.fixture(scope="module")
def backend() -> ACALSimBackend:
    return ACALSimBackend(mode="simulate", machine="native")


@pytest.mark.parametrize("name", CASES)
def test_is_the_gradient_eagers(backend: ACALSimBackend, name: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    function, shape = CASES[name]
    x = torch.randn(shape)
    results = []
    for call in (function, torch.compile(function, backend=backend, dynamic=False)):
        leaf = x.clone().requires_grad_()
        value = call(leaf)
        (value * torch.linspace(0.5, 1.5, value.numel()).reshape(value.shape)).sum().backward()
        results.append((value.detach(), leaf.grad))
    (expected, gradient), (got, own) = results
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(own, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_are_all_gradients_of_a_transformer_eagers(causal: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    twin = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    twin.load_state_dict(layer.state_dict())
    x, mask = torch.randn(2, 5, 16), nn.Transformer.generate_square_subsequent_mask(5) if causal else None
    compiled = torch.compile(layer, backend=ACALSimBackend(mode="simulate"))
    weights = torch.randn(x.shape)  # of the loss: the sum of a layer norm's squares would have no gradient
    for model in (compiled, twin):
        (model(x, src_mask=mask, is_causal=causal) * weights).sum().backward()
    for (name, got), expected in zip(layer.named_parameters(), twin.parameters(), strict=True):
        assert got.grad is not None
        assert expected.grad is not None
        scale = expected.grad.abs().max()
        assert (got.grad - expected.grad).abs().max() <= 1e-4 * scale, name
