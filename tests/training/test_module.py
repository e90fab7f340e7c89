import dataclasses
from pathlib import Path

import pytest
import torch

from enlca.network.sr import SRConfig
from enlca.training.config import DataConfig, OptimConfig, RunConfig, ScheduleConfig, TrainConfig
from enlca.training.module import SRTraining, learning_rate_factor

SMALL = {"channels": 8, "n_blocks": 1, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 7}


def training(**optim):
    return SRTraining(
        TrainConfig(
            data=DataConfig(train=Path("pictures")),
            network=SRConfig(scale=2, **SMALL),
            run=RunConfig(dir=Path("run"), steps=9),
            optim=OptimConfig(**optim),
        )
    )


class Multiplies(torch.optim.SGD):
    """Takes steps that are easy to foresee: everything, F too, is multiplied by a factor."""

    def step(self, closure=None):
        with torch.no_grad():
            for tensor in self.state_dict_of_network.values():
                tensor.mul_(self.factor)


def step(module, factor=1):
    optimizer = Multiplies(module.network.parameters(), lr=1)
    optimizer.factor, optimizer.state_dict_of_network = factor, module.network.state_dict()
    module.optimizer_step(0, 0, optimizer, None)


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


def test_the_warm_up_is_linear_and_ends_where_the_schedule_goes_on():
    plain, warm = rates(31, kind="cosine"), rates(31, kind="cosine", warmup=4)
    assert warm[:4] == [0.25, 0.5, 0.75, 1]
    assert warm[4:] == plain[4:]


def test_weights_are_averaged_and_random_features_are_copied():
    module = training(ema=0.75)
    state, average = module.network.state_dict(), module.averaged.state_dict()
    old = {name: tensor.clone() for name, tensor in state.items()}
    step(module)
    step(module, factor=3)
    averaged = [name for name in old if not name.endswith("projection")]
    assert len(averaged) < len(old)
    for name in averaged:
        torch.testing.assert_close(average[name], 0.75 * old[name] + 0.25 * 3 * old[name])
    for name in old.keys() - averaged:
        assert torch.equal(average[name], 3 * old[name])


def test_without_an_average_the_weights_themselves_count():
    module = training(ema=0.0)
    assert module.averaged is module.network
    assert module.average is None
    step(module)


def test_the_average_is_not_trained():
    module = training(ema=0.5)
    trained = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in module.network.parameters()}


def test_adam_is_the_papers():
    module = training()
    module.config = dataclasses.replace(module.config, optim=OptimConfig(lr=3e-4))
    [group] = module.configure_optimizers()["optimizer"].param_groups
    assert (group["betas"], group["lr"], group["weight_decay"]) == ((0.9, 0.99), 3e-4, 0)
