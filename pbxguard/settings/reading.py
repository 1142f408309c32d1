"""Reading the file: TOML in, checked settings out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pbxguard.core.errors import SettingsError

from .mistakes import told
from .sections import AmiSettings
from .whole import Settings

DEFAULT_PATH = Path("/etc/pbxguard/pbxguard.toml")


def load(path: Path = DEFAULT_PATH) -> Settings:
    """Read and check the file; raises SettingsError with every mistake in it."""
    return from_mapping(_raw(path))


def load_ami(path: Path = DEFAULT_PATH) -> AmiSettings:
    """Its section ``[ami]`` alone, for who must act although another section is broken. Raises SettingsError."""
    try:
        return AmiSettings.model_validate(_raw(path).get("ami", {}))
    except ValidationError as error:
        raise told(error, ("ami",)) from None


def _raw(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError([(str(path), "does not exist", "`pbxguard init` writes one")]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8"
        raise SettingsError(
            [(str(path), f"cannot be read: {reason}", "mend its permissions or its encoding")]
        ) from None
    except RecursionError:
        raise SettingsError([(str(path), "is not TOML: nested too deep", "close every bracket")]) from None
    except ValueError as error:  # TOMLDecodeError, and numbers without end
        raise SettingsError([(str(path), f"is not TOML: {error}", "texts stand in double quotes")]) from None


def from_mapping(raw: Mapping[str, Any]) -> Settings:
    """Check settings that were read already; raises SettingsError with every mistake."""
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise told(error) from None
