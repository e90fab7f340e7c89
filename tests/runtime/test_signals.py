"""A first signal asks, a second interrupts, an ignored one stays ignored."""

import os
import signal

import pytest

from enlca.runtime.signals import STOPPING, handling, interrupt, stop_politely


def test_a_second_signal_interrupts():
    with stop_politely() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_a_shell_has_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_politely() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert not asked.is_set()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("kind", STOPPING)
def test_each_signal_asks_to_stop(kind):
    with stop_politely() as asked:
        signal.raise_signal(kind)
        assert asked.is_set()


def test_handlers_are_put_back():
    before = [signal.getsignal(kind) for kind in STOPPING]
    with pytest.raises(KeyboardInterrupt), handling(interrupt):
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(kind) for kind in STOPPING] == before
