"""RNAN against its definition, written with the published names, and the law of its attention."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters, edsr_tail
from torch.nn.functional import conv2d, conv_transpose2d

from enlca.peers import rnan
from enlca.peers.rnan import PEER, RNAN, attention_over_queries

H, W, C, GROUPS = 6, 10, 7, 4
B, N, E = 2, 59, 13


def model(scale):
    torch.manual_seed(scale)
    return RNAN(scale=scale, channels=C, groups=GROUPS).eval()


def published(tensors, lr, scale):
    """Compute RNAN from a published state dict, of which nothing may be left."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}

    def conv(name, x, **geometry):
        weight = tensors.pop(f"{name}.weight")
        geometry.setdefault("padding", weight.shape[-1] // 2)
        return conv2d(x, weight, tensors.pop(f"{name}.bias"), **geometry)

    def residual(name, x):
        return x + conv(f"{name}.body.2", conv(f"{name}.body.0", x).relu())

    def non_local(name, x):
        theta, phi, g = (conv(f"{name}.{part}", x).flatten(2) for part in ("theta", "phi", "g"))
        scores = torch.einsum("bei,bej->bij", theta, phi)
        y = torch.einsum("bij,bej->bei", scores.softmax(dim=1), g)
        return x + conv(f"{name}.W", y.reshape(*y.shape[:2], *x.shape[2:]))

    def mask(name, x, *, with_attention):
        if with_attention:
            x = non_local(f"{name}.MB_RB1.0", x)
        x = residual(f"{name}.MB_RB1.{int(with_attention)}", x)
        y = conv(f"{name}.MB_Down.0", x, stride=2)
        y = residual(f"{name}.MB_RB2.1", residual(f"{name}.MB_RB2.0", y))
        weight, bias = tensors.pop(f"{name}.MB_Up.0.weight"), tensors.pop(f"{name}.MB_Up.0.bias")
        y = x + conv_transpose2d(y, weight, bias, stride=2, padding=2)
        return conv(f"{name}.MB_1x1conv.0", residual(f"{name}.MB_RB3.0", y)).sigmoid()

    def group(name, x, *, with_attention=False):
        x = residual(f"{name}.0.RA_RB1.0", x)
        trunk = residual(f"{name}.0.RA_TB.0.body.1", residual(f"{name}.0.RA_TB.0.body.0", x))
        x = x + trunk * mask(f"{name}.0.RA_MB.0", x, with_attention=with_attention)
        x = residual(f"{name}.0.RA_tail.1", residual(f"{name}.0.RA_tail.0", x))
        return conv(f"{name}.1", x)

    head = conv("head.0", conv("sub_mean", 255 * lr))
    x = group("body_nl_low.0.body", head, with_attention=True)
    for i in range(GROUPS - 2):
        x = group(f"body.{i}.body", x)
    x = conv(f"body.{GROUPS - 2}", x)
    x = head + group("body_nl_high.0.body", x, with_attention=True)
    return edsr_tail(tensors, x, scale)


@pytest.mark.parametrize(("scale", "number"), [(2, 9_107_291), (3, 9_291_931), (4, 9_255_003)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: RNAN(scale=scale), number)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    tensors = PEER.write(model(scale))
    assert_is_its_definition(PEER, tensors, published, name="RNAN", scale=scale, size=(H, W))


def embeddings():
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(B, N, E, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("elements", [1, 7 * B * N, 1 << 22])
def test_chunks_of_keys_add_up_to_the_dense_form(monkeypatch, elements):
    monkeypatch.setattr(rnan, "CHUNK_ELEMENTS", elements)
    q, k, v = embeddings()
    weights = (q @ k.mT).exp()
    slow = weights / weights.sum(dim=1, keepdim=True) @ v
    fast = attention_over_queries(q, k, v)
    torch.testing.assert_close(fast, slow)
    upstream = torch.randn_like(slow)
    for a, b in zip(
        torch.autograd.grad(fast, (q, k, v), upstream),
        torch.autograd.grad(slow, (q, k, v), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_each_value_is_handed_out_once_in_all():
    q, k, v = embeddings()
    torch.testing.assert_close(attention_over_queries(q, k, v).sum(dim=1), v.sum(dim=1))


def test_a_picture_with_odd_sides_is_padded_by_inference():
    from enlca.inference.upscaler import Upscaler

    up = Upscaler(model(2), device="cpu")
    assert up(torch.rand(3, 7, 9)).shape == (3, 14, 18)
