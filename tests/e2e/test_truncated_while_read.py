"""A file that becomes shorter while it is read is a damaged picture, wherever it enters."""

import os
from fractions import Fraction

import numpy as np
import pytest

from enlca.errors import PictureError
from enlca.image import decoding
from enlca.image.picture import Picture, write_image
from enlca.image.source import Source
from enlca.inference.jobs import Sink
from enlca.inference.target_size import Size

H, W = 260, 400


@pytest.fixture(params=[".jpg", ".png", ".tif", ".webp"], scope="module")
def whole(request, tmp_path_factory):
    """A picture of many bytes."""
    path = tmp_path_factory.mktemp("whole") / f"x{request.param}"
    noise = np.random.default_rng(5).integers(0, 256, (H, W, 3), dtype=np.uint8)
    write_image(path, Picture(noise), quality=60)
    return path


@pytest.fixture
def cut(whole, tmp_path, monkeypatch):
    """A copy of it that is cut after its header is read, and again after its first rows are decoded."""
    path = tmp_path / "in" / whole.name
    path.parent.mkdir()
    path.write_bytes(whole.read_bytes())
    bands, size = decoding._bands, path.stat().st_size

    def cut_meanwhile(source, *rest):
        rows = bands(source, *rest)
        cuts.append(source)
        # `source` may be a copy of the file.
        os.truncate(source._file.fileno() if source._file.writable() else path, size // 2)
        yield next(rows)
        os.truncate(source._file.fileno() if source._file.writable() else path, 1000)
        yield from rows

    cuts: list[Source] = []
    monkeypatch.setattr(decoding, "_bands", cut_meanwhile)
    yield path
    assert cuts


def test_upscale(cut, command, tmp_path, tiny_model):
    done = command("upscale", cut, "-o", tmp_path / "out.png", "--model", tiny_model, "--width", W // 4)
    assert_one_line_or_all_well(cut, done.code, done.err.removeprefix("enlca: "))


def test_evaluate(cut, command, tmp_path):
    done = command("evaluate", "--model", "bicubic", "--data", cut.parent, "--scale", 4)
    assert_one_line_or_all_well(cut, done.code, done.err.removeprefix("enlca: "))


def test_explorer(cut):
    uploads = pytest.importorskip("enlca.explorer.uploads")
    line = ""
    try:
        uploads.read_upload(cut, max_megapixels=1.0)
    except PictureError as error:
        line = str(error)
    assert_one_line_or_all_well(cut.name, 1 if line else 0, line)


def test_serve(cut, tiny_model):
    pytest.importorskip("starlette")
    from enlca.serve.engine import Engine, known_models
    from enlca.serve.limits import Limits, Refused
    from enlca.serve.pool import Stop
    from enlca.serve.wanted import Wanted

    engine = Engine(known_models([str(tiny_model)]), device="cpu", limits=Limits())
    wanted = Wanted(model="tiny", size=Size(width=W // 4))
    line = ""
    with cut.open("r+b") as file, (cut.parent / "out").open("w+b") as made:
        try:
            engine.upscale(Source.of(file, name="picture"), Sink(made, "x.png"), wanted, Stop())
        except Refused as refused:
            line = f"picture: {refused}"
    assert_one_line_or_all_well("picture", 1 if line else 0, line)


def test_bulk(cut):
    pytest.importorskip("obstore")
    pytest.importorskip("pyarrow")
    from enlca.bulk.one import Work, one
    from enlca.bulk.origins import Objects
    from enlca.bulk.stores import open_store

    work = Work(load=lambda scale: lambda rows, **_: rows, size=Size(scale=Fraction(1)), scales=[4])
    origin = Objects(open_store(str(cut.parent)))
    outcome = one(origin, cut.name, open_store("memory://"), work)
    assert_one_line_or_all_well(cut.name, 1 if outcome.error else 0, outcome.error or "")


def assert_one_line_or_all_well(name, code, line):
    """Formats that are decoded as a whole may have been read before the file was cut."""
    assert code in (0, 1), line
    if code:
        assert line.startswith(f"{name}: ")
        assert line.strip().isprintable()
