"""Identifiers, each its own type, and the two that pbxguard derives itself.

A recording's id is derived from the call, not drawn at random: whoever asks twice (a retry, a restart) gets the
same id, so nothing is ever doubled. It is opaque: no caller-controlled text reaches a path or an AMI value.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NewType

Uniqueid = NewType("Uniqueid", str)
"""Asterisk's uniqueid of a channel; it follows its party through masquerades."""
BridgeId = NewType("BridgeId", str)
LinkedId = NewType("LinkedId", str)
Endpoint = NewType("Endpoint", str)
"""A device as Asterisk names it, e.g. ``PJSIP/100``."""
PurposeName = NewType("PurposeName", str)
RecordingId = NewType("RecordingId", str)
SegmentId = NewType("SegmentId", str)


def recording_id(node: str, boot: str, call: Uniqueid) -> RecordingId:
    """The id of the one recording that a call can have.

    Takes the node's name, the boot of Asterisk (uniqueids may repeat after one) and the uniqueid of the external
    channel that is the call. Gives 16 characters of ``a-z2-7``.
    """
    digest = hashlib.blake2b(f"{node}\0{boot}\0{call}".encode(), digest_size=10).digest()
    return RecordingId(base64.b32encode(digest).decode().lower())


def segment_id(recording: RecordingId, number: int) -> SegmentId:
    """The id of a recording's `number`-th segment (from 1), also the stem of its spool files."""
    return SegmentId(f"{recording}-{number:03d}")
