"""Which channels are one device: what one telephone hears in one of its calls, it may pass into the other.

A device is an endpoint unless configured: several accounts of one telephone can be grouped into one, and an endpoint
on which several telephones are registered can be split by contact. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from .ids import Endpoint


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """`groups`: shell patterns on endpoints (``PJSIP/110``), a tuple for each telephone. `by_contact`: patterns on
    endpoints that are split by the address of the telephone that a channel is with."""

    groups: tuple[tuple[str, ...], ...] = ()
    by_contact: tuple[str, ...] = ()

    def device_of(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint itself, or the name of the group that it is in: the group's first entry."""
        for group in self.groups:
            if any(fnmatchcase(endpoint, pattern) for pattern in group):
                return Endpoint(group[0])
        return endpoint

    def splits(self, endpoint: Endpoint) -> bool:
        """Whether its contacts are devices of their own."""
        return any(fnmatchcase(endpoint, pattern) for pattern in self.by_contact)
