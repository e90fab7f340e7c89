"""The actions without a browser: maps, upscaling, attribution, and clear refusals."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from enlca.errors import CheckpointError, NothingOpen, PictureError, Stopped
from enlca.explorer import actions
from enlca.explorer.actions import ATTRIBUTING, UPSCALING, Choice, Explorer
from enlca.explorer.models import Models
from enlca.explorer.page import Page
from enlca.explorer.session import Visitors
from enlca.image.metadata import MARK, SOFTWARE
from enlca.image.picture import Picture, read_image, write_image
from enlca.inference.upscaler import Upscaler
from enlca.peers import PEERS


def silent(share: float, text: str) -> None:
    assert 0 <= share <= 1
    assert text


def all_maps(explorer, identity, choice, **where) -> str:
    explorer.quick_maps(identity, choice, **where)
    return explorer.all_maps(identity, choice)


@pytest.fixture
def choice(models) -> Choice:
    return Choice(models.default, 4)


def test_a_click_gives_five_maps_with_numbers_and_the_point(explorer, choice, picture):
    explorer.open("a", picture)
    html = all_maps(explorer, "a", choice, point=(2, 30))
    assert html.count("<figure>") == 5
    assert html.count("entropy") == 4
    assert "row 2, column 30" in html
    assert "block 1 of 3" in html


def test_quick_maps_come_first_and_stay(explorer, choice, picture):
    explorer.open("a", picture)
    first, complete = explorer.quick_maps("a", choice), explorer.all_maps("a", choice)
    assert first.count("<figure>") == 3
    assert complete.startswith(first.removesuffix("</div></section>"))


def test_maps_of_an_earlier_click_are_not_shown(explorer, choice, picture, monkeypatch):
    explorer.open("a", picture)
    explorer.quick_maps("a", choice)
    compute = actions.attention_maps

    def clicking(*arguments):
        explorer.visitors.of("a").map_requests += 1
        return compute(*arguments)

    monkeypatch.setattr(actions, "attention_maps", clicking)
    assert explorer.all_maps("a", choice) is None


def test_another_pixel_has_other_maps_and_the_same_view(explorer, choice, picture, monkeypatch):
    explorer.open("a", picture)
    first = all_maps(explorer, "a", choice)
    monkeypatch.setattr(actions, "view_of", None)
    assert all_maps(explorer, "a", choice, point=(0, 0)) != first


def test_a_second_network_has_its_own_maps(explorer, choice, picture):
    explorer.open("a", picture)
    html = all_maps(explorer, "a", Choice(choice.model, 4, block=2, second=("enlcn-tiny", 2)))
    assert html.count("<figure>") == 10
    assert "block 3 of 3" in html
    assert "enlcn-tiny ×2, block 2 of 2" in html


def test_a_network_without_attention_says_so(explorer, picture):
    explorer.open("a", picture)
    assert "no attention" in all_maps(explorer, "a", Choice("edsr-tiny", 4))


def test_another_methods_file_is_upscaled_with_and_attributed(picture, tmp_path, small_sizes):
    peer = PEERS["rnan"]
    file = tmp_path / "rnan.pt"
    torch.save(peer.write(peer.build(scale=2, **small_sizes["rnan"])), file)
    models = Models([file])
    explorer = Explorer(models, Visitors(tmp_path), max_megapixels=0.01)
    explorer.open("a", picture)
    assert explorer.upscale("a", str(file), 2, silent).size == (62, 46)
    assert "no attention" in all_maps(explorer, "a", Choice(str(file), 2))
    assert "<figure>" in explorer.attribute("a", Choice(str(file), 2), 8, silent)
    scales, blocks, *_ = Page(models, max_megapixels=0.01).settings_of(str(file), None)
    assert (scales["value"], blocks["choices"]) == (2, [])


def tags_of(exif):
    found = Image.Exif()
    found.load(exif)
    inner = found.get_ifd(ExifTags.IFD.Exif)
    return {**found, **inner, ExifTags.IFD.Exif: None}  # where the inner tags lie is the file's affair


def test_the_file_is_the_one_that_the_package_makes_with_profile_and_metadata(explorer, tiny_model, tmp_path):
    source = tmp_path / "grey.png"
    pixels = np.random.default_rng(1).integers(0, 65536, (9, 14, 1), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x010E] = "a description"
    write_image(source, Picture(pixels, exif=exif.tobytes()[6:]))
    explorer.open("a", source)
    done = explorer.upscale("a", str(tiny_model), 4, silent)
    assert done.file.name == "grey_x4.png"
    expected, found = Upscaler(tiny_model)(source), read_image(done.file, max_bits=16)
    assert found.bits == 16
    np.testing.assert_allclose(found.pixels, expected.pixels, atol=2)
    # With the mark of `enlca upscale`, as every file that it writes.
    assert tags_of(found.exif) == {**tags_of(expected.exif), SOFTWARE: MARK}
    assert read_image(done.before).size == found.size == done.size


def test_transparent_pictures_are_compared_over_white(explorer, tiny_model, tmp_path):
    source = tmp_path / "clear.png"
    clear = np.zeros((8, 8), np.uint8)
    clear[:, :4] = 255
    write_image(source, Picture(np.full((8, 8, 3), 200, np.uint8), clear))
    explorer.open("a", source)
    done = explorer.upscale("a", str(tiny_model), 4, silent)
    assert read_image(done.file).alpha is not None
    for path in (done.before, done.after):
        shown = read_image(path)
        assert shown.alpha is None
        assert shown.pixels[:, -1].min() > 250


def test_only_the_last_upscaled_picture_is_kept(explorer, tiny_model, picture):
    explorer.open("a", picture)
    first = explorer.upscale("a", str(tiny_model), 4, silent)
    second = explorer.upscale("a", str(tiny_model), 4, silent)
    assert first.file.parent != second.file.parent
    assert not first.file.exists()
    assert second.file.exists()


@pytest.mark.parametrize("kind", [UPSCALING, ATTRIBUTING])
def test_cancel_stops_a_job_in_the_middle(explorer, choice, picture, kind):
    explorer.open("a", picture)
    visitor = explorer.visitors.of("a")
    visitor.begin(kind)
    reported = []

    def cancelling(share: float, text: str) -> None:
        reported.append(share)
        visitor.stop(kind)

    jobs = {
        UPSCALING: lambda: explorer.upscale("a", choice.model, 4, cancelling),
        ATTRIBUTING: lambda: explorer.attribute("a", choice, 4, cancelling),
    }
    with pytest.raises(Stopped):
        jobs[kind]()
    assert len(reported) == 1


def test_a_job_that_is_cancelled_in_the_queue_never_starts(explorer, choice, picture):
    explorer.open("a", picture)
    visitor = explorer.visitors.of("a")
    visitor.begin(UPSCALING)
    visitor.stop(UPSCALING)
    with pytest.raises(Stopped):
        explorer.upscale("a", choice.model, 4, silent)


def test_the_square_is_attributed_where_it_is_drawn(explorer, choice, picture, monkeypatch):
    asked, lam = {}, actions.lam
    monkeypatch.setattr(actions, "lam", lambda *a, **settings: asked.update(settings) or lam(*a, **settings))
    explorer.open("a", picture)
    all_maps(explorer, "a", choice, point=(22, 0))
    html = explorer.attribute("a", choice, 6, silent)
    assert {name: asked[name] for name in ("top", "left", "side")} == {"top": 4 * 17, "left": 0, "side": 24}
    assert re.search(r"diffusion index</dt><dd>\d", html)


def test_a_picture_of_one_pixel_has_maps_and_an_attribution(explorer, choice, tmp_path):
    source = tmp_path / "one.png"
    Image.new("RGB", (1, 1), (9, 200, 30)).save(source)
    explorer.open("a", source)
    assert "<figure>" in all_maps(explorer, "a", choice)
    assert "<figure>" in explorer.attribute("a", choice, 8, silent)
    assert explorer.upscale("a", choice.model, 4, silent).size == (4, 4)


def refused(explorer, path: Path) -> str:
    with pytest.raises(PictureError) as error:
        explorer.open("a", path)
    message = str(error.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    return message


def test_what_is_no_picture_is_one_line_with_its_own_name(explorer, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert "not a picture" in refused(explorer, path)


def test_a_picture_past_the_limit_is_one_line_that_says_what_to_do(explorer, tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (200, 100)).save(path)
    assert "--max-megapixels" in refused(explorer, path)


def test_a_damaged_picture_is_one_line(explorer, picture):
    picture.write_bytes(picture.read_bytes()[:-500])
    assert "damaged" in refused(explorer, picture)


def test_without_a_picture_everything_says_so(explorer, choice):
    for ask in (
        lambda: all_maps(explorer, "a", choice),
        lambda: explorer.upscale("a", choice.model, 4, silent),
        lambda: explorer.attribute("a", choice, 8, silent),
    ):
        with pytest.raises(NothingOpen):
            ask()


def test_a_picture_that_does_not_fit_into_memory_is_refused(explorer, choice, picture, monkeypatch):
    explorer.open("a", picture)
    monkeypatch.setattr(type(explorer.models.load(choice.model, 4)), "memory_budget", lambda self: (0, 1000))
    with pytest.raises(actions.TooMuch, match="crop it"):
        all_maps(explorer, "a", choice)


def test_models_are_named_as_they_were_given(models, tiny_model):
    assert models.default == models.names[0] == str(tiny_model)
    assert models.scales("enlcn-tiny") == [2, 3, 4]
    with pytest.raises(CheckpointError, match="no model"):
        models.load("nothing", 4)
    with pytest.raises(CheckpointError, match="x2"):
        models.load(str(tiny_model), 2)
