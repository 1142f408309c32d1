"""A thing that hangs holds up its own few threads, and neither others nor the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from pbxguard.threads import Threads

SECONDS = 5.0


async def test_what_one_hangs_in_another_goes_on_beside() -> None:
    archive, spool, gate = Threads("archive", 2), Threads("spool", 2), threading.Event()
    hanging = [asyncio.ensure_future(archive.run(gate.wait)) for _ in range(50)]
    async with asyncio.timeout(SECONDS):
        assert await spool.run(lambda: "cut") == "cut"
        assert await asyncio.to_thread(lambda: "settings") == "settings"
    assert not any(one.done() for one in hanging)
    gate.set()
    async with asyncio.timeout(SECONDS):
        assert await asyncio.gather(*hanging) == [True] * 50


async def test_no_more_threads_are_made_than_said_and_those_are_used_again() -> None:
    threads, at_once, most, one = Threads("disk", 3), 0, 0, threading.Lock()
    names = set()

    def work() -> None:
        nonlocal at_once, most
        with one:
            at_once += 1
            most = max(most, at_once)
            names.add(threading.current_thread().name)
        threading.Event().wait(0.005)
        with one:
            at_once -= 1

    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(threads.run(work) for _ in range(60)))
        for _ in range(20):
            await threads.run(work)
    assert most == 3
    assert names == {"disk-1", "disk-2", "disk-3"}


async def test_arguments_go_in_and_results_and_errors_come_out() -> None:
    threads = Threads("disk", 1)
    assert await threads.run(int, "20", base=16) == 32
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.run(int, "x")
    assert await threads.run(int, "7") == 7


async def test_what_was_given_up_before_it_began_is_never_done() -> None:
    threads, gate, done = Threads("disk", 1), threading.Event(), list[int]()
    hanging = asyncio.ensure_future(threads.run(gate.wait))
    given_up = asyncio.ensure_future(threads.run(done.append, 1))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    gate.set()
    async with asyncio.timeout(SECONDS):
        await hanging
        await threads.run(done.append, 2)
    assert done == [2]


async def test_after_the_end_nothing_is_taken() -> None:
    threads = Threads("disk", 1)
    assert await threads.run(lambda: 1) == 1
    threads.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        await threads.run(lambda: 1)


PROGRAM = """
import asyncio, threading
from pbxguard.threads import Threads
async def main():
    threads = Threads("disk", 2)
    hanging = asyncio.ensure_future({how}(threading.Event().wait))
    await asyncio.sleep(0.1)
    threads.shutdown()
    hanging.cancel()
    print("over", flush=True)
asyncio.run(main())
"""


def ended(how: str) -> tuple[str, bool]:
    """What it printed, and whether it ended by itself."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(how=how)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        printed = process.stdout.readline().strip()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return printed, False
    return printed, process.returncode == 0


def test_a_process_ends_whatever_hangs_there_and_would_not_with_the_loops_own_threads() -> None:
    assert ended("threads.run") == ("over", True)
    assert ended("asyncio.to_thread") == ("over", False)
