"""SAN against its definition, written with the published names, and second-order pooling by eigenvalues."""

import pytest
import torch
from layouts import assert_is_its_definition, assert_parameters
from torch.nn.functional import conv2d, max_pool2d, pixel_shuffle

from enlca.attention.exact import dense_attention
from enlca.errors import CheckpointError
from enlca.peers import san
from enlca.peers.san import PEER, SAN, NonLocal, SecondOrderAttention, covariance, in_quarters, square_root

H, W, C, GROUPS, BLOCKS, REDUCTION, EMBED = 9, 7, 11, 3, 2, 5, 2
SIZES = {
    "channels": C,
    "groups": GROUPS,
    "blocks": BLOCKS,
    "reduction": REDUCTION,
    "embed_channels": EMBED,
}
UNUSED = {
    "conv_last.weight",
    "conv_last.bias",
    *(f"non_local.soca.conv_du.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")),
    *(f"RG.{group}.gamma" for group in range(GROUPS)),
}


def conv(tensors, name, x):
    weight = tensors[f"{name}.weight"]
    return conv2d(x, weight, tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)


def eigenvalue_root(matrix, *, steps):
    """The polynomial that `steps` of Newton and Schulz are, applied to each eigenvalue."""
    values, vectors = torch.linalg.eigh(matrix)
    total = values.sum(dim=-1, keepdim=True)
    y, z = values / total, torch.ones_like(values)
    for _ in range(steps):
        correction = (3 - z * y) / 2
        y, z = y * correction, correction * z
    return vectors @ torch.diag_embed(y * total.sqrt()) @ vectors.mT


def non_local(tensors, x):
    made = torch.empty_like(x)
    top, left = x.shape[-2] // 2, x.shape[-1] // 2
    for rows in (slice(0, top), slice(top, None)):
        for columns in (slice(0, left), slice(left, None)):
            part = x[..., rows, columns]
            theta = conv(tensors, "non_local.non_local.theta", part)
            phi, g = (max_pool2d(conv(tensors, f"non_local.non_local.{n}.0", part), 2) for n in ("phi", "g"))
            y = dense_attention(theta.flatten(2), phi.flatten(2), g.flatten(2)).view_as(theta)
            made[..., rows, columns] = part + conv(tensors, "non_local.non_local.W", y)
    return made


