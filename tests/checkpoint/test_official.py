"""The authors' layout, against their network written down once more (as DESIGN, section 5, describes it)."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from enlca.checkpoint.official import RELEASED, from_official, network_of, official_names, to_official
from enlca.errors import CheckpointError
from enlca.inference.transforms import chopped
from enlca.network.sr import SRConfig, SRNetwork

# Relative to the largest output; both sides in fp32, where exp(F u) spans nine decades.
TOLERANCE = 1e-5

# For each setting that a file does not show, one that the released code has not.
OTHERS = {
    "attention": "exact",
    "blocks_per_stage": 4,
    "amplification": 5.0,
    "embed_kernel": 3,
    "embed_eps": 1e-12,
    "feature_floor": 0.0,
    "res_scale": 1.0,
    "attention_scale": 1.0,
    "upsampler": "direct",
    "skip": "bilinear",
    "mean": (0.5, 0.5, 0.5),
}


class Attention(nn.Module):
    """ENLCA as released: exp and a floor, no logarithms, the features of all positions at once."""

    def __init__(self, channels, reduced, n_features):
        super().__init__()
        self.conv_match1 = nn.Sequential(nn.Conv2d(channels, reduced, 1))
        self.conv_match2 = nn.Sequential(nn.Conv2d(channels, reduced, 1))
        self.conv_assembly = nn.Sequential(nn.Conv2d(channels, channels, 1))
        self.attn_fn = nn.Module()
        self.attn_fn.register_buffer("projection_matrix", torch.randn(n_features, reduced))

    def features(self, u):
        f = self.attn_fn.projection_matrix
        return (torch.exp(u @ f.T - u.square().sum(-1, keepdim=True) / 2) + 1e-4) / math.sqrt(len(f))

    def forward(self, x):
        q, k = (
            math.sqrt(6) * normalize(conv(x), dim=1, eps=5e-5).flatten(2).mT
            for conv in (self.conv_match1, self.conv_match2)
        )
        v = self.conv_assembly(x).flatten(2).mT
        weights = self.features(q) @ self.features(k).mT
        y = weights @ v / weights.sum(dim=-1, keepdim=True)
        return 0.1 * y.mT.reshape(x.shape) + x


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.body = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x):
        return 0.1 * self.body(x) + x


class Released(nn.Module):
    """ENLCN as released, with its names."""

    def __init__(self, scale, channels=256, n_blocks=32, reduced=64, n_features=128):
        super().__init__()
        mean = torch.tensor([0.4488, 0.4371, 0.4040])
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for shift, sign in ((self.sub_mean, -1), (self.add_mean, 1)):
            shift.weight.data = torch.eye(3).view(3, 3, 1, 1)
            shift.bias.data = sign * mean
        self.head = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1))
        body = [Attention(channels, reduced, n_features)]
        for i in range(n_blocks):
            body.append(Residual(channels))
            if (i + 1) % 8 == 0:
                body.append(Attention(channels, reduced, n_features))
        self.body = nn.ModuleList([*body, nn.Conv2d(channels, channels, 3, padding=1)])
        upscale = []
        for step in {2: [2], 3: [3], 4: [2, 2]}[scale]:
            upscale += [nn.Conv2d(channels, step**2 * channels, 3, padding=1), nn.PixelShuffle(step)]
        self.tail = nn.Sequential(nn.Sequential(*upscale), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, x):
        head = x = self.head(self.sub_mean(x))
        for layer in self.body:
            x = layer(x)
        return self.add_mean(self.tail(x + head))


SMALL = {"channels": 12, "n_blocks": 16, "reduced": 5, "n_features": 7}


def released(scale):
    """Weights large enough that every layer counts, and short vectors here and there."""
    with torch.random.fork_rng():
        torch.manual_seed(scale)
        network = Released(scale, **SMALL).eval()
        for layer in network.body:
            for convolution in layer.modules():
                if isinstance(convolution, nn.Conv2d):
                    convolution.weight.data *= 4
        # Of lengths around 5e-5, where the authors' eps decides.
        for attention in (network.body[0], network.body[18]):
            attention.conv_match1[0].weight.data *= 2e-5
            attention.conv_match2[0].bias.data.zero_()
            attention.conv_match2[0].weight.data *= 2e-5
        return network


def full_size(scale):
    with torch.device("meta"):
        return Released(scale)


def converted(state):
    config, tensors = from_official(state)
    network = SRNetwork(config)
    network.load_state_dict(tensors)
    return network.eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_a_converted_network_makes_the_authors_pictures(scale):
    theirs = released(scale)
    ours = converted(theirs.state_dict())
    lr = torch.rand(2, 3, 17, 13, generator=torch.Generator().manual_seed(0))
    expected = theirs(lr)
    assert expected.shape == (2, 3, 17 * scale, 13 * scale)
    assert (ours(lr) - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize(
    "setting", ["feature_floor", "embed_eps", "amplification", "res_scale", "attention_scale"]
)
@torch.no_grad()
def test_each_setting_that_the_file_does_not_show_is_felt(setting):
    """Else the test above would prove nothing about it."""
    theirs = released(2)
    config, tensors = from_official(theirs.state_dict())
    other = SRNetwork(SRConfig(**{**config.to_dict(), setting: OTHERS[setting]})).eval()
    other.load_state_dict(tensors)
    lr = torch.rand(1, 3, 17, 13, generator=torch.Generator().manual_seed(0))
    expected = theirs(lr)
    assert (other(lr) - expected).abs().max() > 5 * TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sizes_are_read_off_the_shapes_and_the_rest_is_the_released_codes(scale):
    config, _ = from_official(released(scale).state_dict())
    assert config == SRConfig(
        scale=scale, channels=12, n_blocks=16, embed_channels=5, n_features=7, **RELEASED
    )
    assert (config.feature_floor, config.embed_eps, config.res_scale) == (1e-4, 5e-5, 0.1)


@pytest.mark.parametrize(("scale", "keys", "millions"), [(2, 175, 41.22), (3, 175, 44.17), (4, 177, 43.58)])
def test_at_full_size_keys_shapes_and_numbers_are_the_authors(scale, keys, millions):
    theirs = full_size(scale).state_dict()
    config = SRConfig(scale=scale, **RELEASED)
    with torch.device("meta"):
        ours = to_official(config, SRNetwork(config).state_dict())
    assert {name: x.shape for name, x in ours.items()} == {name: x.shape for name, x in theirs.items()}
    assert list(ours) == list(theirs)
    assert len(ours) == keys
    parameters = sum(x.numel() for name, x in ours.items() if not name.endswith("projection_matrix"))
    assert round(parameters / 1e6, 2) == millions


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_full_size_file_has_the_papers_settings(scale):
    """One number seen through views of every shape, so that this costs no memory."""
    state = {name: torch.zeros(()).expand(x.shape) for name, x in full_size(scale).state_dict().items()}
    small = released(scale).state_dict()
    state |= {name: x for name, x in small.items() if name.startswith(("sub_mean", "add_mean"))}
    assert from_official(state)[0] == SRConfig(scale=scale, **RELEASED)


def test_places_in_the_body_are_the_authors():
    names = official_names(SRConfig(scale=4, **RELEASED))
    attention = {int(name.split(".")[1]) for name in names.values() if name.endswith("projection_matrix")}
    assert attention == {0, 9, 18, 27, 36}
    assert names["body.0.embed.query.bias"] == "body.0.conv_match1.0.bias"
    assert names["body.8.embed.value.weight"] == "body.36.conv_assembly.0.weight"
    assert names["body.1.0.first.weight"] == "body.1.body.0.weight"
    assert names["body.3.7.second.bias"] == "body.17.body.2.bias"
    assert names["fuse.weight"] == "body.37.weight"
    assert names["upsampler.2.weight"] == "tail.0.2.weight"
    assert names["upsampler.4.weight"] == "tail.1.weight"


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_there_and_back_is_the_same_to_the_bit(scale):
    theirs = released(scale).state_dict()
    config, ours = from_official(theirs)
    again = to_official(config, ours)
    assert list(again) == list(theirs)
    assert all(torch.equal(again[name], tensor) for name, tensor in theirs.items())
    config_again, ours_again = from_official(again)
    assert config_again == config
    assert ours_again.keys() == ours.keys() == SRNetwork(config).state_dict().keys()
    assert all(torch.equal(ours_again[name], tensor) for name, tensor in ours.items())


def test_the_prefix_of_data_parallel_is_understood():
    theirs = released(2)
    wrapped = nn.DataParallel(theirs).state_dict()
    assert all(name.startswith("module.") for name in wrapped)
    config, tensors = from_official(wrapped)
    plain_config, plain = from_official(theirs.state_dict())
    assert config == plain_config
    assert all(torch.equal(tensors[name], tensor) for name, tensor in plain.items())


def test_nothing_is_drawn_from_the_global_generator():
    state = released(2).state_dict()
    before = torch.get_rng_state()
    to_official(*from_official(state))
    network_of(state)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("setting", RELEASED)
def test_a_network_that_the_released_code_cannot_build_is_refused_by_the_name_of_the_setting(setting):
    config = SRConfig(scale=2, channels=4, n_blocks=8, **{**RELEASED, setting: OTHERS[setting]})
    with pytest.raises(CheckpointError) as caught:
        to_official(config, SRNetwork(config).state_dict())
    line = str(caught.value)
    assert f"{setting} {RELEASED[setting]!r}, and this network {OTHERS[setting]!r}" in line
    assert not any(f"{other} " in line for other in RELEASED.keys() - {setting, "attention"})


def test_a_state_dict_that_does_not_fit_its_settings_is_not_written():
    config, tensors = from_official(released(2).state_dict())
    tensors["fuse.bias"] = torch.ones(5)
    del tensors["head.bias"]
    with pytest.raises(
        CheckpointError, match=r"lacks head\.bias; has fuse\.bias of shape \[5\] instead of \[12\]"
    ):
        to_official(config, tensors)


@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_chop_cuts_the_authors_network_and_ours_alike(scale):
    theirs = released(scale)
    ours = converted(theirs.state_dict())
    lr = torch.rand(1, 3, 61, 47, generator=torch.Generator().manual_seed(0))
    expected = chopped(theirs, scale=scale)(lr)
    assert (chopped(ours, scale=scale)(lr) - expected).abs().max() <= TOLERANCE * expected.abs().max()
    # Chop matters here: the whole picture gives another result.
    assert (theirs(lr) - expected).abs().max() > 5 * TOLERANCE * expected.abs().max()
