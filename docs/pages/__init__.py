"""Pages of the site that are made from the code: what they say cannot be out of date.

Sphinx's configuration writes them into `docs/reference/` before it reads the sources; the tests call them
directly.
"""

from pathlib import Path

from pages import api, benchmarks, commands, zoo


def pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    return {
        "commands.rst": commands.page(),
        "zoo.md": zoo.page(),
        "benchmarks.md": benchmarks.page(),
        **api.pages(),
    }


def write(folder: Path) -> None:
    """Write the pages that changed, and remove those that are no longer made."""
    texts = pages()
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
