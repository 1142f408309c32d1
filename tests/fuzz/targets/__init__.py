"""Every parser of ours, each as a function of bytes that raises when it does what it may not.

A target returns when the input was read, or refused with one of the errors that the parser declares. Whatever else
comes out, and every promise that does not hold (`Broken`), is a find.
"""

from . import files, output, peers
from .common import TARGETS, Broken, Target

__all__ = ["TARGETS", "Broken", "Target", "files", "output", "peers"]
