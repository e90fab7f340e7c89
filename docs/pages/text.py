"""What the generated pages are put together from."""

import re
from collections.abc import Iterable, Sequence


def heading(text: str, line: str = "=") -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{line * len(text)}\n"


def plain(text: str) -> str:
    """Escape what means something in reStructuredText, outside of `code`."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if index % 2 else re.sub(r"([|*\\])", r"\\\1", piece) for index, piece in enumerate(pieces)
    )


def as_rst(docstring: Sequence[str], *, module: bool) -> list[str]:
    """Return the lines of a docstring, which is plain text with `code`, in reStructuredText.

    In the docstring of a module an indented paragraph is code, and so is a list of letters.
    """
    lines: list[str] = []
    for paragraph in "\n".join(docstring).split("\n\n"):
        if module and paragraph.startswith(("  ", "Letters:")):
            lines += ["::", "", *(f"   {line}" for line in paragraph.split("\n")), ""]
        else:
            lines += [*plain(paragraph).split("\n"), ""]
    return lines


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
