"""The lab's lost packets are lost, and only while they should be."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.lab.loss import losing

COUNTS = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
one.bind(("127.0.0.1", 0))
print(one.getsockname()[1], flush=True)
one.settimeout(0.3)
for line in sys.stdin:
    count = 0
    try:
        while True:
            one.recv(10)
            count += 1
    except TimeoutError:
        print(count, flush=True)
"""


def test_a_share_of_the_packets_is_lost_meanwhile_and_none_afterwards() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", COUNTS], stdin=-1, stdout=-1, text=True) as process,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())

        def arrive() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(400):
                sender.sendto(b"x", ("127.0.0.1", port))
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        with losing(process.pid, 0.3, (port, port)) as sockets:
            assert sockets == 1
            assert 200 < arrive() < 360
        with losing(process.pid, 1.0, (port + 1, port + 1)) as sockets:
            assert sockets == 0
            assert arrive() == 400
        with losing(process.pid, 1.0, (port, port)):
            assert arrive() == 0
        assert arrive() == 400
        process.stdin.close()
