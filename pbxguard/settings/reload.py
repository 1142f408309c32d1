"""Which settings a running service takes anew from its file, and which wait for a restart."""

from __future__ import annotations

from .whole import Settings

AT_START = ("node", "rate", "ami", "ari", "agi", "spool", "archive", "database", "socket", "logs")
"""Connections, folders and what every file is made with: read at the start only."""
PROMPTS_AT_START = ("directory", "asterisk_directory")


def needs_restart(running: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """`read`, with what only a start reads as it is in `running`; and the keys that therefore wait for a restart."""
    waiting = [key for key in AT_START if getattr(read, key) != getattr(running, key)]
    kept = {key: getattr(running, key) for key in AT_START}
    folders = {key: getattr(running.prompts, key) for key in PROMPTS_AT_START}
    waiting += [f"prompts.{key}" for key in PROMPTS_AT_START if getattr(read.prompts, key) != folders[key]]
    prompts = read.prompts.model_copy(update=folders)
    return read.model_copy(update={**kept, "prompts": prompts}), waiting
