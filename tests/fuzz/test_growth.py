"""An input four times as long costs about four times as much: no peer can make us work for long with little.

Counted are the lines of Python that run, and, since much is done in C, the processor's time with a wide margin: where
work grows with the square of the length, it would be sixteen times as much.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import structlog

from tests.fuzz.targets import TARGETS

TIMES = 4
MOST_LINES = 5.0
MOST_TIME = 10.0

GROWING: dict[str, tuple[str, Callable[[int], bytes], int]] = {
    "one endless AMI line": ("ami_facts", lambda n: b"Event: Hangup\nUniqueid: " + b"x" * n, 200_000),
    "an AMI event of many headers": ("ami_facts", lambda n: b"Event: Hangup\n" + b"X: 1\n" * n + b"\n", 3_000),
    "many different headers": (
        "ami_facts",
        lambda n: b"Event: Hangup\n" + b"".join(b"X%d: 1\n" % i for i in range(n)) + b"\n",
        3_000,
    ),
    "many AMI events of one channel": ("ami_facts", lambda n: b"Event: Newstate\nUniqueid: 1\n\n" * n, 500),
    "AMI line ends only": ("ami_facts", lambda n: b"\n" * n, 20_000),
    "an AMI list of many entries": (
        "ami_facts",
        lambda n: b"Response: Success\nActionID: 1\nEventList: start\n\n" + b"Event: E\nActionID: 1\n\n" * n,
        500,
    ),
    "many ARI events": ("ari_event", lambda n: b'{"type":"StasisEnd","channel":{"id":"1"}}\n' * n, 500),
    "many unknown ARI events": ("ari_event", lambda n: b"".join(b'{"type":"%d"}\n' % i for i in range(n)), 500),
    "a long ARI text": ("ari_event", lambda n: b'{"type":"' + b"x" * n + b'"}', 200_000),
    "a long FastAGI reply": ("agi_session", lambda n: b"200 result=1 (" + b")" * n, 20_000),
    "a long FastAGI result": ("agi_session", lambda n: b"200 result=" + b"1" * n, 20_000),
    "many FastAGI headers": ("agi_session", lambda n: b"agi_x: y\n" * n, 2_000),
    "many purposes": ("door_request", lambda n: b"&" * n, 20_000),
    "many arguments": ("door_request", lambda n: b"x,k=v," * n, 5_000),
    "a long reference": ("door_request", lambda n: b"x,reference=" + b"a " * n, 20_000),
    "a long number": ("number", lambda n: b"+" + b"1" * n, 20_000),
    "a number of signs": ("number", lambda n: b"*31#" * n, 5_000),
    "a long log text": ("log_line", lambda n: b"0612345678 " * n, 5_000),
    "a long tag": ("flac_comments", lambda n: b"x" * n, 50_000),
    "many tags": ("flac_comments", lambda n: b"\n" * n, 2_000),
    "a long settings key": ("settings_toml", lambda n: b"a" * n + b" = 1", 5_000),
    "many settings": ("settings_toml", lambda n: b"".join(b"a%d = 1\n" % i for i in range(n)), 50),
}


def lines_of(work: Callable[[], None]) -> int:
    """How many lines of Python it runs."""
    count = 0

    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: local)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def seconds_of(work: Callable[[], None]) -> float:
    """Of the processor's time: the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


@pytest.mark.parametrize("what", GROWING)
def test_work_grows_no_faster_than_its_input(what: str) -> None:
    name, make, length = GROWING[what]
    short, long = make(length), make(length * TIMES)
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        TARGETS[name](short)  # whatever is made once is made now
        assert lines_of(lambda: TARGETS[name](long)) <= MOST_LINES * lines_of(lambda: TARGETS[name](short)) + 1000
        assert seconds_of(lambda: TARGETS[name](long)) <= MOST_TIME * seconds_of(lambda: TARGETS[name](short)) + 0.05
    finally:
        logging.disable(logging.NOTSET)
        structlog.reset_defaults()


def test_the_counters_see_what_grows_with_the_square() -> None:
    def square(n: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(n):
                for _ in range(n):
                    pass

        return work

    assert lines_of(square(400)) > 2 * MOST_LINES * lines_of(square(100))
    assert seconds_of(square(4000)) > MOST_TIME * seconds_of(square(1000))
