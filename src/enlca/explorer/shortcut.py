"""A file for the desktop whose double-click starts the page and opens it in the browser."""

import shlex
import sys
from pathlib import Path

from enlca.errors import NotWritten
from enlca.runtime.files import write_atomically

# A window stays open with the program's messages; what went wrong can be read before it closes.
LINUX = """[Desktop Entry]
Type=Application
Name=enlca explorer
Comment=Upscale pictures, and see where the network looks
Exec={command}
Terminal=true
Categories=Graphics;
"""
MACOS = """#!/bin/sh
{command} || read -r _
"""
WINDOWS = """@echo off
{command} || pause
"""


def write_shortcut(folder: Path, *, platform: str = sys.platform) -> Path:
    """Write the file for this system (`sys.platform`) into a folder and return its path.

    Raises:
        NotWritten: there is no such folder, or no permission.
    """
    words = [sys.executable, "-m", "enlca", "explore", "--open"]
    if platform == "win32":
        name, text = "enlca explorer.bat", WINDOWS.format(command=f'"{words[0]}" {" ".join(words[1:])}')
    elif platform == "darwin":
        name, text = "enlca explorer.command", MACOS.format(command=shlex.join(words))
    else:
        name, text = "enlca-explorer.desktop", LINUX.format(command=_exec_of(words))
    path = folder / name
    try:
        write_atomically(path, text.encode())
        path.chmod(0o755)
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _exec_of(words: list[str]) -> str:
    """Quote words as the Desktop Entry Specification wants, whose `%` begins a field."""
    escaped = (word.replace("%", "%%") for word in words)
    return " ".join(f'"{word}"' if " " in word else word for word in escaped)
