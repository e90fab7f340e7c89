"""The cache of exported graphs: the same graph for the same network, and no error when it cannot be used."""

import os

import pytest
import torch

from enlca.export import engines


def test_a_graph_is_read_back_to_the_byte(own_cache):
    engines.write_cached("key", b"graph")
    assert engines.read_cached("key") == b"graph"
    assert engines.read_cached("other") is None
    assert [path.name for path in own_cache.iterdir()] == ["key.graph"]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content[:-1] + b"?", lambda _: b""]
)
def test_a_damaged_file_is_not_used(own_cache, damage):
    engines.write_cached("key", b"graph")
    path = own_cache / "key.graph"
    path.write_bytes(damage(path.read_bytes()))
    assert engines.read_cached("key") is None
    engines.write_cached("key", b"graph")
    assert engines.read_cached("key") == b"graph"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(engines, "cache_folder", lambda: tmp_path / "file" / "cache")
    engines.write_cached("key", b"graph")
    assert engines.read_cached("key") is None


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def homeless():
        raise FileNotFoundError("Could not determine home directory.")

    monkeypatch.setattr(engines, "cache_folder", homeless)
    engines.write_cached("key", b"graph")
    assert engines.read_cached("key") is None


def test_the_key_depends_on_each_weight_each_setting_and_the_exporter(monkeypatch, small_network):
    key = engines.cache_key(small_network("linear"))
    assert engines.cache_key(small_network("linear")) == key
    assert engines.cache_key(small_network("none")) != key
    changed = small_network("linear")
    assert changed.body[0].attend.projection.requires_grad is False
    changed.body[0].attend.projection[0, 0] += 1e-3
    assert engines.cache_key(changed) != key
    other = small_network("linear")
    with torch.no_grad():
        other.fuse.weight[0, 0, 0, 0] += 1e-3
    assert engines.cache_key(other) != key
    monkeypatch.setattr(engines, "EXPORTER", engines.EXPORTER + 1)
    assert engines.cache_key(small_network("linear")) != key


def test_a_large_cache_loses_the_least_recently_used_graph(own_cache, monkeypatch):
    monkeypatch.setattr(engines, "LARGEST_CACHE", 2 * (32 + 5))
    for age, key in enumerate(["new", "old", "older"]):
        engines.write_cached(key, b"graph")
        os.utime(own_cache / f"{key}.graph", (1e9 - age, 1e9 - age))
    assert engines.read_cached("older") == b"graph"
    engines.write_cached("newest", b"graph")
    assert {path.stem for path in own_cache.iterdir()} == {"newest", "older"}


def test_graphs_have_a_folder_of_their_own_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.platform", "linux")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert engines.cache_folder() == tmp_path / "enlca" / "engines"


def test_garbage_with_a_valid_checksum_is_exported_anew(own_cache, linear_graph, monkeypatch):
    monkeypatch.setattr(engines, "onnx_graph", lambda network: linear_graph.graph)
    key = engines.cache_key(linear_graph.network)
    for kind in engines.ENGINES:
        engines.write_cached(key, b"garbage")
        engine = engines.load_engine(kind, linear_graph.network)
        assert engine(torch.rand(1, 3, 5, 7)).shape[:2] == (1, 3)
        assert engines.read_cached(key) == linear_graph.graph
