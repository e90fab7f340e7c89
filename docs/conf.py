"""Sphinx's configuration of the site that `make docs` builds."""

import re
import sys
import tomllib
import zlib
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402
from pages.text import as_rst  # noqa: E402

import enlca  # noqa: E402

URLS = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
SOURCE = f"{URLS['Source']}/blob/main"
# Draws the diagrams of architecture.md in the reader's browser; without it, their text is shown.
MERMAID = (
    '<script defer crossorigin="anonymous" src="https://cdn.jsdelivr.net/npm/mermaid@12.3.0/dist/mermaid.min.js"'
    ' integrity="sha384-HHW54r639fK42Ip0coGF3mz8oSiGn0eEoWNTLs75X7H63pLSDBa0Tqs0RwGmLlXE"'
    """ onload="mermaid.initialize({theme: 'neutral'})"></script>"""
)

project, author = "enlca", "The enlca authors"
version = release = enlca.__version__
project_copyright = author
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]

# Docstrings and types.
default_role = "py:obj"
autodoc_preserve_defaults = True
# Of the programs that integrations are for.
autodoc_mock_imports = ["comfy", "comfy_api", "folder_paths"]
autodoc_member_order = "bysource"
napoleon_use_ivar = True
nitpicky = True
# Names of other packages, and words between backticks that are no names.
nitpick_ignore_regex = [("py:.*", r"(?!enlca(\.\w+)+$).*")]
TYPE_VARIABLES = ("inference.streaming.Sums", "network.layers.Network", "runtime.concurrency.Item")
TYPE_VARIABLES += ("runtime.concurrency.Result",)
nitpick_ignore = [("py:class", f"enlca.{name}") for name in TYPE_VARIABLES]
# A word that names several fields is linked to the first.
suppress_warnings = ["ref.python"]

# Other projects' names, where they can be reached: without a network there are no links, and no warning.
EMPTY = HERE / "reference" / "objects.inv"
intersphinx_mapping = {
    name: (url, (None, str(EMPTY)))
    for name, url in {
        "python": "https://docs.python.org/3",
        "numpy": "https://numpy.org/doc/stable",
        "torch": "https://docs.pytorch.org/docs/stable",
    }.items()
}
intersphinx_timeout = 5

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1000,
    "within_subsection_order": "FileNameSortKey",
}

# Dashes only: quotes may be meant for a shell.
smartquotes_action = "D"

html_theme = "pydata_sphinx_theme"
html_title = "enlca"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "github_url": URLS["Source"],
    "switcher": {"json_url": "_static/versions.json", "version_match": version},
    "navbar_persistent": ["search-button"],
    "navbar_end": ["version-switcher", "theme-switcher", "navbar-icon-links"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}


class Mermaid(Directive):
    """A diagram, as text that Mermaid replaces."""

    has_content = True

    def run(self):
        """Return the text, the first one of a page with the script."""
        document = self.state.document
        script = "" if hasattr(document, "draws_diagrams") else MERMAID
        document.draws_diagrams = True
        text = escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>{script}', format="html")]


def linkcode_resolve(domain, info):
    """Return where the module is that a name of the reference comes from."""
    module = sys.modules.get(info["module"]) if domain == "py" else None
    found = getattr(module, info["fullname"].partition(".")[0], None)
    origin = sys.modules.get(getattr(found, "__module__", None), module)
    if module is None or not getattr(origin, "__file__", None):
        return None
    place = Path(origin.__file__).relative_to(Path(enlca.__file__).parents[1])
    return f"{SOURCE}/src/{place.as_posix()}"


def link_to_source(app, name, text):
    """Turn links to files outside of `docs/` into links to the repository."""
    up = r"\.\./" * (name.count("/") + 1)
    text[0] = re.sub(rf"\]\({up}", f"]({SOURCE}/", text[0])


def read_docstring(app, what, name, thing, options, lines):
    """Replace the lines of a docstring by reStructuredText; fields of named tuples have none of their own."""
    is_field = lines and lines[0].startswith("Alias for field number")
    lines[:] = [] if is_field else as_rst(lines, module=what == "module")


def setup(app):
    """Write the generated pages, and connect what is above."""
    pages.write(HERE / "reference")
    EMPTY.write_bytes(
        b"# Sphinx inventory version 2\n# Project: -\n# Version: -\n# zlib\n" + zlib.compress(b"")
    )
    app.add_directive("mermaid", Mermaid)
    app.connect("source-read", link_to_source)
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", read_docstring, priority=100)
