"""The maps of a point: those of `enlca.analysis`, with the settings that the page has."""

import pytest
import torch

from enlca.analysis.correlation import exact_weights, own_weights, view_of
from enlca.explorer.looking import Settings, look
from enlca.network.zoo import nlan, nlsn

SMALL = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 8}
AT = (5, 3)
LR = torch.rand(1, 3, 11, 13, generator=torch.Generator().manual_seed(3))


OWN = Settings()


def maps_of(network, settings=OWN):
    view = view_of(network, LR, block=1)
    return view, {one.name: one for one in look(view, network.config, *AT, settings)}


def test_untouched_settings_show_what_the_network_applies(tiny_network):
    view, found = maps_of(tiny_network)
    at = view.position(*AT)
    torch.testing.assert_close(found["ENLA, as applied"].weights.flatten(), own_weights(view, at))
    torch.testing.assert_close(found["Exact softmax"].weights.flatten(), exact_weights(view, at))
    assert "own F" in found["ENLA, as applied"].about


def test_every_map_sums_to_one_but_the_spread(tiny_network):
    _, found = maps_of(tiny_network)
    assert list(found) == ["Exact softmax", "ENLA, as applied", "Exact without k", "NLSA", "ENLA's spread"]
    for one in found.values():
        assert one.weights.shape == (11, 13)
        assert (one.sparsity is None) == (one.name == "ENLA's spread")
        if one.sparsity is not None:
            torch.testing.assert_close(one.weights.sum(), torch.tensor(1.0))


@pytest.mark.parametrize(
    "settings", [Settings(redraw=1), Settings(n_features=16), Settings(amplification=3.0)]
)
def test_k_m_and_redraws_change_enla(tiny_network, settings):
    _, before = maps_of(tiny_network)
    _, after = maps_of(tiny_network, settings)
    assert not torch.equal(before["ENLA, as applied"].weights, after["ENLA, as applied"].weights)
    torch.testing.assert_close(before["Exact without k"].weights, after["Exact without k"].weights)
    _, again = maps_of(tiny_network, settings)
    assert torch.equal(again["ENLA, as applied"].weights, after["ENLA, as applied"].weights)


def test_a_large_k_is_sharper_than_a_small_one(tiny_network):
    _, sharp = maps_of(tiny_network, Settings(amplification=20.0))
    _, flat = maps_of(tiny_network, Settings(amplification=0.5))
    assert sharp["Exact softmax"].sparsity.effective < flat["Exact softmax"].sparsity.effective


@pytest.mark.parametrize("build", [nlan, nlsn])
def test_other_attentions_are_shown_as_well(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(4, **SMALL).eval()
    view, found = maps_of(network)
    name = "NLSA" if build is nlsn else "Exact softmax"
    torch.testing.assert_close(found[name].weights.flatten(), own_weights(view, view.position(*AT)))
    assert ("Exact without k" in found) == (build is nlan)


def test_a_point_outside_is_refused(tiny_network):
    view = view_of(tiny_network, LR, block=0)
    with pytest.raises(ValueError, match="outside"):
        list(look(view, tiny_network.config, 11, 0, Settings()))
