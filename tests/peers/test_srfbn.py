"""SRFBN against its definition, written with the published names, and the laws of feedback."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters
from torch.nn.functional import conv2d, conv_transpose2d, interpolate, prelu

from enlca.peers.srfbn import PEER, SMALL, SRFBN, FeedbackBlock, going_down, going_up

H, W, C, GROUPS = 7, 5, 3, 3


def rectified(tensors, name, x):
    """A published layer and its PReLU, whatever kind the layer is."""
    weight, bias = tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"]
    side = weight.shape[-1]
    if side <= 3:
        y = conv2d(x, weight, bias, padding=side // 2)
    else:
        up = name == "out" or "upBlocks" in name
        y = (conv_transpose2d if up else conv2d)(x, weight, bias, stride=side - 4, padding=2)
    return prelu(y, tensors[f"{name}.1.weight"])


def published(tensors, lr, scale, *, steps=4):
    """Compute SRFBN from a published state dict."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    x = conv2d(255 * lr, tensors["sub_mean.weight"], tensors["sub_mean.bias"])
    skip = interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    hidden = x = rectified(tensors, "feat_in", rectified(tensors, "conv_in", x))
    for _ in range(steps):
        ups, downs = [], [rectified(tensors, "block.compress_in", torch.cat((x, hidden), dim=1))]
        for group in range(GROUPS):
            y = torch.cat(downs, dim=1)
            if group > 0:
                y = rectified(tensors, f"block.uptranBlocks.{group - 1}", y)
            ups.append(rectified(tensors, f"block.upBlocks.{group}", y))
            y = torch.cat(ups, dim=1)
            if group > 0:
                y = rectified(tensors, f"block.downtranBlocks.{group - 1}", y)
            downs.append(rectified(tensors, f"block.downBlocks.{group}", y))
        hidden = rectified(tensors, "block.compress_out", torch.cat(downs[1:], dim=1))
    y = rectified(tensors, "out", hidden)
    y = skip + conv2d(y, tensors["conv_out.0.weight"], tensors["conv_out.0.bias"], padding=1)
    return conv2d(y, tensors["add_mean.weight"], tensors["add_mean.bias"]) / 255


@pytest.mark.parametrize(
    ("scale", "sizes", "number"),
    [(2, {}, 2_140_534), (3, {}, 2_832_758), (4, {}, 3_631_478), (4, SMALL, 483_146)],
)
def test_it_has_the_published_number_of_parameters(scale, sizes, number):
    assert_parameters(PEER, lambda: SRFBN(scale=scale, **sizes), number)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    torch.manual_seed(scale)
    network = SRFBN(scale=scale, channels=C, groups=GROUPS)
    tensors = PEER.write(network)
    for name, tensor in tensors.items():
        if name.endswith(".1.weight"):
            tensors[name] = torch.rand_like(tensor)
    assert_is_its_definition(PEER, tensors, published, name="SRFBN", scale=scale, size=(H, W))


@torch.no_grad()
def test_steps_make_a_difference_only_by_feedback():
    lr = torch.rand(1, 3, H, W)
    network = SRFBN(scale=2, channels=C, groups=2, steps=1)
    once = network(lr)
    network.steps = 3
    assert not torch.allclose(network(lr), once, atol=1e-6)
    # A block that does not look at its last output makes the same of the same input each time.
    network.block.compress_in[0].weight[:, C:] = 0
    network.steps = 1
    once = network(lr)
    network.steps = 3
    torch.testing.assert_close(network(lr), once)


@torch.no_grad()
def test_a_step_after_two_is_the_third():
    torch.manual_seed(1)
    block, x = FeedbackBlock(C, groups=2, scale=2), torch.randn(2, C, H, W)
    network = SRFBN(scale=2, channels=C, groups=2, steps=3)
    network.block = block
    seen = []
    block.register_forward_hook(lambda _, given, made: seen.append((*given, made)))
    network(torch.rand(2, 3, H, W))
    assert len(seen) == 3
    features = seen[0][0]
    assert all(given[0] is features for given in seen)
    assert seen[0][1] is features
    assert seen[1][1] is seen[0][2]
    assert seen[2][1] is seen[1][2]
    assert block(x, x).shape == x.shape


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_up_and_down_are_transposes_of_each_other(scale):
    up, down = going_up(C, scale)[0].double(), going_down(C, scale)[0].double()
    for layer in (up, down):
        torch.nn.init.zeros_(layer.bias)
    # Both are stored with the LR side first.
    down.weight = up.weight
    lr = torch.randn(1, C, H, W, dtype=torch.float64)
    hr = torch.randn(1, C, scale * H, scale * W, dtype=torch.float64)
    torch.testing.assert_close((up(lr) * hr).sum(), (lr * down(hr)).sum())
