import pytest
import torch

from enlca.losses import ENLCALoss
from enlca.network.sr import SRConfig, SRNetwork
from enlca.training.config import ScheduleConfig
from enlca.training.objective import Objective, first_nonfinite, learning_rate_factor

SMALL = {"channels": 8, "n_blocks": 1, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 7}


def rates(steps, steps_per_epoch=5, **schedule):
    schedule = ScheduleConfig(**schedule)
    return [
        learning_rate_factor(step, schedule=schedule, steps=steps, steps_per_epoch=steps_per_epoch)
        for step in range(steps + 1)
    ]


def test_the_cosine_falls_from_one_to_zero_symmetrically():
    factors = rates(31, kind="cosine")
    assert factors[0] == 1
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    assert factors == sorted(factors, reverse=True)
    assert [x + y for x, y in zip(factors, reversed(factors), strict=True)] == pytest.approx([1] * 32)


def test_the_papers_schedule_halves_at_the_end_of_epochs():
    factors = rates(29, kind="halve", halve_at=[2, 3])
    assert factors == [1] * 10 + [0.5] * 5 + [0.25] * 15


def test_a_stable_rate_is_constant_until_it_decays_to_zero():
    assert rates(29, kind="stable") == [1] * 30
    factors = rates(29, kind="stable", decay_from=13)
    assert factors[:14] == [1] * 14
    assert factors[13:] == sorted(factors[13:], reverse=True)
    assert factors[17] == pytest.approx(0.5)  # 1 - sqrt(4 / 16)
    assert factors[-1] == 0


def test_the_warm_up_is_linear_and_ends_where_the_schedule_goes_on():
    plain, warm = rates(31, kind="cosine"), rates(31, kind="cosine", warmup=4)
    assert warm[:4] == [0.25, 0.5, 0.75, 1]
    assert warm[4:] == plain[4:]


@pytest.fixture
def objective():
    torch.manual_seed(0)
    return Objective(SRNetwork(SRConfig(scale=2, **SMALL)), ENLCALoss(anchors=5))


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randint(256, (2, 3, 11, 11)).byte(), torch.randint(256, (2, 3, 22, 22)).byte()


def test_the_objective_is_the_loss_of_the_network_on_pixels_from_zero_to_one(objective, batch):
    lr, hr = (side.float() / 255 for side in batch)
    sr, embeddings = objective.network.forward_with_embeddings(lr)
    wanted = objective.loss(sr, hr, embeddings, contrast=True, generator=torch.Generator().manual_seed(7))
    terms = objective(*batch, contrast=True, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(terms, wanted)
    warm = objective(*batch, contrast=False)
    assert (warm.total, warm.contrast) == (warm.l1, 0)


def spoil(tensor):
    with torch.no_grad():
        tensor.view(-1)[3] = float("nan")


def test_what_is_not_finite_is_named(objective, batch):
    def culprit():
        return first_nonfinite(objective, *batch, contrast=True)

    objective(*batch, contrast=False).total.backward()
    assert culprit() == "the loss in the run's own precision"
    network = objective.network
    spoil(network.fuse.weight.grad)
    assert culprit() == "the gradient of fuse.weight"
    hook = network.body[1][0].second.register_forward_hook(lambda module, inputs, out: out * float("inf"))
    assert culprit() == "the output of body.1.0.second"
    hook.remove()
    spoil(network.head.weight)
    assert culprit() == "the weight head.weight"
