"""Owns: packets that never arrive: UDP sockets of another process are told by the kernel to drop some, at random.

The process itself notices nothing but the loss: a classic BPF program that draws a number is attached to its sockets
from outside. Needs the right to look into that process, as root has.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
PIDFD_GETFD = 438
"""The system call's number, the same on every architecture."""
_RANDOM = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM: loads a random word."""
_LOAD, _AND, _IF_LEAST, _RETURN = 0x20, 0x54, 0x35, 0x06
_ALL, _NONE = 0xFFFFFFFF, 0


@contextmanager
def losing(pid: int, share: float, ports: tuple[int, int]) -> Iterator[int]:
    """Meanwhile this share (0..1) of what comes to the UDP ports of a process, from the first to the last, is lost.

    Gives how many sockets lose. Those that are opened later lose nothing. Raises OSError without the right to do it.
    """
    found = list(_sockets(pid, ports))
    try:
        for one in found:
            _attach(one, share)
        yield len(found)
    finally:
        for one in found:
            one.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            one.close()


def _sockets(pid: int, ports: tuple[int, int]) -> Iterator[socket.socket]:
    """Copies of those sockets, ours to close."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue
            copy = libc.syscall(PIDFD_GETFD, process, int(name), 0)
            if copy < 0:
                raise OSError(ctypes.get_errno(), f"cannot copy descriptor {name} of process {pid}")
            one = socket.socket(fileno=copy)
            udp = one.family == socket.AF_INET and one.type & socket.SOCK_DGRAM
            if udp and ports[0] <= one.getsockname()[1] <= ports[1]:
                yield one
            else:
                one.close()
    finally:
        os.close(process)


def _attach(one: socket.socket, share: float) -> None:
    """Drop so many of what comes: a random number from 0 to 65535 below the limit is a packet lost."""
    limit = round(share * 65536)
    program = [
        (_LOAD, 0, 0, _RANDOM),
        (_AND, 0, 0, 0xFFFF),
        (_IF_LEAST, 1, 0, limit),  # at least the limit: over the next
        (_RETURN, 0, 0, _NONE),
        (_RETURN, 0, 0, _ALL),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))
