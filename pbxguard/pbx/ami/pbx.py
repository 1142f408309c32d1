"""The little that we write to Asterisk besides the recorder. Fulfils `service.ports.Pbx`."""

from __future__ import annotations

import re
from collections.abc import Callable

from pbxguard.core.facts import InCall
from pbxguard.core.ids import Endpoint, Uniqueid
from pbxguard.core.requests import SAID, SAID_SO

from . import values
from .connection import AmiRefused
from .needs import Act
from .values import Ours

_TARGET = re.compile(r"sips?:(?:[^@\s]*@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(?=[;?>]|$)")
"""Host and port of a SIP URI (RFC 3261, 25.1)."""


class AmiPbx:
    """Variables, lamps and hang-ups. Everything raises UnsafeValue, ConnectionFailed or AmiRefused."""

    def __init__(
        self,
        act: Act,
        look_anew: Callable[[], None] = lambda: None,
        beat_now: Callable[[], None] = lambda: None,
        look_closer: Callable[[], None] = lambda: None,
    ) -> None:
        self._act = act
        self.beat_now = beat_now
        """A beat more, at once."""
        self.look_anew = look_anew
        """Events were lost: begin anew with a snapshot."""
        self.look_closer = look_closer
        """Hold the lists against events at once."""

    async def set_channel_variable(self, channel: Uniqueid, name: str, value: str) -> None:
        """AmiRefused when the channel is gone."""
        headers = {"Channel": values.uniqueid(channel), "Variable": values.variable(name), "Value": value}
        await self._act("Setvar", headers)

    async def said(self) -> dict[Uniqueid, tuple[InCall, ...]]:
        """What was asked for on channels and may not have been taken down (`service.requests`)."""
        names = {str(values.variable(name)): what for what, name in SAID.items()}
        found: dict[Uniqueid, tuple[InCall, ...]] = {}
        for entry in (await self._act("Status", {"Variables": Ours(",".join(names))}))[1:]:
            told = entry.get("Variable", "")
            held = [one.partition("=") for one in (told if isinstance(told, list) else [told])]
            asked = tuple(names[name] for name, _, value in held if value == SAID_SO and name in names)
            if asked and entry.get("Uniqueid"):
                found[Uniqueid(entry["Uniqueid"])] = asked
        return found

    async def set_global(self, name: str, value: str) -> None:
        await self._act("Setvar", {"Variable": values.variable(name), "Value": value})

    async def get_global(self, name: str) -> str:
        """Empty when it is not set."""
        return (await self._act("Getvar", {"Variable": values.variable(name)}))[0].get("Value", "")

    async def contact(self, channel: Uniqueid) -> str:
        """``host:port`` of the telephone that a PJSIP channel is with; empty where it is not known, or gone.

        Of the dialog's target: an incoming channel has its phone's Contact there, an outgoing one the contact dialled.
        """
        headers = {"Channel": values.uniqueid(channel), "Variable": Ours("CHANNEL(pjsip,target_uri)")}
        try:
            target = (await self._act("Getvar", headers))[0].get("Value", "")
        except AmiRefused as error:
            if error.not_permitted:
                raise
            return ""
        found = _TARGET.match(target)
        return f"{found[1].lower()}:{found[2] or '5060'}" if found else ""

    async def set_device_state(self, endpoint: Endpoint, state: str) -> None:
        """`state` as Asterisk writes it: ``INUSE``, ``NOT_INUSE``, ``ONHOLD``."""
        name = values.variable(f"DEVICE_STATE({values.lamp_device(endpoint)})")
        await self._act("Setvar", {"Variable": name, "Value": values.word(state)})

    async def lit_lamps(self) -> tuple[Endpoint, ...]:
        """Endpoints, without their technology, of our lamps that show anything but ``NOT_INUSE``."""
        states = (await self._act("DeviceStateList"))[1:]
        lit = (s.get("Device", "") for s in states if s.get("State") not in ("NOT_INUSE", "UNKNOWN", None))
        prefix = values.LAMP_PREFIX
        return tuple(Endpoint(device.removeprefix(prefix)) for device in lit if device.startswith(prefix))

    async def hang_up(self, channel: Uniqueid) -> None:
        """A channel that is gone already is hung up enough."""
        try:
            await self._act("Hangup", {"Channel": values.uniqueid(channel)})
        except AmiRefused as error:
            if error.not_permitted:
                raise

    # -- what `pbxguard check` asks --------------------------------------------------------------------------------

    async def permitted_actions(self) -> frozenset[str]:
        """The names of the AMI actions that our account may use (ListCommands shows no others)."""
        listed = (await self._act("ListCommands"))[0]
        return frozenset(listed) - {"Response", "ActionID", "content"}

    async def pjsip_endpoints(self) -> tuple[str, ...]:
        """Names of the PJSIP endpoints; empty where there are none (Asterisk calls that an error)."""
        try:
            entries = await self._act("PJSIPShowEndpoints")
        except AmiRefused as error:
            if error.not_permitted:
                raise
            return ()
        return tuple(entry.get("ObjectName", "") for entry in entries[1:] if entry.get("Event") == "EndpointList")

    async def pjsip_endpoint(self, name: str) -> dict[str, str]:
        """Its settings as Asterisk names them (``DirectMedia``, ``Context``, ``Allow``, ...), without secrets."""
        entries = await self._act("PJSIPShowEndpoint", {"Endpoint": values.word(name)})
        for entry in entries[1:]:
            if entry.get("Event") == "EndpointDetail":
                return {key: value for key, value in entry.items() if isinstance(value, str)}
        return {}

    async def dialplan_exists(self, context: str, exten: str = "s") -> bool:
        """Whether the dialplan has this extension, at priority 1."""
        asked = Ours(f"DIALPLAN_EXISTS({values.word(context)},{values.word(exten)},1)")
        return (await self._act("Getvar", {"Variable": asked}))[0].get("Value", "") == "1"
