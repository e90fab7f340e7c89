import json
import math

import pytest
import torch

from enlca.attention.block import NonLocalBlock
from enlca.network.sr import SMALLEST_EPS, SRConfig, SRNetwork
from enlca.network.zoo import NETWORKS, edsr, enlcn, enlcn_light, enlcn_tiny, nlan, nlsn


def small(**settings: object) -> SRNetwork:
    torch.manual_seed(0)
    defaults = {
        "scale": 4,
        "channels": 11,
        "n_blocks": 4,
        "blocks_per_stage": 2,
        "embed_channels": 3,
        "n_features": 7,
    }
    return SRNetwork(SRConfig(**{**defaults, **settings})).eval()  # pyright: ignore[reportArgumentType]


def picture(height: int = 13, width: int = 11) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def count(network: SRNetwork) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("upsampler", ["stepwise", "direct"])
@pytest.mark.parametrize("attention", ["linear", "exact", "lsh", "none"])
@pytest.mark.parametrize("skip", ["none", "bilinear"])
def test_every_kind_upscales_odd_sizes_by_its_scale(scale, upsampler, attention, skip):
    network = small(scale=scale, upsampler=upsampler, attention=attention, skip=skip)
    assert network(picture()).shape == (2, 3, 13 * scale, 11 * scale)


def test_forward_is_a_tensor_in_training_and_evaluation():
    network = small()
    for mode in (True, False):
        assert isinstance(network.train(mode)(picture()), torch.Tensor)


def test_embeddings_are_those_of_each_block_and_change_nothing():
    network, x = small(), picture()
    sr, embeddings = network.forward_with_embeddings(x)
    assert torch.equal(sr, network(x))
    blocks = [stage for stage in network.body if isinstance(stage, NonLocalBlock)]
    assert len(embeddings) == len(blocks) == 3
    first = blocks[0].embed(network.head(x - network.mean))
    assert torch.equal(embeddings[0].q, first.q)
    assert torch.equal(embeddings[0].k, first.k)


def test_attention_comes_first_after_every_stage_and_last():
    kinds = ["global" if isinstance(stage, NonLocalBlock) else "local" for stage in small().body]
    assert kinds == ["global", "local", "global", "local", "global"]
    assert not any(isinstance(stage, NonLocalBlock) for stage in small(attention="none").body)


def test_a_constant_image_of_the_mean_gives_the_mean_if_the_last_layer_is_zero():
    network = small()
    for parameter in network.upsampler[-1].parameters():
        torch.nn.init.zeros_(parameter)
    out = network(network.mean.expand(1, 3, 5, 7))
    torch.testing.assert_close(out, network.mean.expand_as(out))


def test_the_output_is_the_bilinear_skip_if_the_last_layer_is_zero():
    network, x = small(skip="bilinear"), picture()
    for parameter in network.upsampler[-1].parameters():
        torch.nn.init.zeros_(parameter)
    expected = torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(x), expected)


def test_each_pixel_depends_on_the_whole_image_with_attention_and_on_its_neighbours_without():
    x = picture(37, 41)
    changed = x.clone()
    changed[..., -1, -1] += 1.0
    for attention, sees in (("linear", True), ("exact", True), ("none", False)):
        network = small(attention=attention)
        with torch.no_grad():
            difference = (network(changed) - network(x))[..., :4, :4].abs().max()
        assert (float(difference) > 0) is sees, attention


@pytest.mark.parametrize("features", ["positive", "sharp"])
def test_gradients_reach_every_parameter(features):
    network = small(features=features).train()
    network(picture()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


@pytest.mark.parametrize("features", ["positive", "sharp"])
def test_redrawing_changes_every_projection_and_no_parameter(features):
    network = small(features=features)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.redraw_(torch.Generator().manual_seed(5))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) is not name.endswith("projection"), name
    assert sum(name.endswith("projection") for name in before) == 3


def test_redrawing_gives_each_block_its_own_features():
    network = small()
    network.redraw_(torch.Generator().manual_seed(5))
    first, second, _ = (t for n, t in network.state_dict().items() if n.endswith("projection"))
    assert not torch.equal(first, second)


def test_the_paper_s_network_has_43_58_million_parameters_at_x4_and_41_22_at_x2():
    with torch.device("meta"):
        sizes = {scale: count(enlcn(scale)) for scale in (2, 4)}
        # EDSR's own count at x4, for the backbone alone.
        backbone = count(edsr(4))
    assert round(sizes[4] / 1e6, 2) == 43.58
    assert round(sizes[2] / 1e6, 2) == 41.22
    assert round(backbone / 1e6, 2) == 43.09


