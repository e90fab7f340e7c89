import pickle

import numpy as np
import pytest
import torch

from enlca.data.left_out import leave_out, read_names
from enlca.data.packed import PackedSet
from enlca.data.patches import PatchBatches, ResidentPatches
from enlca.errors import ConfigError

SIZES = [(11, 13), (17, 19), (23, 7)]


@pytest.fixture
def packed():
    """Three pictures, each of one colour: its index."""
    lr, hr, teacher = (
        [np.full((s * height, s * width, 3), index, np.uint8) for index, (height, width) in enumerate(SIZES)]
        for s in (1, 2, 2)
    )
    return PackedSet(2, ["a.png", "deep/b.png", "c d.png"], SIZES, lr, hr, teacher)


@pytest.fixture
def listed(tmp_path):
    """Writes a list of pictures."""

    def write(text):
        path = tmp_path / "list.txt"
        path.write_text(text)
        return path

    return write


def test_a_list_has_a_name_a_line_and_comments(listed):
    assert read_names(listed("# heading\n\ndeep/b.png  # why\n  c d.png\nx#1.png\n")) == [
        "deep/b.png",
        "c d.png",
        "x#1.png",
    ]


def test_what_is_left_out_is_never_drawn_and_the_others_are_as_often_as_without_it(packed, listed):
    rest = leave_out(packed, listed("deep/b.png # buildings\ndeep/b.png\n"))
    assert (rest.names, rest.shapes) == (["a.png", "c d.png"], [SIZES[0], SIZES[2]])
    batches = PatchBatches(rest, patch=5, batch=97, seed=1)
    resident = ResidentPatches(batches, torch.device("cpu"))
    lr, hr, teacher = batches[0]
    for side, other in zip((lr, hr, teacher), resident[0], strict=True):
        assert set(side[:, 0, 0, 0].tolist()) == {0, 2}
        assert torch.equal(side, other)
    without = PackedSet(2, rest.names, rest.shapes, *([side[0], side[2]] for side in (packed.lr, packed.hr)))
    assert torch.equal(PatchBatches(without, patch=5, batch=97, seed=1)[0][0], lr)


def test_it_travels_to_loader_processes(packed, listed):
    rest = pickle.loads(pickle.dumps(leave_out(packed, listed("a.png"))))
    assert [int(picture.mean()) for picture in rest.hr] == [1, 2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("b.png\na.png\n", "1 of 2 pictures of .*list.txt are not in data.train: b.png; .* to null"),
        ("1\n2\n3\n4\n5\n", r"5 of 5 pictures .*: 1, 2, 3 \(and 2 more\); "),
        ("a.png\ndeep/b.png\nc d.png\n", "list.txt names every picture of data.train"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(packed, listed, text, reason):
    with pytest.raises(ConfigError, match=reason):
        leave_out(packed, listed(text))


def test_a_list_that_cannot_be_read_is_refused(packed, tmp_path):
    with pytest.raises(ConfigError, match=r"gone: the list of pictures cannot be read \(No such file"):
        leave_out(packed, tmp_path / "gone")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file"):
        leave_out(packed, tmp_path / "binary")
