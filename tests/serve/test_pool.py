"""The queue by itself, and an engine whose work is stopped."""

import asyncio
import io
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from enlca.errors import Stopped
from enlca.image.files import format_of
from enlca.image.source import Source
from enlca.inference.jobs import Sink
from enlca.inference.target_size import Size
from enlca.serve.engine import Engine, known_models
from enlca.serve.limits import Limits, Refused
from enlca.serve.pool import Pool, Stop
from enlca.serve.wanted import Wanted


def test_requests_are_served_in_order_and_as_many_at_once_as_there_are_workers():
    both, order = threading.Barrier(2), []

    def work(number):
        def run(tool, stop):
            order.append(number)
            # Passed by two at a time only.
            both.wait(5)
            return tool

        return run

    async def main():
        pool = Pool(["a", "b"], 9)
        tools = await asyncio.gather(*(pool.run(work(number)) for number in range(6)))
        assert (pool.waiting, pool.working) == (0, 0)
        return tools

    tools = asyncio.run(main())
    assert sorted(order[:2]) == [0, 1]
    assert sorted(order) == [0, 1, 2, 3, 4, 5]
    assert sorted(tools) == ["a"] * 3 + ["b"] * 3


def test_one_worker_serves_first_come_first_served():
    order = []

    async def main():
        pool = Pool(["a"], 9)
        await asyncio.gather(*(pool.run(lambda tool, stop, n=n: order.append(n)) for n in range(6)))

    asyncio.run(main())
    assert order == [0, 1, 2, 3, 4, 5]


def test_a_cancelled_request_that_was_just_given_a_worker_gives_it_on():
    async def main():
        pool = Pool(["a"], 9)
        gate = threading.Event()
        first = asyncio.ensure_future(pool.run(lambda tool, stop: gate.wait(5)))
        second = asyncio.ensure_future(pool.run(lambda tool, stop: None))
        third = asyncio.ensure_future(pool.run(lambda tool, stop: tool))
        await asyncio.sleep(0)
        # The turn of the second comes, and before its task runs it is cancelled.
        [turn, _] = pool._waiting
        turn.add_done_callback(lambda _: second.cancel())
        gate.set()
        await first
        assert await asyncio.wait_for(third, 5) == "a"
        with pytest.raises(asyncio.CancelledError):
            await second
        return pool

    assert asyncio.run(main()).working == 0


def test_an_error_of_the_work_reaches_its_request_and_the_worker_lives():
    def fail(tool, stop):
        raise ValueError("no")

    async def main():
        pool = Pool(["a"], 0)
        with pytest.raises(ValueError, match="no"):
            await pool.run(fail)
        assert await pool.run(lambda tool, stop: tool) == "a"
        pool.close()
        with pytest.raises(Refused, match="shutting down"):
            await pool.run(fail)

    asyncio.run(main())


class After(Stop):
    """Stops the work at its n-th check."""

    def __init__(self, checks: int):
        super().__init__()
        self.left = checks

    def check(self, *_: object) -> None:
        self.left -= 1
        if self.left <= 0:
            self.set()
        super().check()


@pytest.fixture(scope="module")
def engines(tiny_model):
    models = known_models([str(tiny_model)])
    run = tiny_model.parent / "mine" / "best.safetensors"
    run.parent.mkdir(exist_ok=True)
    run.write_bytes(tiny_model.read_bytes())
    assert list(known_models([str(run)])) == list(known_models([str(run.parent)])) == ["mine"]
    return {mode: Engine(models, device="cpu", limits=Limits(), mode=mode) for mode in ("whole", "stream")}


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_work_stops_at_the_next_layer_and_leaves_no_file(engines, mode, scratch):
    given, made = io.BytesIO(), io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(given, "PNG")
    source, target = Source.of(given.getvalue()), Sink(made, "result.png")
    wanted = Wanted(model="tiny", size=Size(scale=Fraction(4)))
    counted = After(10**9)
    engines[mode].upscale(source, target, wanted, counted)
    checks = 10**9 - counted.left
    assert checks > 20
    assert format_of(Source.of(made.getvalue())) == "png"
    for n in (1, 2, checks // 2):
        stop = After(n)
        with pytest.raises(Stopped):
            engines[mode].upscale(source, Sink(io.BytesIO(), "result.png"), wanted, stop)
        # The check that stopped it, and the one at the end.
        assert -1 <= stop.left <= 0
        assert list(scratch.iterdir()) == []
