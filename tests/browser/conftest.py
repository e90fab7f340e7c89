"""A page that is served, and a headless Chromium that looks at it. Run by `make browser-test`."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from screens import DESKTOP

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser"))), ""
)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    pytest.importorskip("gradio", reason="the explorer needs pip install 'enlca[explore]'")
    from enlca.explorer.server import serving

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(host="127.0.0.1", port=port, max_megapixels=0.3) as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install --group browser")
    if not CHROMIUM:
        pytest.skip("needs Chromium: apt install chromium, or its path as $CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(url, chromium) -> Iterator[Callable[..., Any]]:
    """Opens the page as a new visitor; checks afterwards that no other server was contacted."""
    contexts, requested, errors = [], [], []

    def open_page(**settings: Any) -> Any:
        context = chromium.new_context(**(settings or DESKTOP))
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#drop input[type=file]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [place for place in requested if not place.startswith((url, "data:", "blob:"))]
    assert not errors


@pytest.fixture(scope="session")
def photo() -> Path:
    return ROOT / "docs" / "images" / "astronaut_crop.png"


@pytest.fixture
def save(tmp_path) -> Callable[..., Path]:
    """A picture file of an array."""

    def write(name: str, pixels: np.ndarray) -> Path:
        Image.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    return write
