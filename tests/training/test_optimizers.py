"""Muon: orthogonal steps for matrices, Adam for the rest, and a state that goes on to the bit."""

import copy

import pytest
import torch
from torch import nn

from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.config import OptimConfig
from enlca.training.optimizers import Muon, build_optimizer, orthogonalize

OUT, IN, SIDE = 5, 3, 3
SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.99), "muon_lr": 0.01, "momentum": 0.9}


def weights_and_gradients(steps, *, channels_last=False, seed=3):
    """A convolution's weight, a bias, and their gradients at each step."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(OUT, IN, SIDE, SIDE, generator=generator)
    if channels_last:
        weight = weight.to(memory_format=torch.channels_last)
    bias = torch.randn(OUT, generator=generator)
    parameters = [nn.Parameter(weight), nn.Parameter(bias)]
    shapes = [(OUT, IN, SIDE, SIDE), (OUT,)]
    return parameters, [[torch.randn(s, generator=generator) for s in shapes] for _ in range(steps)]


def take(optimizer, parameters, gradients):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


@pytest.mark.parametrize("shape", [(2, 7, 31), (3, 31, 7), (1, 11, 11)])
def test_orthogonalized_matrices_have_the_singular_vectors_of_the_input_and_values_near_one(shape):
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = orthogonalize(matrices)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ made @ vh.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(inside, torch.diag_embed(values), atol=1e-9, rtol=0)
    # The quintic's own band for singular values above a hundredth of the norm (Jordan et al. 2024).
    assert 0.6 < values.min() <= values.max() < 1.25


def test_matrices_of_zeros_stay_zero():
    assert not orthogonalize(torch.zeros(1, 3, 5)).any()


def test_a_step_is_nesterov_momentum_orthogonalized_as_written_by_hand():
    parameters, gradients = weights_and_gradients(4)
    start = parameters[0].detach().clone()
    optimizer = Muon(parameters[:1], parameters[1:], **SETTINGS)
    wanted, momentum = start.flatten(1), torch.zeros(OUT, IN * SIDE * SIDE)
    for step in gradients:
        take(optimizer, parameters, step)
        gradient = step[0].flatten(1)
        momentum = 0.9 * momentum + 0.1 * gradient
        wanted = wanted - 0.01 * orthogonalize((0.1 * gradient + 0.9 * momentum)[None])[0]
    torch.testing.assert_close(parameters[0].detach().flatten(1), wanted)


def test_weight_decay_shrinks_the_matrices_alone():
    parameters, gradients = weights_and_gradients(1)
    others, _ = weights_and_gradients(1)
    plain = Muon(parameters[:1], parameters[1:], **SETTINGS)
    decayed = Muon(others[:1], others[1:], **SETTINGS, weight_decay=3.0)
    start = parameters[0].detach().clone()
    take(plain, parameters, gradients[0])
    take(decayed, others, gradients[0])
    torch.testing.assert_close(parameters[0] - others[0], 0.01 * 3.0 * start)
    assert torch.equal(parameters[1], others[1])


def test_a_matrix_of_more_rows_than_columns_takes_longer_steps():
    tall = nn.Parameter(torch.zeros(12, 3))
    tall.grad = torch.randn(12, 3, generator=torch.Generator().manual_seed(2))
    Muon([tall], [], **SETTINGS).step()
    values = torch.linalg.svdvals(tall.detach()) / (0.01 * 2)
    assert 0.6 < values.min() <= values.max() < 1.25


def test_the_other_parameters_are_updated_by_pytorchs_adam():
    parameters, gradients = weights_and_gradients(5)
    twin = nn.Parameter(parameters[1].detach().clone())
    adam = torch.optim.Adam([twin], lr=1e-3, betas=(0.9, 0.99))
    optimizer = Muon(parameters[:1], parameters[1:], **SETTINGS)
    for step in gradients:
        take(optimizer, parameters, step)
        take(adam, [twin], step[1:])
    torch.testing.assert_close(parameters[1], twin)


def test_memory_format_and_company_do_not_change_a_step():
    alone, gradients = weights_and_gradients(3)
    first, _ = weights_and_gradients(3, channels_last=True)
    other, others = weights_and_gradients(3, seed=5)
    single = Muon(alone[:1], alone[1:], **SETTINGS)
    pair = Muon([other[0], first[0]], [other[1], first[1]], **SETTINGS)
    for step, more in zip(gradients, others, strict=True):
        take(single, alone, step)
        take(pair, [*other, *first], [*more, *step])
    torch.testing.assert_close(first[0], alone[0])
    torch.testing.assert_close(first[1], alone[1])


def test_a_restored_state_goes_on_to_the_bit():
    parameters, gradients = weights_and_gradients(6, channels_last=True)
    optimizer = Muon(parameters[:1], parameters[1:], **SETTINGS)
    for step in gradients[:3]:
        take(optimizer, parameters, step)
    again = copy.deepcopy(parameters)
    restored = Muon(again[:1], again[1:], **SETTINGS)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in gradients[3:]:
        take(optimizer, parameters, step)
        take(restored, again, step)
    for one, other in zip(parameters, again, strict=True):
        assert torch.equal(one, other)


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"Muon needs matrices, got a parameter of shape \(5,\)"):
        Muon([nn.Parameter(torch.zeros(5))], [], **SETTINGS)


def test_muon_takes_the_convolutions_between_head_and_upsampler_and_every_parameter_has_one_group():
    small = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 7}
    network = SRNetwork(SRConfig(scale=2, **small))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    adam, muon = build_optimizer(network, OptimConfig(kind="muon")).param_groups
    others, matrices = ([names[id(x)] for x in group["params"]] for group in (adam, muon))
    assert sorted(others + matrices) == sorted(names.values())
    assert {name.split(".")[0] for name in matrices} == {"body", "fuse"}
    assert all(name.endswith("weight") for name in matrices)
    assert all(name.endswith("bias") or name.split(".")[0] in ("head", "upsampler") for name in others)
