"""ARI's events, as Asterisk 22.10.1 sent them, and as nobody should send them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbxguard.pbx.ari import translate as ari
from pbxguard.pbx.ari.translate import translate

CHANNEL = {
    "id": "lab-1.0",
    "name": "PJSIP/trunk-a-00000000",
    "state": "Up",
    "protocol_id": "IaK",
    "caller": {"name": "", "number": "+31612345678"},
    "connected": {"name": "", "number": ""},
    "accountcode": "",
    "dialplan": {"context": "sub", "exten": "s", "priority": 8, "app_name": "Stasis", "app_data": "pbxguard,caller"},
    "creationtime": "2026-11-24T22:04:13.781+0000",
    "language": "en",
}
AT = "2026-11-24T22:04:14.790+0000"
PLAYBACK = {
    "id": "p1",
    "media_uri": "sound:x",
    "target_uri": "channel:lab-1.0",
    "language": "en",
    "state": "done",
}


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (
            {"type": "StasisStart", "timestamp": AT, "args": ["caller", "a&b"], "channel": CHANNEL},
            ari.StasisStarted("lab-1.0", "PJSIP/trunk-a-00000000", True, "+31612345678", ("caller", "a&b")),
        ),
        ({"type": "StasisEnd", "timestamp": AT, "channel": CHANNEL}, ari.StasisEnded("lab-1.0")),
        (
            {"type": "PlaybackStarted", "timestamp": AT, "playback": PLAYBACK},
            ari.PlaybackBegan("lab-1.0", "p1", 1795557854.79),
        ),
        (
            {"type": "PlaybackFinished", "timestamp": AT, "playback": PLAYBACK},
            ari.PlaybackEnded("lab-1.0", "p1", "done", 1795557854.79),
        ),
        ({"type": "ChannelDtmfReceived", "digit": "9", "channel": CHANNEL}, ari.DigitReceived("lab-1.0", "9")),
        ({"type": "ChannelHold", "musicclass": "default", "channel": CHANNEL}, ari.ChannelHeld("lab-1.0")),
        ({"type": "ChannelUnhold", "channel": CHANNEL}, ari.ChannelUnheld("lab-1.0")),
        ({"type": "ChannelDestroyed", "cause": 16, "channel": CHANNEL}, ari.ChannelGone("lab-1.0")),
        (
            {"type": "ChannelUserevent", "eventname": "PbxguardBeat", "userevent": {"number": "7"}},
            ari.BeatReturned("7"),
        ),
        ({"type": "ApplicationReplaced", "application": "pbxguard"}, ari.Replaced()),
    ],
)
def test_each_event_is_understood(message: dict[str, Any], event: ari.AriEvent) -> None:
    assert translate(message) == event


@pytest.mark.parametrize(
    "message",
    [
        {"type": "ChannelHologramStarted", "channel": CHANNEL},
        {"type": "PlaybackStarted", "timestamp": "yesterday", "playback": PLAYBACK},
        {"type": "PlaybackStarted", "timestamp": AT, "playback": {**PLAYBACK, "target_uri": "bridge:b1"}},
        {"type": "StasisStart", "channel": CHANNEL},
        {"type": "ChannelHold", "channel": None},
        {"type": "ChannelUserevent", "eventname": "SomebodyElses", "userevent": {}},
        {},
    ],
)
def test_what_is_unknown_or_broken_is_nothing(message: dict[str, Any]) -> None:
    assert translate(message) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    kind=st.sampled_from(sorted(ari.KNOWN)),
    rest=st.dictionaries(
        st.sampled_from(["channel", "playback", "timestamp", "args", "digit", "userevent", "eventname"]), JSON
    ),
)
def test_no_shape_of_an_event_is_fatal(kind: str, rest: dict[str, Any]) -> None:
    translate({**rest, "type": kind})
