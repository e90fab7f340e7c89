"""Attention maps: those of `enlca.analysis` with the settings of the page, and their drawing."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from enlca.analysis.correlation import exact_weights, own_weights, view_of
from enlca.explorer import maps
from enlca.explorer.maps import MapSettings, attention_maps
from enlca.network.zoo import enlcn_light, enlcn_tiny, nlan, nlsn

SMALL = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 8}
AT = (5, 3)
LR = torch.rand(1, 3, 11, 13, generator=torch.Generator().manual_seed(3))


OWN = MapSettings()


def maps_of(network, settings=OWN):
    view = view_of(network, LR, block=1)
    return view, {one.name: one for one in attention_maps(view, network.config, *AT, settings)}


def test_untouched_settings_show_what_the_network_applies(tiny_network):
    view, found = maps_of(tiny_network)
    at = view.position(*AT)
    torch.testing.assert_close(found["ENLA, as applied"].weights.flatten(), own_weights(view, at))
    torch.testing.assert_close(found["Exact softmax"].weights.flatten(), exact_weights(view, at))
    assert "own F" in found["ENLA, as applied"].about


def test_fitted_features_are_fitted_to_the_picture_as_the_network_fits_them():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = enlcn_tiny(4, features="sharp", **SMALL).eval()
    view, found = maps_of(network)
    applied = found["ENLA, as applied"]
    torch.testing.assert_close(applied.weights.flatten(), own_weights(view, view.position(*AT)))
    assert applied.about == "m = 8, sharp features, the network's own F"
    assert float(found["ENLA's spread"].weights.sum()) > 0


def test_every_map_sums_to_one_but_the_spread(tiny_network):
    _, found = maps_of(tiny_network)
    assert list(found) == ["Exact softmax", "ENLA, as applied", "Exact without k", "NLSA", "ENLA's spread"]
    for one in found.values():
        assert one.weights.shape == (11, 13)
        assert (one.sparsity is None) == (one.name == "ENLA's spread")
        if one.sparsity is not None:
            torch.testing.assert_close(one.weights.sum(), torch.tensor(1.0))


@pytest.mark.parametrize(
    "settings", [MapSettings(redraw=1), MapSettings(n_features=16), MapSettings(amplification=3.0)]
)
def test_k_m_and_redraws_change_enla(tiny_network, settings):
    _, before = maps_of(tiny_network)
    _, after = maps_of(tiny_network, settings)
    assert not torch.equal(before["ENLA, as applied"].weights, after["ENLA, as applied"].weights)
    torch.testing.assert_close(before["Exact without k"].weights, after["Exact without k"].weights)
    _, again = maps_of(tiny_network, settings)
    assert torch.equal(again["ENLA, as applied"].weights, after["ENLA, as applied"].weights)


def test_a_large_k_is_sharper_than_a_small_one(tiny_network):
    _, sharp = maps_of(tiny_network, MapSettings(amplification=20.0))
    _, flat = maps_of(tiny_network, MapSettings(amplification=0.5))
    assert sharp["Exact softmax"].sparsity.effective < flat["Exact softmax"].sparsity.effective


@pytest.mark.parametrize(
    ("build", "name"),
    [(enlcn_tiny, "ENLA"), (nlan, "Exact softmax"), (nlsn, "NLSA"), (enlcn_light, "Windows")],
)
def test_only_the_map_of_the_networks_own_attention_is_called_applied(build, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(4, **SMALL, window=3, halo=1).eval()
    view, found = maps_of(network)
    assert [one for one in found if "applied" in one] == [f"{name}, as applied"]
    applied = found[f"{name}, as applied"].weights.flatten()
    torch.testing.assert_close(applied, own_weights(view, view.position(*AT)))
    assert ("Exact without k" in found) == (build is not nlsn)
    assert ("Windows, as applied" in found) == (build is enlcn_light)


def test_k_of_windows_is_a_setting():
    network = enlcn_light(4, **SMALL, window=3, halo=1).eval()
    assert maps.has_amplification(network.config)
    (_, own), (_, flat) = maps_of(network), maps_of(network, MapSettings(amplification=0.5))
    applied = "Windows, as applied"
    assert own[applied].about == "softmax in 3 x 3 positions and 1 around them, k = 24"
    assert flat[applied].about.endswith("k = 0.5")
    assert flat[applied].sparsity.effective > own[applied].sparsity.effective


def test_a_point_outside_is_refused(tiny_network):
    view = view_of(tiny_network, LR, block=0)
    with pytest.raises(ValueError, match="outside"):
        list(attention_maps(view, tiny_network.config, 11, 0, MapSettings()))


def test_the_average_is_the_middle_of_the_scale():
    levels = maps.levels(torch.full((7, 11), 1 / 77))
    assert set(levels.flatten().tolist()) <= {127, 128}


@pytest.mark.parametrize(
    ("times", "level"), [(0.0, 0), (1 / maps.REACH, 0), (10.0, 191), (maps.REACH, 255), (1e5, 255)]
)
def test_a_level_is_a_logarithm_of_times_the_average(times, level):
    weights = torch.full((3, 5), 1.0)
    weights[1, 2] = times
    # The others are as large as the average has to be for this one to be `times` of it.
    levels = maps.levels(weights / 15)
    assert abs(int(levels[1, 2]) - level) <= 1


def test_large_maps_are_shrunk_by_averaging_so_that_no_weight_is_lost():
    weights = torch.rand(3 * maps.LONGEST, 2)
    shrunk = maps.shrink(weights)
    assert shrunk.shape == (maps.LONGEST, 1)
    torch.testing.assert_close(shrunk.mean(), weights.mean())


def test_a_map_is_a_picture_of_its_own_size_and_colours():
    weights = torch.rand(5, 7)
    image = Image.open(io.BytesIO(maps.png(weights)))
    assert image.size == (7, 5)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), maps.palette()[maps.levels(weights)])


def test_the_palette_is_viridis():
    matplotlib = pytest.importorskip("matplotlib")
    viridis = np.array(matplotlib.colormaps["viridis"].colors) * 255
    assert np.abs(maps.palette() - viridis).max() < 8


def test_brightness_rises_all_along_the_palette():
    brightness = maps.palette() @ [0.299, 0.587, 0.114]
    # Over four levels, since each is rounded.
    assert (brightness[4:] > brightness[:-4]).all()
