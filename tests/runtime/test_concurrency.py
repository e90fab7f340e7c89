"""Bands from one thread to another: in order, bounded, and without a deadlock when one of them stops."""

import threading
import time

import numpy as np
import pytest

from enlca.runtime.concurrency import Abandoned, Channel, Worker

BAND = np.zeros((2, 5, 3), np.uint8)


def test_bands_come_in_order_and_no_more_wait_than_may():
    channel, most = Channel(3 * BAND.nbytes), 0
    worker = Worker("test")

    def make():
        for number in range(50):
            channel.put(BAND + np.uint8(number))
        channel.close()

    making = worker.submit(make)
    for number, band in enumerate(channel):
        most = max(most, channel._queued)
        assert (band == number).all()
    making.result(timeout=10)
    assert number == 49
    assert most <= 3 * BAND.nbytes


def test_who_makes_bands_that_nobody_wants_hears_of_it():
    channel = Channel(1)
    channel.put(BAND)
    threading.Timer(0.05, channel.abandon).start()
    with pytest.raises(Abandoned):
        channel.put(BAND)


def test_an_error_is_raised_where_the_bands_are_wanted():
    channel = Channel(1 << 20)
    channel.put(BAND)
    channel.close(ValueError("no more"))
    with pytest.raises(ValueError, match="no more"):
        list(channel)


def test_a_worker_that_is_stopped_begins_nothing_more():
    worker, done = Worker("test"), []
    worker.submit(time.sleep, 0.1)
    worker.submit(done.append, 1)
    worker.stop()
    worker.finish(10.0)
    assert done == []
