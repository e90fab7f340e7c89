"""Links between files of the repository lead somewhere, headings included."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for folder in (".", "docs", "docs/images", "examples", "benchmarks", "experiments")
    for path in sorted((ROOT / folder).glob("*.md"))
]
LINK = re.compile(r"(?<!`)\]\(([^)\s:]+)\)|(?:src|:link:)[= ]\"?([\w./]+)")


def links(path: Path) -> list[str]:
    """The targets of all links of a page within the repository."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    return [one or other for one, other in LINK.findall(text)]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def missing(page: Path, target: str) -> bool:
    """Whether a link leads nowhere. Pages of the site that are generated have their sources elsewhere."""
    place, _, anchor = target.partition("#")
    if page.parent == ROOT / "docs" and place.startswith("gallery/"):
        example = place.removeprefix("gallery/")
        return example != "index" and not (ROOT / "examples" / f"{example}.py").is_file()
    if page.parent == ROOT / "docs" and place.startswith("reference/"):
        listed = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").splitlines()
        return place.removesuffix(".md") not in listed
    file = page.parent / place if place else page
    if page.parent == ROOT / "docs" and not file.exists():
        # Sphinx needs no suffix.
        file = file.with_name(f"{file.name}.md")
    return not file.exists() or bool(anchor and anchor not in anchors(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_within_the_repository_is_dead(page):
    assert [target for target in links(page) if missing(page, target)] == []


def test_links_are_found_and_dead_ones_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# `Title`\n[x](page.md#title) [y](none.md) ![z](page.md#none)\n")
    assert links(page) == ["page.md#title", "none.md", "page.md#none"]
    assert [missing(page, target) for target in links(page)] == [False, True, True]
