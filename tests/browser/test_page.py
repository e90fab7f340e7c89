"""The page in headless Chromium, used as a visitor uses it."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from screens import DESKTOP, PHONE

pytestmark = pytest.mark.browser
SECONDS = 20_000
SIDES = ("width", "height")
# Where pictures of the page go that are shown in docs/: ENLCA_SCREENSHOTS=docs/images make browser-test
SCREENSHOTS = os.environ.get("ENLCA_SCREENSHOTS")


def drop(page: Any, path: Path) -> None:
    page.set_input_files("#drop input[type=file]", path)


def drop_and_wait(page: Any, path: Path) -> None:
    drop(page, path)
    page.wait_for_selector(f"#about b:has-text('{path.name}')", timeout=SECONDS)
    page.wait_for_selector("#panels figure", timeout=SECONDS)


def click(page: Any, row: int, column: int) -> None:
    """The middle of a pixel; then its maps are there."""
    stage = page.locator(".stage")
    box, width, height = (stage.bounding_box(), *(int(stage.get_attribute(f"data-{side}")) for side in SIDES))
    across, down = (column + 0.5) / width, (row + 0.5) / height
    stage.click(position={"x": across * box["width"], "y": down * box["height"]})
    wait_for_point(page, row, column)


def wait_for_point(page: Any, row: int, column: int) -> None:
    page.wait_for_selector(f"#panels .legend:has-text('row {row}, column {column}')", timeout=SECONDS)


def first_map(page: Any) -> str:
    return page.get_attribute("#panels figure img", "src")


def upscale(page: Any) -> None:
    page.click("#upscale")
    page.wait_for_selector("#download", state="visible", timeout=SECONDS)
    page.wait_for_function(
        "[...document.querySelectorAll('#slider img')].filter(i => i.naturalWidth).length >= 2"
    )


def test_a_picture_is_upscaled_compared_and_fetched(visit, photo, tmp_path):
    page = visit()
    drop_and_wait(page, photo)
    assert "160 × 160, RGB, 8 bits" in page.inner_text("#about")
    upscale(page)
    assert "640 × 640" in page.inner_text("#status")
    with page.expect_download() as fetched:
        page.click("#download")
    assert fetched.value.suggested_filename == "astronaut_crop_x4.png"
    fetched.value.save_as(tmp_path / "large.png")
    assert (tmp_path / "large.png").read_bytes().startswith(b"\x89PNG")


def test_both_sides_of_the_slider_zoom_together(visit, photo):
    page = visit()
    drop_and_wait(page, photo)
    upscale(page)
    page.locator("#slider").scroll_into_view_if_needed()
    box = page.locator("#slider img").first.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.wheel(0, -400)
    script = "[...document.querySelectorAll('#slider img')].map(i => getComputedStyle(i).transform)"
    page.wait_for_function(f"{script}.every(one => one.startsWith('matrix(1.'))")
    one, other = page.evaluate(script)
    assert one == other


def test_a_click_and_an_arrow_key_change_the_maps(visit, photo):
    page = visit()
    drop_and_wait(page, photo)
    wait_for_point(page, 80, 80)
    before = first_map(page)
    click(page, 48, 40)
    clicked = first_map(page)
    page.press(".stage", "ArrowRight")
    wait_for_point(page, 48, 41)
    assert len({before, clicked, first_map(page)}) == 3


def test_block_k_and_redraw_change_the_maps_and_own_brings_them_back(visit, photo):
    page = visit()
    drop_and_wait(page, photo)
    enla = "#panels figure:nth-child(2)"
    own = page.get_attribute(f"{enla} img", "src")
    page.click("#redraw")
    page.wait_for_selector(f"{enla}:has-text('no. 1')", timeout=SECONDS)
    page.fill("#k input[type=number]", "2")
    page.press("#k input[type=number]", "Enter")
    page.wait_for_selector("#panels figure:has-text('k = 2')", timeout=SECONDS)
    page.click("#own")
    page.wait_for_selector(f"{enla}:has-text('own F')", timeout=SECONDS)
    page.wait_for_selector("#panels figure:has-text('k = 6')", timeout=SECONDS)
    assert page.get_attribute(f"{enla} img", "src") == own
    page.click("#block label:nth-child(2)")
    page.wait_for_selector("#panels h3:has-text('block 2 of 2')", timeout=SECONDS)


def test_two_networks_are_compared(visit, photo):
    page = visit()
    drop_and_wait(page, photo)
    page.click("#second input")
    page.get_by_role("option", name="enlcn-tiny ×2").click()
    page.wait_for_function("document.querySelectorAll('#panels figure').length === 10", timeout=SECONDS)
    assert page.locator("#panels .panel").count() == 2


def test_attribution_shows_a_map_and_cancel_ends_it(visit, save):
    page = visit()
    noise = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    drop_and_wait(page, save("noise.png", noise))
    page.click("#attribute")
    page.wait_for_selector("#attribution figure:has-text('diffusion index')", timeout=SECONDS)
    page.click("#attribute")
    page.click("#stop-attribution")
    page.wait_for_selector("#attribution:has-text('Stopped.')", timeout=SECONDS)
    page.wait_for_selector("#attribute", state="visible")


def test_what_is_no_picture_and_what_is_too_large_is_said_and_the_next_one_works(
    visit, photo, save, tmp_path
):
    page = visit()
    (tmp_path / "notes.txt").write_text("<b>hello</b>")
    drop(page, tmp_path / "notes.txt")
    page.wait_for_selector(".problem:has-text('notes.txt: not a picture')", timeout=SECONDS)
    drop(page, save("large.png", np.zeros((600, 600), np.uint8)))
    page.wait_for_selector(".problem:has-text('--max-megapixels')", timeout=SECONDS)
    drop_and_wait(page, photo)
    assert page.locator(".problem").count() == 0


ODD = {
    "grey.png": np.arange(35 * 29, dtype=np.uint8).reshape(35, 29),
    "deep.png": (np.arange(35 * 29, dtype=np.uint16) * 60).reshape(35, 29),
    "alpha.png": np.random.default_rng(1).integers(0, 256, (20, 30, 4), dtype=np.uint8),
    "tall.png": np.random.default_rng(2).integers(0, 256, (2000, 3, 3), dtype=np.uint8),
    "pixel.png": np.full((1, 1, 3), 120, np.uint8),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_can_be_clicked_on_and_upscaled(visit, save, name):
    page = visit()
    drop_and_wait(page, save(name, ODD[name]))
    height, width = ODD[name].shape[:2]
    if height > 1000:
        # Its rows are thinner than the window's: the column is sure.
        page.locator(".stage").click(position={"x": 2, "y": 2})
        page.wait_for_selector("#panels .legend:has-text('column 0')", timeout=SECONDS)
    else:
        click(page, int(0.1 * height), int(0.9 * width))
    upscale(page)
    assert f"{4 * width} × {4 * height}" in page.inner_text("#status")


def test_two_visitors_have_pictures_of_their_own(visit, photo, save):
    one, other = visit(), visit()
    drop(one, photo)
    drop(other, save("other.png", np.random.default_rng(3).integers(0, 256, (30, 50, 3), dtype=np.uint8)))
    for page in (one, other):
        page.wait_for_selector("#panels figure", timeout=SECONDS)
    click(one, 16, 80)
    click(other, 7, 30)
    upscale(one)
    assert "50 × 30" in other.inner_text("#about")
    assert not other.is_visible("#download")


def test_files_go_when_a_page_is_closed(visit, photo):
    from enlca.explorer.uploads import PREFIX

    def kept() -> list[Path]:
        return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/**/closing_x4.png"))

    page = visit()
    closing = Path(tempfile.mkdtemp()) / "closing.png"
    closing.write_bytes(photo.read_bytes())
    drop_and_wait(page, closing)
    upscale(page)
    assert kept()
    page.close()
    end = time.monotonic() + 60
    while kept() and time.monotonic() < end:
        time.sleep(0.2)
    assert not kept()


@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
def test_nothing_sticks_out_of_the_window(visit, photo, kind):
    settings = {
        **(PHONE if kind == "phone" else DESKTOP),
        "color_scheme": "dark" if kind == "dark" else "light",
    }
    page = visit(**settings)
    drop_and_wait(page, photo)
    upscale(page)
    click(page, 44, 72)
    page.wait_for_selector("#panels figure:nth-child(5)", timeout=SECONDS)
    width = settings["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".stage").bounding_box()["width"] >= 0.25 * width
    page.wait_for_timeout(500)
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS, f"explorer_{kind}.png"), full_page=True, scale="css")


def test_light_and_dark_can_be_chosen(visit):
    page = visit(**DESKTOP, color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#top button")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
