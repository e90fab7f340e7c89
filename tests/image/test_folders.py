"""The order of pictures in a folder, and what is found there."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from enlca.image.folders import natural_key, walk_pictures

PARTS = st.lists(
    st.text("ab10٣Z ._é", min_size=1, max_size=6).filter(lambda s: s not in (".", "..")), min_size=1
)


def slow_key(path: str):
    parts = [re.split(r"(\d+)", part.casefold()) for part in Path(path).parts]
    return [[int(s) if i % 2 else s for i, s in enumerate(part)] for part in parts]


@given(st.lists(PARTS.map("/".join), max_size=8))
def test_the_bytes_of_a_key_sort_as_numbers_and_words_do(paths):
    keys = [natural_key(*path.rpartition("/")[::2]) for path in paths]
    for one, own in zip(paths, keys, strict=True):
        for two, other in zip(paths, keys, strict=True):
            assert (own < other) == (slow_key(one) < slow_key(two))
            assert (own == other) == (slow_key(one) == slow_key(two))


def test_hidden_names_and_links_to_folders_are_left_out(tmp_path):
    (tmp_path / "in" / ".hidden").mkdir(parents=True)
    for name in ("in/a.PNG", "in/.b.png", "in/.hidden/c.png", "in/d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "e.png").mkdir()
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    found = walk_pictures(str(tmp_path), recursive=True)
    assert [(below, entry.name) for below, entry in found] == [("in", "a.PNG")]
    assert list(walk_pictures(str(tmp_path), recursive=False)) == []
