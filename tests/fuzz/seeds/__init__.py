"""The corpus: a folder for each target, a file for each input. Files that begin with ``find-`` were finds once."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def of_target(name: str) -> list[bytes]:
    """Its seeds, in the order of their names."""
    return [file.read_bytes() for file in sorted((FOLDER / name).glob("*")) if file.is_file()]
