"""What a run wrote of its numbers survives a power cut, up to the row that was damaged."""

import os

import pytest

from enlca.checkpoint.file import read_card
from enlca.training.loop import Training
from enlca.training.run_folder import COLUMNS, MetricsLogger

NUMBERS = {"epoch": 0, "lr": 0.5, "l1": 0.25, "steps_per_second": 3.125}


def logged(folder, *, start=0, steps=()):
    log = MetricsLogger(folder, start=start)
    for step in steps:
        log.write(step, NUMBERS)
    log.close()
    return log.path.read_bytes()


@pytest.fixture
def metrics(tmp_path):
    """The `metrics.csv` of steps 3, 6 and 9, and its bytes."""
    return tmp_path / "metrics.csv", logged(tmp_path, steps=(3, 6, 9))


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 4096,
        b"\0" * 30 + b"\n",
        b"12",
        b"12,0,0.5,0.2",
        b"12,0,0.5,,0.25,,,,,3.1",
        b"twelve,0,0.5,,0.25,,,,,3.125\n",
        b"12,0,0.5,,half,,,,,3.125\n",
        b"12,0,0.5\n",
        b"12,0,0.5,,0.25,,,,,3.125,7\n",
        b"-3,0,0.5,,0.25,,,,,3.125\n",
        b",0,0.5,,0.25,,,,,3.125\n",
        b"\xff\xfe\x80\n",
        b'"12,0\n',
    ],
)
def test_a_damaged_end_is_cut_off_and_the_rows_before_stay(metrics, damage):
    path, whole = metrics
    path.write_bytes(whole + damage)
    assert logged(path.parent, start=100) == whole


def test_rows_after_a_damaged_one_are_not_believed(metrics):
    path, whole = metrics
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\0" * 9 + b"\n", *lines[2:]]))
    assert logged(path.parent, start=100) == b"".join(lines[:2])


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"no,such,columns\n1,2,3\n", b"step"])
def test_without_a_heading_there_are_no_rows(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    assert logged(tmp_path, start=100) == (",".join(COLUMNS) + "\n").encode()


def test_rows_of_a_version_with_fewer_columns_are_kept(metrics):
    path, whole = metrics
    place = COLUMNS.index("dead_units")
    older = [line.split(",") for line in whole.decode().splitlines()]
    older = "".join(",".join(row[:place] + row[place + 1 :]) + "\n" for row in older)
    path.write_bytes(older.encode())
    assert logged(path.parent, start=100) == whole


def test_the_file_is_never_without_its_rows_while_it_is_written_anew(metrics, monkeypatch):
    path, whole = metrics

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        MetricsLogger(path.parent, start=6)
    assert path.read_bytes() == whole
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []


def test_names_that_are_not_utf_8_are_escaped_in_the_card(home, command):
    (home / "Val" / "0.png").rename(home / "Val" / os.fsdecode(b"\xff.png"))
    # A configuration is UTF-8, but not what it leads to.
    for name in ("pictures", "Val"):
        odd = (home / name).rename(home / (name + os.fsdecode(b"\xff")))
        (home / name).symlink_to(odd)
    assert command("train", "tiny.yaml", "--run.steps=8").code == 0
    card = read_card(home / "run" / "best.safetensors")
    assert (card.training["data"], list(card.scores)) == (r"pictures\udcff", [r"Val\udcff"])
    assert command("resume", "run", "--run.steps=9").code == 0


def test_a_run_goes_on_after_a_power_cut_and_measures_the_same(home, command, straight, rows, monkeypatch):
    step = Training._step

    def cut(self, number, batch):
        if number == 17:
            raise RuntimeError("the power is cut")
        return step(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", cut)
        with pytest.raises(RuntimeError, match="the power is cut"):
            command("train", "tiny.yaml", "--run.dir", "cut")
    with open("cut/metrics.csv", "ab") as file:
        file.write(b"\0" * 4096)
    done = command("resume", "cut")
    assert (done.code, done.err) == (0, "")
    assert rows("cut") == rows(straight)
