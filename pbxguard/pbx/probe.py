"""What `pbxguard check` asks Asterisk (`service.check_pbx.PbxProbe`): one short AMI connection and two ARI requests.

It changes nothing that matters: a global variable and a custom device state of its own tell which events we get. No
`command` right is needed. `PJSIPShowEndpoint` answers with passwords: only two fields of it are looked at.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

import aiohttp

from pbxguard.core.errors import ActionRefused, ConnectionFailed, PbxguardError, UnsafeValue

from .ami import values
from .ami.connection import Address, LoginRefused, Session, Tuning
from .ami.values import Ours

ARI_SECONDS = 5.0
EVENTS_SECONDS = 2.0
MOST_ENDPOINTS = 2000
VARIABLE = "PBXGUARD_CHECK"
DEVICE = "Custom:pbxguard-check"
NOBODY = "pbxguard-check-nobody"
"""A channel id that does not exist."""

MEND_ARI_REACH = "Is enabled=yes in http.conf and ari.conf, at this address, and res_ari loaded?"
MEND_ARI_LOGIN = "Compare [ari] with the account in ari.conf: name and password."
MEND_ARI_READ_ONLY = "Set read_only=no for the account in ari.conf, then `module reload res_ari`."

R = TypeVar("R", covariant=True)
E = TypeVar("E", covariant=True)


class ProbeRefused(ActionRefused):
    """Asterisk answered, and does not let us do what we need."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self._mend = mend

    def diagnostics(self) -> str:
        return self._mend


class _MakesRights(Protocol[R]):
    def __call__(self, read: frozenset[str] | None, write: frozenset[str], configured: frozenset[str]) -> R: ...


class _MakesEndpoint(Protocol[E]):
    def __call__(self, name: str, direct_media: bool) -> E: ...


