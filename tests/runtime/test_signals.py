"""A first signal asks, a second interrupts, an ignored one stays ignored."""

import os
import signal

import pytest

from enlca.runtime.signals import stop_politely


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
