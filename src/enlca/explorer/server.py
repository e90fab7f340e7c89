"""Serve the page on a port of this machine until Ctrl-C; no other server is contacted."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enlca.errors import PortTaken, require
from enlca.explorer.actions import Explorer
from enlca.explorer.gate import Gate
from enlca.explorer.models import Models
from enlca.explorer.session import Visitors
from enlca.explorer.uploads import BYTES_OF_METADATA, BYTES_OF_PIXEL, Uploads, temporary_folder
from enlca.runtime.allocator import share_freed_memory
from enlca.runtime.signals import handling, interrupt

HERE = Path(__file__).parent
# As many as `wiring` runs at once, and Cancel; each has its own threads of PyTorch.
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
            from enlca.explorer.page import Page
            from enlca.explorer.wiring import connect

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
    """Serve (see `serving`) until Ctrl-C, SIGTERM or SIGHUP."""
    share_freed_memory()
    with handling(interrupt), serving(**settings) as url:
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
