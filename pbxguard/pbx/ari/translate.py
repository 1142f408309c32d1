"""ARI's events as types of ours. What is unknown or cannot be read gives None, and is never fatal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class StasisStarted:
    """A channel came to the application. `arguments` as the dialplan gave them, the first one names the door."""

    channel: str
    name: str
    up: bool
    caller_number: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StasisEnded:
    channel: str


@dataclass(frozen=True, slots=True)
class PlaybackBegan:
    """`at`: ARI's timestamp, UTC seconds: the only clock that may measure a playback (ASTERISK.md)."""

    channel: str
    id: str
    at: float


@dataclass(frozen=True, slots=True)
class PlaybackEnded:
    channel: str
    id: str
    state: str
    at: float


@dataclass(frozen=True, slots=True)
class DigitReceived:
    channel: str
    digit: str


@dataclass(frozen=True, slots=True)
class ChannelHeld:
    channel: str


@dataclass(frozen=True, slots=True)
class ChannelUnheld:
    channel: str


@dataclass(frozen=True, slots=True)
class ChannelGone:
    channel: str


@dataclass(frozen=True, slots=True)
class BeatReturned:
    """Our own user event came back: requests and events both work, for this very connection."""

    number: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another client took the application over."""


AriEvent = (
    StasisStarted
    | StasisEnded
    | PlaybackBegan
    | PlaybackEnded
    | DigitReceived
    | ChannelHeld
    | ChannelUnheld
    | ChannelGone
    | BeatReturned
    | Replaced
)

BEAT = "PbxguardBeat"

WANTED = (
    "StasisStart",
    "StasisEnd",
    "PlaybackStarted",
    "PlaybackFinished",
    "ChannelDtmfReceived",
    "ChannelHold",
    "ChannelUnhold",
    "ChannelDestroyed",
    "ChannelHangupRequest",
    "ChannelUserevent",
    "ApplicationReplaced",
)
"""What we ask Asterisk to send. StasisStart is filtered away too when it is not named (22.10.1)."""
KNOWN = frozenset({*WANTED, "ApplicationRegistered"})


def translate(message: Mapping[str, Any]) -> AriEvent | None:
    """One event; None for those that do not concern us and those whose shape is not as documented."""
    try:
        return _translate(message)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def timestamp(text: str) -> float:
    """UTC seconds of ``2026-11-24T22:04:14.790+0000``. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()


def _translate(message: Mapping[str, Any]) -> AriEvent | None:
    match message["type"]:
        case "StasisStart":
            channel = message["channel"]
            return StasisStarted(
                str(channel["id"]),
                str(channel["name"]),
                channel["state"] == "Up",
                str(channel["caller"]["number"]),
                tuple(str(argument) for argument in message["args"]),
            )
        case "StasisEnd":
            return StasisEnded(_channel(message))
        case "PlaybackStarted":
            playback = message["playback"]
            return PlaybackBegan(_target(playback), str(playback["id"]), timestamp(message["timestamp"]))
        case "PlaybackFinished":
            playback = message["playback"]
            at = timestamp(message["timestamp"])
            return PlaybackEnded(_target(playback), str(playback["id"]), str(playback["state"]), at)
        case "ChannelDtmfReceived":
            return DigitReceived(_channel(message), str(message["digit"]))
        case "ChannelHold":
            return ChannelHeld(_channel(message))
        case "ChannelUnhold":
            return ChannelUnheld(_channel(message))
        case "ChannelDestroyed" | "ChannelHangupRequest":
            return ChannelGone(_channel(message))
        case "ChannelUserevent" if message["eventname"] == BEAT:
            return BeatReturned(str(message["userevent"]["number"]))
        case "ApplicationReplaced":
            return Replaced()
        case _:
            return None


def _channel(message: Mapping[str, Any]) -> str:
    return str(message["channel"]["id"])


def _target(playback: Mapping[str, Any]) -> str:
    kind, _, channel = str(playback["target_uri"]).partition(":")
    if kind != "channel" or not channel:
        raise ValueError("not on a channel")
    return channel
