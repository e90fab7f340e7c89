"""Serve the page on a port of this machine until Ctrl-C; no other server is contacted."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Never

from enlca.errors import PortTaken, require
from enlca.explorer.actions import Explorer
from enlca.explorer.gate import Gate
from enlca.explorer.session import Models, Visitors
from enlca.explorer.uploads import BYTES_OF_METADATA, BYTES_OF_PIXEL, Uploads, temporary_folder
from enlca.runtime.allocator import share_freed_memory

HERE = Path(__file__).parent
# As many as `callbacks` runs at once, and Cancel; each has its own threads of PyTorch.
THREADS = 5


@contextmanager
def serving(
    *, host: str, port: int, models: Sequence[str | os.PathLike] = (), max_megapixels: float
) -> Iterator[str]:
    """Serve the page inside the context and yield its address; all files are deleted afterwards.

    Raises:
        CheckpointError: one of `models` is no checkpoint.
        MissingExtra: Gradio is not installed.
        PortTaken: cannot listen there.
    """
    known = Models(models)
    with temporary_folder() as folder, _gradio_settings(folder):
        # Gradio reads these settings when it is imported, and when components are made.
        with require("explore", feature="the page"):
            from enlca.explorer.callbacks import connect
            from enlca.explorer.page import Page

        visitors, uploads = Visitors(folder), Uploads(folder)
        largest = BYTES_OF_METADATA + int(BYTES_OF_PIXEL * 1e6 * max_megapixels)
        page = Page(known, max_megapixels=max_megapixels)
        connect(page, Explorer(known, visitors, max_megapixels=max_megapixels), uploads)
        gate = {"uploads": uploads, "visitors": visitors, "largest": largest}
        try:
            url = _launched(page.blocks, host=host, port=port, gate=gate)
            yield url
        finally:
            visitors.close()
            uploads.close()
            page.blocks.close(verbose=False)


def serve_until_interrupted(on_ready: Callable[[str], None], **settings: Any) -> None:
    """Serve (see `serving`) until Ctrl-C or SIGTERM."""
    share_freed_memory()
    with _terminated_like_interrupted(), serving(**settings) as url:
        on_ready(url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


@contextmanager
def _gradio_settings(folder: Path) -> Iterator[None]:
    """Hide Gradio's environment variables, which could open the server; put its files into `folder`."""
    before = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")}
    ours = {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    for name in before:
        del os.environ[name]
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)


def _launched(blocks: Any, *, host: str, port: int, gate: dict[str, Any]) -> str:
    from gradio.themes import Base
    from starlette.middleware import Middleware

    theme = Base(primary_hue="teal", neutral_hue="slate", font=["sans-serif"], font_mono=["monospace"])
    try:
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            theme=theme,
            css=(HERE / "page.css").read_text("utf-8"),
            app_kwargs={
                "middleware": [Middleware(Gate, **gate)],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
            max_file_size=gate["largest"],
            max_threads=THREADS,
            footer_links=[],
            quiet=True,
            share=False,
            inbrowser=False,
            inline=False,
            prevent_thread_lock=True,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            state_session_capacity=100,
        )
    except OSError as error:
        message = f"cannot listen on {host}:{port}: it is taken, or not this machine's; choose another --port"
        raise PortTaken(message) from error
    return url


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, so that files are deleted."""

    def interrupt(number: int, frame: FrameType | None) -> Never:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
