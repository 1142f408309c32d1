"""Every target on its seeds, and on what Hypothesis makes of them; `script/fuzz` goes on for as long as one likes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import of_target
from tests.fuzz.targets import TARGETS

EXAMPLES = 60
"""Short: this runs with every test run."""
MARKS = st.sampled_from(
    [
        *(bytes([code]) for code in (0, 9, 10, 13, 27, 34, 44, 127, 128, 255)),
        *(text.encode() for text in ("../", "|", "${X}", "\r\n", "\r\n\r\n", "\x1b[2J", "\u202e", "😀", "x" * 300)),
        *(text.encode() for text in ("1e999", "NaN", "-1", "9" * 5000, "[" * 5000, "{}", "null", '""', "\ud7ff")),
    ]
)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """What the targets' parsers log is of no interest here."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()
    logging.disable(logging.NOTSET)


@st.composite
def mutants(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Bytes of any kind, or a seed with some places cut out, doubled, or replaced by marks that mean something."""
    if not seeds or draw(st.integers(0, 3)) == 0:
        return b"".join(draw(st.lists(st.one_of(MARKS, st.binary(max_size=40)), max_size=12)))
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 30)))
        put = draw(st.one_of(MARKS, st.binary(max_size=8), st.just(b""), st.just(data[begin:end] * 2)))
        data = data[:begin] + put + data[end:]
    return data


def test_every_target_has_seeds() -> None:
    assert [name for name in TARGETS if not of_target(name)] == []


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_is_a_find_any_more(name: str) -> None:
    for seed in of_target(name):
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_made_of_the_seeds_is_a_find(name: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mutants(of_target(name)))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()
