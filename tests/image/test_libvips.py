"""Pictures are read on several threads: libvips is silenced once, by the first."""

import time
from concurrent.futures import ThreadPoolExecutor

import pyvips

from enlca.image.source import libvips


def test_the_handler_of_warnings_is_removed_once_however_many_threads_ask(monkeypatch):
    removed = []

    def slowly(domain, handler):
        time.sleep(0.05)
        removed.append(handler)

    monkeypatch.setattr(pyvips, "_log_handler_id", 7)
    monkeypatch.setattr(pyvips, "_remove_handler", slowly)
    with ThreadPoolExecutor(8) as pool:
        modules = list(pool.map(lambda _: libvips(), range(8)))
    assert removed == [7]
    assert set(modules) == {pyvips}
