"""A network of one's own: nothing but a loopback, and nobody else on it (network_namespaces(7))."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

CLONE_NEWNET = 0x40000000  # sched.h


def enter_own() -> bool:
    """Moves the calling thread, and whatever it starts from now on, into a new network with a loopback.

    Returns False, and moves nothing, where that is not allowed: without root, or without `ip`.
    """
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ip is None or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    subprocess.run([ip, "link", "set", "lo", "up"], check=True)
    return True
