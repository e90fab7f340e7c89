"""What is promised about memory, and how a strategy is chosen."""

import re
import subprocess
import sys

import pytest
import torch

from enlca.errors import TooLarge
from enlca.inference.strategy import TILES, MemoryFootprint, Strategy, choose_strategy, smaller
from enlca.network.sr import SRNetwork
from enlca.network.zoo import NETWORKS

CPU = torch.device("cpu")
MIB = 1 << 20


def network(name: str = "enlcn-tiny", scale: int = 4) -> SRNetwork:
    with torch.device("meta"):
        return NETWORKS[name](scale)


def test_more_memory_never_means_smaller_tiles():
    footprint = MemoryFootprint(network(), 3000, 4000)
    before = 0
    for limit in range(30 * MIB, 60_000 * MIB, 130 * MIB):
        strategy, remark = choose_strategy(footprint, limit)
        assert remark is None
        size = 10**6 if strategy.mode == "whole" else strategy.tile
        assert size >= before
        assert footprint.peak_bytes(strategy) <= limit
        before = size
    assert before == 10**6


def test_what_is_in_use_counts():
    footprint = MemoryFootprint(network(), 300, 400)
    whole = footprint.peak_bytes(Strategy("whole"))
    assert choose_strategy(footprint, whole + 7, used=7)[0].mode == "whole"
    assert choose_strategy(footprint, whole + 7, used=8)[0].mode == "stream"


def test_the_height_of_a_picture_does_not_matter_to_a_stream():
    strategy = Strategy("stream", 128, cache_limit=0)
    assert (
        len({MemoryFootprint(network(), height, 4000).peak_bytes(strategy) for height in (500, 5000, 50_000)})
        == 1
    )


def test_features_stay_in_memory_as_far_as_there_is_any():
    footprint = MemoryFootprint(network(), 3000, 4000)
    strategy, _ = choose_strategy(footprint, 900 * MIB)
    assert strategy.cache_limit == 900 * MIB - footprint.peak_bytes(Strategy("stream", strategy.tile, 0))


@pytest.mark.parametrize("mode", ["auto", "stream", "tiled", "whole"])
def test_too_little_is_a_line_with_all_numbers(mode):
    with pytest.raises(TooLarge) as refusal:
        choose_strategy(MemoryFootprint(network(), 300, 400), 310 * MIB, used=309 * MIB, mode=mode)
    line = str(refusal.value)
    assert "(309 MiB of it are in use), and 310 MiB may be used; raise --max-memory" in line
    assert ("as a whole" in line) == (mode == "whole")


def test_networks_do_what_they_can_and_say_so():
    lsh, exact = (MemoryFootprint(network(name), 200, 200) for name in ("nlsn", "nlan"))
    whole = lsh.peak_bytes(Strategy("whole"))
    assert choose_strategy(lsh, whole)[1] is None
    for mode in ("auto", "stream"):
        strategy, remark = choose_strategy(lsh, whole // 2, mode=mode)
        assert strategy.mode == "tiled"
        assert "ordinary tiles, which do not see each other" in str(remark)
    strategy, remark = choose_strategy(exact, exact.peak_bytes(Strategy("whole")) // 2)
    assert strategy.mode == "stream"
    assert "square" in str(remark)


def test_after_each_failure_there_is_something_smaller_until_there_is_not():
    footprint, strategy = MemoryFootprint(network(), 3000, 4000), Strategy("whole", half=torch.bfloat16)
    tiles = []
    while strategy := smaller(strategy, footprint.model):
        tiles.append((strategy.mode, strategy.tile, strategy.half))
    assert tiles == [("stream", tile, torch.bfloat16) for tile in TILES]
    after = smaller(Strategy("whole"), network("nlsn"))
    assert after is not None
    assert after.mode == "tiled"


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode must be one of auto, whole, stream, tiled; got 'chop'"):
        choose_strategy(MemoryFootprint(network(), 9, 9), 1 << 40, mode="chop")


MEASURE = """
import re
import numpy as np, torch
from enlca.inference.execute import Executor
from enlca.inference.strategy import MemoryFootprint, Strategy
from enlca.runtime.device import used_memory
from enlca.network.zoo import enlcn_light, enlcn_tiny

def status(key):
    return 1024 * int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

torch.set_num_threads(1)
for network, height, width, layers, strategy in (
    (enlcn_light(2, n_blocks=2, blocks_per_stage=1), 80, 100, 3, Strategy("stream", 48, 0)),
    (enlcn_tiny(4), 200, 150, 4, Strategy("stream", 64, 0)),
    (enlcn_tiny(4), 200, 150, 3, Strategy("whole")),
    (enlcn_light(4, n_blocks=2, blocks_per_stage=1), 80, 100, 3, Strategy("tiled", 48)),
):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, layers), dtype=np.uint8)
    executor = Executor(network.eval(), network)
    list(executor.bands(picture[:8, :8], strategy))
    before = used_memory(torch.device("cpu"))
    open("/proc/self/clear_refs", "w").write("5")
    for rows in executor.bands(picture, strategy):
        pass
    estimate = MemoryFootprint(network, height, width, layers, 1, layers == 4).peak_bytes(strategy)
    print((status("VmHWM") - before) / estimate)
"""


# Slow: beside other tests a kernel compiled late is a fifth of so small a working set; alone it is not.
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_takes_no_more_memory_than_the_working_set_and_not_much_less():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shares = [float(share) for share in re.findall(r"[\d.]+", done.stdout)]
    # A tenth of slack: what the interpreter itself allocates is not in the estimate.
    assert len(shares) == 4
    assert all(0.2 < share < 1.1 for share in shares), shares
