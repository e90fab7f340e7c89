"""The progress bar: fits 80 columns, shows the share of one picture, and a time left that does not jump."""

import io
import itertools
import re

import pytest
from rich.console import Console

from enlca.cli.bar import TimeLeft, clock_time, count, shown_progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def estimates(shares, *, step=1.0):
    """The time left after each step, for work whose progress is a share per step."""
    clock = Clock()
    left = TimeLeft(clock)
    made = []
    for share in shares:
        clock.now += step
        made.append(left.update(share))
    return made


def test_steady_work_has_the_right_time_left():
    made = estimates([n / 200 for n in range(1, 201)])
    assert made == pytest.approx([200 - n for n in range(1, 201)], abs=1e-6)


def test_passes_of_different_rates_do_not_make_it_jump():
    # Ten passes count the same, but every other one takes a tenth of the time.
    shares, done = [], 0.0
    for number in range(10):
        for _ in range(10 if number % 2 else 1):
            done += 0.1 / (10 if number % 2 else 1)
            shares.append(done)
    made = estimates(shares, step=3.0)
    total = 3.0 * len(shares)
    steps = [abs(before - after) for before, after in itertools.pairwise(made[5:])]
    # At most five times as fast as the clock, whatever the rate is at the moment.
    assert max(steps) < 5 * 3.0
    assert abs(made[len(made) // 2] - total / 2) < 0.2 * total


def test_nothing_is_known_before_something_is_done():
    assert estimates([0.0, 0.0]) == [None, None]


def test_numbers_are_those_of_pictures_and_the_share_is_of_all():
    assert count(0.43, 1) == "43%"
    assert count(250.5, 3000) == "250/3000 8%"
    assert count(0, 0) == "0%"
    assert (clock_time(59.7), clock_time(3725.0)) == ("0:01:00", "1:02:05")


def test_the_bar_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    with shown_progress("upscaling", console=console) as show:
        show(f"{'holiday ' * 20}.jpg", 250.25, 3000)
    lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()))
    full = [line for line in lines if "250/3000 8%" in line]
    assert full
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert "upscaling holiday" in full[0]
