"""Who is behind a channel's name, however the name was made."""

from __future__ import annotations

import pytest

from pbxguard.core.parties import PartyKind, classify, endpoint_of, local_half
from pbxguard.core.policy import PartyPatterns

PATTERNS = PartyPatterns(
    own=("PJSIP/1??-*",),
    external=("PJSIP/trunk-*", "DAHDI/*"),
    private=("PJSIP/17?-*",),
    mandated=("PJSIP/tenant-*",),
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("PJSIP/101-0000002a", PartyKind.OWN),
        ("PJSIP/170-0000002a", PartyKind.PRIVATE),
        ("PJSIP/tenant-a-0000002a", PartyKind.MANDATED),
        ("PJSIP/trunk-0000002a", PartyKind.EXTERNAL),
        ("DAHDI/i1/0612345678-1", PartyKind.EXTERNAL),
        ("Local/101@members-0000002a;1", PartyKind.LOCAL),
        ("CBAnn/conf-0000002a;2", PartyKind.MACHINE),
        ("Announcer/ARI-0000002a;2", PartyKind.MACHINE),
        ("Snoop/17000.1-0000002a", PartyKind.MONITOR),
        ("PJSIP/1010-0000002a", PartyKind.UNKNOWN),
        ("pjsip/101-0000002a", PartyKind.UNKNOWN),
        ("PJSIP/101-0000002a<ZOMBIE>", PartyKind.UNKNOWN),
        ("PJSIP/101-0000002a<MASQ>", PartyKind.UNKNOWN),
        ("AsyncGoto/PJSIP/101-0000002a", PartyKind.UNKNOWN),
        ("Surrogate/PJSIP/101-0000002a", PartyKind.UNKNOWN),
        ("PJSIP/anonymous-0000002a", PartyKind.UNKNOWN),
        ("", PartyKind.UNKNOWN),
    ],
)
def test_the_kind_follows_from_the_pattern_that_the_name_matches(name: str, kind: PartyKind) -> None:
    assert classify(name, PATTERNS) is kind


@pytest.mark.parametrize("name", ["SIP/PJSIP/101-1", " PJSIP/101-1", "IAX2/PJSIP/101-1", "Message/PJSIP/101-1"])
def test_no_name_becomes_own_by_holding_an_own_name(name: str) -> None:
    assert classify(name, PATTERNS) is PartyKind.UNKNOWN


@pytest.mark.parametrize("name", ["PJSIP/101-1<ZOMBIE>", "AsyncGoto/PJSIP/101-1", "Surrogate/PJSIP/101-1"])
def test_what_is_half_moved_is_nobody_even_under_a_pattern_that_takes_all(name: str) -> None:
    wide = PartyPatterns(own=("*",))
    assert classify("PJSIP/101-1", wide) is PartyKind.OWN
    assert classify(name, wide) is PartyKind.UNKNOWN


def test_without_patterns_nobody_is_anybody() -> None:
    assert classify("PJSIP/101-0000002a", PartyPatterns()) is PartyKind.UNKNOWN


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("PJSIP/101-0000002a", "PJSIP/101"),
        ("PJSIP/trunk-a-0000002a", "PJSIP/trunk-a"),
        ("PJSIP/101", "PJSIP/101"),
        ("PJSIP/101-", "PJSIP/101-"),
    ],
)
def test_a_device_is_the_name_without_its_last_part(name: str, device: str) -> None:
    assert endpoint_of(name) == device


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("Local/101@m-0000002a;1", ("Local/101@m-0000002a", 1)),
        ("Local/101@m-0000002a;2", ("Local/101@m-0000002a", 2)),
        ("Local/101@m-0000002a;1<ZOMBIE>", None),
        ("Local/101@m-0000002a;3", None),
        ("CBAnn/x-0000002a;1", None),
    ],
)
def test_the_halves_of_a_local_channel_are_known_by_name(name: str, half: tuple[str, int] | None) -> None:
    assert local_half(name) == half
