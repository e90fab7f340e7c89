"""A small network in the released layout."""

import pytest


@pytest.fixture(scope="session")
def network():
    import torch

    from enlca.checkpoint.official import RELEASED
    from enlca.network.sr import SRConfig, SRNetwork

    with torch.random.fork_rng():
        torch.manual_seed(11)
        return SRNetwork(
            SRConfig(scale=2, channels=6, n_blocks=8, embed_channels=3, n_features=5, **RELEASED)
        ).eval()


@pytest.fixture
def state(network):
    """As the authors' file holds it."""
    from enlca.checkpoint.official import to_official

    return to_official(network.config, network.state_dict())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