class Probe:
    """An async context manager that may fail to connect: then each AMI question raises that error."""

    def __init__(
        self,
        ami: Address,
        *,
        ari_url: str,
        ari_username: str,
        ari_password: str,
        rights: _MakesRights[Any],
        endpoint: _MakesEndpoint[Any],
    ) -> None:
        """`rights` and `endpoint` make the service's own types, which may not be imported here."""
        self._address = ami
        self._ari_url = ari_url.rstrip("/")
        login = base64.b64encode(f"{ari_username}:{ari_password}".encode()).decode()
        self._ari_login = {"Authorization": f"Basic {login}"}
        self._make_rights, self._make_endpoint = rights, endpoint
        self._session: Session | None = None
        self._trouble: PbxguardError | None = None
        self._seen: set[str] = set()
        self._event = asyncio.Event()

    async def __aenter__(self) -> Probe:
        try:
            self._session = await Session.open(self._address, Tuning(), self._heard)
        except LoginRefused as error:
            self._trouble = ProbeRefused("AMI refuses our name or secret", error.diagnostics())
        except ConnectionFailed as error:
            self._trouble = error
        except UnsafeValue:
            self._trouble = ConnectionFailed("AMI", "its username or secret cannot be sent", "Use plain characters.")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self._session.close()

    def _heard(self, event: Any) -> None:
        name, variable, device = (str(getattr(event, field, "")) for field in ("event", "Variable", "Device"))
        if name == "VarSet" and variable == VARIABLE:
            self._seen.add("dialplan")
        if name == "DeviceStateChange" and device == DEVICE:
            self._seen.add("call")
        self._event.set()

    async def _ask(self, name: str, headers: Mapping[str, str] | None = None) -> list[Mapping[str, str]]:
        if self._session is None:
            raise self._trouble or ConnectionFailed("AMI", "not connected")
        return await self._session.action(name, headers)

    async def version(self) -> str:
        """Asterisk's version as it tells it."""
        return str((await self._ask("CoreSettings"))[0].get("AsteriskVersion", ""))

    async def run_as(self) -> tuple[str, str]:
        """User and group of Asterisk's own configuration; empty where it names none."""
        answer = (await self._ask("CoreSettings"))[0]
        return str(answer.get("CoreRunUser", "")), str(answer.get("CoreRunGroup", ""))

    async def rights(self) -> Any:
        """The write rights by which each action is open to us, and the read rights that events prove."""
        commands = (await self._ask("ListCommands"))[0]
        return self._make_rights(await self._read_rights(), write_rights(commands), await self._configured_rights())

    async def _configured_rights(self) -> frozenset[str]:
        """The read rights that manager.conf gives our account; empty where Asterisk does not show it to us."""
        headers = {"Filename": Ours("manager.conf"), "Category": values.header(self._address.username)}
        try:
            answer = (await self._ask("GetConfig", headers))[0]
        except (ActionRefused, UnsafeValue):
            return frozenset()
        lines = [str(text) for key, text in answer.items() if key.startswith("Line-")]
        return read_rights(lines)

    async def _read_rights(self) -> frozenset[str] | None:
        """By the events of what we change; None where we may change nothing, which proves nothing."""
        lamp = values.variable(f"DEVICE_STATE({DEVICE})")
        try:
            await self._ask("Events", {"EventMask": "on"})
            await self._ask("Setvar", {"Variable": VARIABLE, "Value": "1"})
            for state in ("INUSE", "NOT_INUSE"):
                await self._ask("Setvar", {"Variable": lamp, "Value": state})
            async with asyncio.timeout(EVENTS_SECONDS):
                while self._seen != {"call", "dialplan"}:
                    self._event.clear()
                    await self._event.wait()
            await self._ask("Setvar", {"Variable": VARIABLE, "Value": ""})
        except ActionRefused:
            return None
        except TimeoutError:
            pass  # what did not come is a right that we lack
        return frozenset(self._seen)

    async def endpoints(self) -> Sequence[Any]:
        """The PJSIP endpoints; none where chan_pjsip is not loaded."""
        try:
            listed = await self._ask("PJSIPShowEndpoints")
        except ActionRefused:
            return []
        found = []
        for entry in listed[1 : MOST_ENDPOINTS + 1]:
            name = str(entry.get("ObjectName", ""))
            try:
                detail = await self._ask("PJSIPShowEndpoint", {"Endpoint": values.header(name)})
            except (ActionRefused, UnsafeValue):
                continue  # gone meanwhile, or of a name that we may not send
            found.append(self._make_endpoint(f"PJSIP/{name}", _direct_media(detail)))
        return found

    async def dialplan_exists(self, context: str, exten: str) -> bool:
        """Whether the dialplan has priority 1 of that extension."""
        asked = Ours(f"DIALPLAN_EXISTS({values.word(context)},{values.word(exten)},1)")
        return str((await self._ask("Getvar", {"Variable": asked}))[0].get("Value", "0")) == "1"

    async def ari(self) -> None:
        """Raises ConnectionFailed when ARI does not answer, ProbeRefused when it refuses us or lets us only read."""
        await self._ari("GET", "/asterisk/info?only=system", good=(200,))
        await self._ari("DELETE", f"/channels/{NOBODY}", good=(404,))

    async def _ari(self, method: str, path: str, good: Sequence[int]) -> None:
        timeout = aiohttp.ClientTimeout(total=ARI_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._ari_login) as http,
                http.request(method, self._ari_url + path, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ConnectionFailed("ARI", f"does not answer ({type(error).__name__})", MEND_ARI_REACH) from None
        if status == 401:
            raise ProbeRefused("ARI refuses our name or password", MEND_ARI_LOGIN)
        if status == 403:
            raise ProbeRefused("ARI lets us only read", MEND_ARI_READ_ONLY)
        if status not in good:
            raise ConnectionFailed("ARI", f"answers {status}: not as Asterisk's ARI does", MEND_ARI_REACH)


def read_rights(lines: Sequence[str]) -> frozenset[str]:
    """The rights of the last ``read=`` among an account's lines, as Asterisk takes it."""
    given = [text.partition("=")[2] for text in lines if text.partition("=")[0].strip().lower() == "read"]
    return frozenset(word.strip().lower() for word in given[-1].split(",") if word.strip()) if given else frozenset()


_PRIVILEGE = re.compile(r"\(Priv: ([a-z,]+)\)\s*$")


def write_rights(commands: Mapping[str, str]) -> frozenset[str]:
    """The write rights that an answer to ``ListCommands`` shows: it lists what the account may do.

    An action that needs exactly one right proves it; one that is open to several proves none.
    """
    proven = set()
    for text in commands.values():
        found = _PRIVILEGE.search(str(text))
        rights = set(found.group(1).split(",")) - {"all"} if found else set()
        if len(rights) == 1:
            proven |= rights
    return frozenset(proven)


def _direct_media(detail: Sequence[Mapping[str, str]]) -> bool:
    endpoint = [entry for entry in detail if entry.get("Event") == "EndpointDetail"]
    return any(str(entry.get("DirectMedia", "")).lower() in ("true", "yes") for entry in endpoint)