def test_nlsn_has_44_16_million_parameters_at_x4_and_41_80_at_x2():
    with torch.device("meta"):
        assert [round(count(nlsn(scale)) / 1e6, 2) for scale in (4, 2)] == [44.16, 41.80]


def test_nlsn_has_one_embedding_for_queries_and_keys_in_the_places_of_enlcn():
    with torch.device("meta"):
        places = {name: [type(stage) for stage in NETWORKS[name](4).body] for name in ("nlsn", "enlcn")}
        keys = [name for name in nlsn(4).state_dict() if name.startswith("body.0.")]
    assert places["nlsn"] == places["enlcn"]
    assert keys == [
        f"body.0.embed.{layer}.{kind}" for layer in ("match", "value") for kind in ("weight", "bias")
    ]


def test_settings_of_checkpoints_older_than_a_field_get_its_default():
    old = small().config.to_dict()
    del old["n_hashes"], old["chunk"]
    assert SRConfig.from_dict(old) == small().config


def test_small_networks_keep_their_promised_size():
    with torch.device("meta"):
        assert 0.45e6 < count(enlcn_light(4)) < 0.6e6
        assert count(enlcn_tiny(4)) < 0.3e6


def test_names_build_what_they_say():
    with torch.device("meta"):
        assert {name: build().config.attention for name, build in NETWORKS.items()} == {
            "enlcn": "linear",
            "enlcn-light": "window",
            "enlcn-tiny": "linear",
            "edsr": "none",
            "nlan": "exact",
            "nlsn": "lsh",
        }
        assert nlan(4).config.n_blocks == edsr(4).config.n_blocks == 32
        assert enlcn_tiny(3, channels=16).config.channels == 16


def test_a_config_survives_json():
    config = small(scale=3, skip="bilinear").config
    assert SRConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 5}, "scale must be one of 2, 3, 4; got 5"),
        ({"attention": "soft"}, "attention must be one of none, exact, linear, lsh, window; got 'soft'"),
        ({"upsampler": "x"}, "upsampler must be one of stepwise, direct"),
        ({"skip": "x"}, "skip must be one of none, bilinear"),
        ({"n_blocks": 5}, r"n_blocks \(5\) must be a multiple of blocks_per_stage \(2\)"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"amplification": -1.0}, "amplification must be positive"),
        *(
            ({"embed_eps": eps}, "embed_eps must be finite and at least")
            for eps in (0.0, 9e-19, math.nan, math.inf)
        ),
        ({"feature_floor": -1e-4}, "feature_floor must be finite and not negative"),
        ({"embed_kernel": 2}, "embed_kernel must be odd, from 1 to 255; got 2"),
    ],
)
def test_impossible_settings_are_refused_with_what_is_possible(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


@pytest.mark.parametrize("attention", ["linear", "exact", "window", "lsh"])
def test_features_that_are_all_zero_are_finite_at_the_smallest_eps(attention):
    network = small(attention=attention, embed_eps=SMALLEST_EPS)
    for parameter in network.parameters():
        parameter.data.zero_()
    assert network(picture()).isfinite().all()


def test_unknown_and_missing_settings_are_refused():
    with pytest.raises(ValueError, match=r"unknown network settings \['depth'\]"):
        SRConfig.from_dict({"scale": 4, "depth": 3})
    with pytest.raises(ValueError, match="lack 'scale'"):
        SRConfig.from_dict({"channels": 3})


def test_a_picture_does_not_depend_on_its_batch_where_features_are_fitted_to_it():
    network, x = small(features="sharp"), picture()
    torch.testing.assert_close(network(x)[1:], network(x[1:]))


def test_features_are_a_setting_with_the_papers_as_default():
    known = small(features="balanced").config
    assert SRConfig.from_dict(json.loads(json.dumps(known.to_dict()))) == known
    older = known.to_dict()
    del older["features"]
    assert SRConfig.from_dict(older).features == "positive"
    assert small(features="sharp").state_dict().keys() == small().state_dict().keys()
    with pytest.raises(
        ValueError, match="features must be one of positive, centred, balanced, sharp; got 'x'"
    ):
        small(features="x")
    with pytest.raises(ValueError, match=r"a floor .* needs positive features; got features 'sharp'"):
        small(features="sharp", feature_floor=1e-4)
