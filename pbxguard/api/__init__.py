"""HTTP of the running service: the Unix socket now, the network later, the same application."""

from .application import create as create
from .server import serve as serve
