"""A tree of few pictures, one of them damaged, and what is done to it."""

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("obstore")
pytest.importorskip("pyarrow")

from enlca.bulk.one import Work
from enlca.image.picture import Picture, collect, rows_of
from enlca.inference.target_size import Size

H, W, S = 5, 7, 4


def picture(seed: int, kind: str = "PNG", *, size: tuple[int, int] = (H, W)) -> bytes:
    """The bytes of a picture of few pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def repeated(rows, **settings):
    """A network's stand-in: every pixel S times."""
    return rows_of(Picture(collect(rows).pixels.repeat(S, axis=0).repeat(S, axis=1)))


@pytest.fixture
def work():
    return Work(load=lambda scale: repeated, size=Size(scale=Fraction(S)), scales=[S])


@pytest.fixture
def tree(tmp_path):
    """A folder of three pictures, one file that is none, and one that is named like one."""
    for name, content in {
        "a.png": picture(0),
        "deep/a.png": picture(1),
        "deep/a.jpg": picture(2, "JPEG"),
        "deep/damaged.png": picture(3)[:60],
        "notes.txt": b"not a picture",
        ".hidden/b.png": picture(4),
    }.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path / "in"


MADE = ["a_png_x4.png", "deep/a_jpg_x4.png", "deep/a_png_x4.png"]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
