"""The reference of the Python interface: `enlca.__all__`, then the modules of each room."""

import ast
from pathlib import Path

import enlca
from pages.text import heading

SOURCE = Path(enlca.__file__).parent
# The rooms that other programs import from; the others serve the commands, whose reference is another page.
ROOMS = {
    "attention": "Attention",
    "network": "Networks",
    "models": "Networks of your own",
    "peers": "Methods of other papers",
    "checkpoint": "Checkpoints",
    "inference": "Inference",
    "image": "Pictures in files",
    "data": "Data",
    "losses": "Losses",
    "metrics": "Metrics",
    "evaluation": "Evaluation",
    "analysis": "Analysis",
    "training": "Training",
    "export": "Export",
    "integrations": "Integrations",
    "runtime": "Files, devices, threads",
    "errors": "Errors",
}


def modules(room: str) -> list[str]:
    """Return the dotted names of a room's modules, the room itself first."""
    files = sorted((SOURCE / room).rglob("*.py")) or [SOURCE / f"{room}.py"]
    parts = [path.relative_to(SOURCE).with_suffix("").parts for path in files]
    names = [".".join(("enlca", *(part for part in place if part != "__init__"))) for place in parts]
    return sorted(names)


def public(module: str) -> list[str]:
    """Return the functions and classes that a module defines and whose names have no underscore in front."""
    place = SOURCE.joinpath(*module.split(".")[1:])
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    defined = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in defined if not name.startswith("_")]


def pages() -> dict[str, str]:
    """Return a page of the main names, and one for each room."""
    return {"enlca.rst": main_page(), **{f"{room}.rst": room_page(room) for room in ROOMS}}


def main_page() -> str:
    """Return the page of the names that `import enlca` offers."""
    parts = [heading("enlca"), ".. py:module:: enlca\n", enlca.__doc__.partition("\n")[0] + "\n"]
    for name in enlca.__all__:
        if name == "__version__":
            parts.append(".. py:data:: __version__\n   :type: str\n\n   The version of the package.\n")
        else:
            kind = "autoclass" if isinstance(getattr(enlca, name), type) else "autofunction"
            options = "   :members:\n   :special-members: __call__\n" * (kind == "autoclass")
            parts.append(f".. {kind}:: {name}\n{options}")
    return "\n".join(parts)


def room_page(room: str) -> str:
    """Return the page of a room: each of its modules, with everything public in it."""
    parts = [heading(ROOMS[room])]
    for module in modules(room):
        main = [name for name in public(module) if name in enlca.__all__]
        if module.count(".") > 1:
            parts.append(heading(module, "-"))
        parts.append(f".. automodule:: {module}\n   :members:\n")
        if main:
            parts[-1] += f"   :exclude-members: {', '.join(main)}\n"
            parts.append(f"See :doc:`enlca` for {', '.join(f':py:obj:`enlca.{name}`' for name in main)}.\n")
    return "\n".join(parts)
