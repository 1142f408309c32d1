"""The configuration file: TOML in, checked settings out, every mistake at once.

Owns the names and defaults of all settings, and how a mistake is told. Whether the world agrees with them (files,
rights, connections) is `service/check.py`'s question.
"""

from .mistakes import all_keys as all_keys
from .reading import DEFAULT_PATH as DEFAULT_PATH
from .reading import from_mapping as from_mapping
from .reading import load as load
from .reading import load_ami as load_ami
from .reload import needs_restart as needs_restart
from .whole import Settings as Settings
