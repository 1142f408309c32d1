"""pbxguard: the recorder for Asterisk that asks the law first."""

__version__ = "0.1.0"
