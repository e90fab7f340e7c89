"""The cache of exported graphs: the same network the same graph, and never an error."""

import os

import pytest
import torch

from enlca.export import cache


def test_what_is_remembered_is_recalled_to_the_byte(own_cache):
    cache.remember("key", b"graph")
    assert cache.recall("key") == b"graph"
    assert cache.recall("other") is None
    assert [path.name for path in own_cache.iterdir()] == ["key.graph"]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content[:-1] + b"?", lambda _: b""]
)
def test_a_damaged_file_is_not_used(own_cache, damage):
    cache.remember("key", b"graph")
    path = own_cache / "key.graph"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.recall("key") is None
    cache.remember("key", b"graph")
    assert cache.recall("key") == b"graph"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "file" / "cache")
    cache.remember("key", b"graph")
    assert cache.recall("key") is None


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def homeless():
        raise FileNotFoundError("Could not determine home directory.")

    monkeypatch.setattr(cache, "folder", homeless)
    cache.remember("key", b"graph")
    assert cache.recall("key") is None


def test_the_key_depends_on_each_weight_each_setting_and_the_exporter(monkeypatch, small_network):
    key = cache.key_of(small_network("linear"))
    assert cache.key_of(small_network("linear")) == key
    assert cache.key_of(small_network("none")) != key
    changed = small_network("linear")
    assert changed.body[0].attend.projection.requires_grad is False
    changed.body[0].attend.projection[0, 0] += 1e-3
    assert cache.key_of(changed) != key
    other = small_network("linear")
    with torch.no_grad():
        other.fuse.weight[0, 0, 0, 0] += 1e-3
    assert cache.key_of(other) != key
    monkeypatch.setattr(cache, "EXPORTER", cache.EXPORTER + 1)
    assert cache.key_of(small_network("linear")) != key


def test_a_large_cache_loses_what_was_used_longest_ago(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 2 * (32 + 5))
    for age, key in enumerate(["new", "old", "older"]):
        cache.remember(key, b"graph")
        os.utime(own_cache / f"{key}.graph", (1e9 - age, 1e9 - age))
    assert cache.recall("older") == b"graph"
    cache.remember("newest", b"graph")
    assert {path.stem for path in own_cache.iterdir()} == {"newest", "older"}


def test_graphs_have_a_folder_of_their_own_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.platform", "linux")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.folder() == tmp_path / "enlca" / "engines"