def published(tensors, lr, scale):
    """Compute SAN from a published state dict."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    head = conv(tensors, "head.0", conv(tensors, "sub_mean", 255 * lr))
    x = source = non_local(tensors, head)
    for group in range(GROUPS):
        name, y = f"RG.{group}", x
        for block in range(BLOCKS):
            inner = conv(tensors, f"{name}.rcab.{block}.conv_first.0", y).relu()
            y = y + conv(tensors, f"{name}.rcab.{block}.conv_first.2", inner)
        second = torch.stack([torch.cov(sample, correction=0) for sample in y.flatten(2)])
        statistics = eigenvalue_root(second, steps=5).mean(dim=1)[:, :, None, None]
        squeezed = conv(tensors, f"{name}.soca.conv_du.0", statistics).relu()
        y = y * conv(tensors, f"{name}.soca.conv_du.2", squeezed).sigmoid()
        x = x + conv(tensors, f"{name}.conv_last", y) + tensors["gamma"] * source
    x = head + non_local(tensors, x)
    for step, name in {2: [(2, 0)], 3: [(3, 0)], 4: [(2, 0), (2, 2)]}[scale]:
        x = pixel_shuffle(conv(tensors, f"tail.0.{name}", x), step)
    return conv(tensors, "add_mean", conv(tensors, "tail.1", x)) / 255


def random_tensors(scale, seed):
    """A published state dict in which nothing is zero."""
    torch.manual_seed(seed)
    tensors = PEER.write(SAN(scale=scale, **SIZES))
    for name, tensor in tensors.items():
        if "gamma" in name or ".W." in name:
            tensors[name] = torch.randn_like(tensor)
    return tensors


@pytest.mark.parametrize(("scale", "number"), [(2, 15_712_800), (3, 15_897_440), (4, 15_860_512)])
def test_it_has_the_published_number_of_parameters(scale, number):
    assert_parameters(PEER, lambda: SAN(scale=scale), number)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_published_file_gives_what_its_definition_says(scale):
    tensors = random_tensors(scale, seed=scale)
    assert_is_its_definition(PEER, tensors, published, name="SAN", scale=scale, size=(H, W))


def test_exactly_the_tensors_that_are_said_to_be_unused_do_not_change_the_result():
    network, lr = PEER.read(random_tensors(2, seed=5)), torch.rand(1, 3, H, W)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    network(lr).square().sum().backward()
    names = PEER.published(network)
    idle = {names[ours] for ours, parameter in network.named_parameters() if parameter.grad is None}
    assert idle == UNUSED


def test_covariances_are_those_of_a_population():
    x = torch.randn(3, C, 29)
    expected = torch.stack([torch.cov(sample, correction=0) for sample in x])
    torch.testing.assert_close(covariance(x), expected)
    torch.testing.assert_close(covariance(x + 1000), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_newton_and_schulz_are_a_polynomial_of_the_eigenvalues(steps):
    x = torch.randn(3, C, 29, dtype=torch.float64) * torch.logspace(-2, 1, C, dtype=torch.float64)[:, None]
    matrix = covariance(x)
    torch.testing.assert_close(square_root(matrix, steps=steps), eigenvalue_root(matrix, steps=steps))


def test_many_steps_are_the_square_root_and_five_are_near_it_where_eigenvalues_are_alike():
    orthogonal = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    matrix = orthogonal @ torch.diag(torch.tensor([0.8, 0.9, 1.0, 1.1, 1.2]).double()) @ orthogonal.mT
    root = square_root(matrix[None], steps=30)[0]
    torch.testing.assert_close(root @ root, matrix)
    five = square_root(matrix[None])[0]
    torch.testing.assert_close(five, root, rtol=1e-3, atol=1e-3)


def test_features_of_one_value_have_a_root_without_nan():
    attention = SecondOrderAttention(C, reduction=REDUCTION)
    assert attention(torch.full((1, C, H, W), 3.0)).isfinite().all()
    assert not square_root(torch.zeros(1, C, C)).any()


def test_attention_does_not_depend_on_the_size_of_the_features_scale():
    """The root grows as the standard deviation, not as the variance."""
    matrix = covariance(torch.randn(1, C, 29, dtype=torch.float64))
    torch.testing.assert_close(square_root(49 * matrix), 7 * square_root(matrix))


def test_statistics_are_those_of_the_middle_of_larger_pictures(monkeypatch):
    monkeypatch.setattr(san, "LARGEST_SIDE", 5)
    attention, x = SecondOrderAttention(C, reduction=REDUCTION), torch.randn(1, C, 9, 4)
    border = x.clone()
    border[..., :2, :] = border[..., 7:, :] = 100.0
    torch.testing.assert_close(attention(border)[..., 2:7, :], attention(x)[..., 2:7, :])
    border[..., 2, 0] = 100.0
    assert not torch.allclose(attention(border)[..., 3:7, :], attention(x)[..., 3:7, :])


def test_a_quarter_does_not_see_the_others():
    block, x = NonLocal(C, embed_channels=EMBED), torch.randn(1, C, H, W)
    torch.nn.init.normal_(block.out.weight)
    changed = x.clone()
    changed[..., H // 2 :, W // 2 :] += 1
    before, after = in_quarters(block, x), in_quarters(block, changed)
    same = torch.ones(H, W, dtype=torch.bool)
    same[H // 2 :, W // 2 :] = False
    torch.testing.assert_close(before[..., same], after[..., same])
    assert not torch.allclose(before[..., ~same] + 1, after[..., ~same])
    # Each of them is attention within it.
    torch.testing.assert_close(before[..., : H // 2, : W // 2], block(x[..., : H // 2, : W // 2]))


def test_the_smallest_input_is_what_the_pooling_needs():
    network = SAN(scale=2, **SIZES)
    side = network.smallest_input
    assert network(torch.rand(1, 3, side, side)).isfinite().all()
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 3, side - 1, side - 1))


def test_a_missing_tensor_is_named():
    tensors = random_tensors(2, seed=3)
    del tensors["RG.1.gamma"]
    with pytest.raises(CheckpointError, match=r"not SAN: it lacks RG.1.gamma"):
        PEER.read(tensors)
