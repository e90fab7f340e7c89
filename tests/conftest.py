"""What every test may ask for."""

import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest


@pytest.fixture(scope="session", autouse=True)
def signals_that_are_heard() -> None:
    """Signals as in a terminal: what a shell or `nohup` has ignored stays ignored, and tests send them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test pictures: $ENLCA_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("ENLCA_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "test").is_dir():
        pytest.skip(f"no test pictures at {folder}; set ENLCA_DATA to the folder that holds test/Set5")
    return folder


@pytest.fixture(scope="session")
def tiny_network():
    """A random network of ENLCN's shape, as small as it gets: x4, two stages, three non-local blocks."""
    import torch

    from enlca.network.zoo import enlcn_tiny

    with torch.random.fork_rng():
        torch.manual_seed(7)
        small = {"channels": 8, "n_blocks": 2, "blocks_per_stage": 1, "embed_channels": 4, "n_features": 8}
        return enlcn_tiny(4, **small).eval()


@pytest.fixture(scope="session")
def tiny_model(tiny_network, tmp_path_factory) -> Path:
    """The file of `tiny_network`."""
    import enlca

    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    enlca.save(tiny_network, path)
    return path


@pytest.fixture(scope="session")
def small_sizes() -> dict[str, dict[str, int]]:
    """Arguments with which each method of `peers.PEERS` is built in a moment, by its name."""
    return {
        "lapsrn": {"channels": 4, "depth": 2},
        "memnet": {"channels": 4, "blocks": 2, "recursions": 2},
        "srmdnf": {"channels": 4, "depth": 3},
        "dbpn": {"channels": 4, "first_channels": 5, "stages": 2},
        "rdn": {"channels": 4, "blocks": 2, "layers": 2, "growth": 3},
        "rcan": {"channels": 4, "groups": 2, "blocks": 2, "reduction": 2},
        "nlrn": {"channels": 6, "embed_channels": 3, "recursions": 2},
        "rnan": {"channels": 4, "groups": 3},
        "srfbn": {"channels": 4, "groups": 2},
        "oisr": {"channels": 4, "blocks": 2},
        "san": {"channels": 8, "groups": 2, "blocks": 2, "reduction": 2, "embed_channels": 2},
        "srvggnetcompact": {"channels": 4, "depth": 2},
    }


@pytest.fixture(autouse=True, scope="session")
def float32_by_default():
    """Tests compare digits: "auto" means the same on processors with bfloat16 instructions and without."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        patch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
        yield


class Done(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `enlca` inside the test's process: much faster than starting Python and torch each time."""
    from enlca.cli import main

    def run(*words: object) -> Done:
        monkeypatch.setattr("sys.argv", ["enlca", *map(str, words)])
        # This process goes on, and what tests have made until now may be garbage.
        monkeypatch.setattr("gc.freeze", lambda: None)
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capsys.readouterr()
        code = leaving.value.code
        assert isinstance(code, int)
        return Done(code, out, err)

    return run
