"""Owns: one running Asterisk for tests and the demo, with a configuration made for this run.

Everything of a run lies in one folder (`run_dir`) that has the same spelling inside and outside the tree.
It knows nothing of pbxguard: who uses it passes the dialplan and further configuration files in.

Lines: phones 100-103 register (context `internal`); `trunk-a` and `trunk-b` are outside carriers (context
`from-trunk`) whose phones answer any number, told apart by loopback address, so that a caller who shows the
number of one of our own phones is still an outside caller; `190` is an agent played by SIPp.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from tests.lab import asterisk_tree
from tests.lab.signals import MUSIC_HZ, Tone, file_of

REPO = Path(__file__).resolve().parents[2]
BOOT_DEADLINE_S = 60.0
STOP_DEADLINE_S = 10.0
POLL_S = 0.02
PR_SET_PDEATHSIG = 1


class LabError(RuntimeError):
    """The lab itself is broken, as against what it tests."""


@dataclass(frozen=True)
class Line:
    """One PJSIP endpoint of the lab's Asterisk, and all that a phone needs to be on it."""

    name: str
    context: str
    password: str = ""  # empty: a static contact, no registration
    host: str = "127.0.0.1"  # the loopback address its phone sits on
    port: int = 0  # where its phone listens; one that registers tells Asterisk itself
    server: str = ""  # host:port of the Asterisk
    caller_id: str = ""  # of one that registers, when its name is no number
    contacts: int = 1  # phones that may be registered on it at once
    packet_ms: int = 20  # of sound in an RTP packet, both ways: the phone asks for it, and Asterisk does so
    t38: bool = False  # whether a switch to T.38 (fax) is passed on to the other side
    group: str = ""  # who of a group may take the calls of the others (call and pick-up group)

    @property
    def registers(self) -> bool:
        return bool(self.password)


def default_lines() -> list[Line]:
    """Four phones with registration, two carriers, one SIPp agent."""
    phones = [Line(str(number), "internal", password=secrets.token_hex(8)) for number in range(100, 104)]
    return [
        *phones,
        Line("trunk-a", "from-trunk", host="127.0.0.2"),
        Line("trunk-b", "from-trunk", host="127.0.0.3"),
        Line("190", "internal", host="127.0.0.4"),
    ]


@dataclass(frozen=True)
class Ports:
    """All of a run's ports; loopback only. RTP is a range."""

    sip: int
    ami: int
    http: int
    agi: int  # for pbxguard's FastAGI; Asterisk does not listen on it
    rtp: tuple[int, int] = (20000, 28999)

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody has at this moment."""
        sip, ami, http, agi = free_ports(4)
        return cls(sip, ami, http, agi)

    @classmethod
    def usual(cls) -> Ports:
        """The ports that every Asterisk user knows, for a namespace of its own or a demo to attach to."""
        return cls(sip=5060, ami=5038, http=8088, agi=4573)

    @classmethod
    def usual_where_free(cls) -> Ports:
        """The usual ports, with a free one for each that is taken at this moment."""
        usual, spare = cls.usual(), iter(free_ports(4))

        def unless_taken(port: int) -> int:
            return port if is_free(port) else next(spare)

        return cls(
            sip=unless_taken(usual.sip),
            ami=unless_taken(usual.ami),
            http=unless_taken(usual.http),
            agi=unless_taken(usual.agi),
        )


DIALPLAN = """\
[internal]
exten => _1XX,1,Dial(PJSIP/${EXTEN},60,tT)
exten => _[0+]X.,1,Dial(PJSIP/${EXTEN}@trunk-a,60,tT)
exten => _11[023],1,Dial(PJSIP/${EXTEN}@trunk-a,60,tT)
exten => _9X.,1,Dial(PJSIP/${EXTEN:1}@trunk-b,60,tT)
[from-trunk]
exten => _[+0-9]X.,1,Dial(PJSIP/100,60,tT)
"""


@dataclass
class Asterisk:
    """An async context manager: an Asterisk that is fully booted and certainly the one that was started.

    `dialplan` is the text of extensions.conf; it may `#include` absolute paths of the repo or the run folder.
    `files` adds to or replaces the generated configuration, by file name; `more` is put behind what is generated.
    `rate` is 8000 (alaw) or 16000 (g722 first). `keep` leaves the run folder there at the end, as does
    `PBXGUARD_LAB_KEEP=1`. `user` is an account of the tree that Asterisk runs as, with its group, as a packaged one
    does; by default it stays root.
    """

    dialplan: str = DIALPLAN
    files: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)
    rate: int = 8000
    ports: Ports | None = None
    lines: Sequence[Line] = field(default_factory=default_lines)
    binds: Sequence[Path] = ()
    keep: bool = False
    user: str = ""
    run_dir: Path = field(init=False)
    tree: asterisk_tree.Tree = field(init=False)

    def __post_init__(self) -> None:
        # Short, because a Unix socket's path may have 107 characters; /tmp is the tree's scratch folder.
        self.run_dir = Path(tempfile.mkdtemp(prefix="pbxlab-", dir="/tmp"))
        self.run_dir.chmod(0o755)
        self.user_agent = f"lab-{secrets.token_hex(6)}"
        self.ami_user = self.ari_user = "pbxguard"
        self.ami_secret, self.ari_password, self.lab_secret = (secrets.token_hex(12) for _ in range(3))
        if self.ports is None:
            self.ports = Ports.free()
        self._ports = self.ports
        server = f"127.0.0.1:{self.sip_port}"
        spare = free_ports(len(self.lines))
        self.lines = [
            replace(line, port=line.port or port, server=server) for line, port in zip(self.lines, spare, strict=True)
        ]
        self._process: asyncio.subprocess.Process | None = None

    # What outsiders need to know.

    @property
    def sip_port(self) -> int:
        return self._ports.sip

    @property
    def ami_port(self) -> int:
        return self._ports.ami

    @property
    def agi_port(self) -> int:
        """The port kept free for pbxguard's FastAGI server."""
        return self._ports.agi

    @property
    def ari_url(self) -> str:
        return f"http://127.0.0.1:{self._ports.http}/ari"

    @property
    def spool(self) -> Path:
        """Asterisk's spool folder; the same path for Asterisk and for us."""
        return self.run_dir / "spool"

    @property
    def sounds(self) -> Path:
        """An empty folder for prompts; Asterisk plays `<sounds>/name` by its absolute path."""
        return self.run_dir / "sounds"

    @property
    def pid(self) -> int:
        """The process id of Asterisk, for SIGSTOP and the like."""
        if self._process is None:
            raise LabError("Asterisk is not running")
        return self._process.pid

    def line(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)

    def log(self) -> str:
        """The full log so far."""
        path = self.run_dir / "log" / "full"
        return path.read_text(errors="replace") if path.exists() else ""

    async def __aenter__(self) -> Asterisk:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if not self.keep and os.environ.get("PBXGUARD_LAB_KEEP") != "1":
            shutil.rmtree(self.run_dir, ignore_errors=True)

    async def start(self) -> None:
        """Starts Asterisk and returns once it is fully booted, and proven to be the one we started."""
        self.tree = asterisk_tree.find()
        self._write_configuration()
        command = ["asterisk", "-f", "-C", str(self.run_dir / "etc" / "asterisk.conf")]
        with (self.run_dir / "asterisk.out").open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self.tree.argv(command, binds=[self.run_dir, REPO, *self.binds]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent,
                process_group=0,  # Ctrl-C at the terminal is for us, who then end it
            )
        try:
            await self._booted()
            await self._is_ours()
        except BaseException:
            self.keep = True
            await self.kill()
            raise

    async def stop(self) -> None:
        """Ends Asterisk, gently first. Does nothing when it is not running."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await self.cli("core stop now")
                await self._process.wait()
            self._process = None
        except (TimeoutError, OSError):
            await self.kill()

    async def kill(self) -> None:
        """Ends Asterisk at once (SIGKILL), as a crash would; `start` starts it again."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
        (self.run_dir / "run" / "asterisk.ctl").unlink(missing_ok=True)

    async def restart(self) -> None:
        """`core restart now`: its calls end, and the same process boots anew."""
        await asyncio.sleep(max(0.0, 2.0 - await self._uptime()))  # a boot is named by its second
        before = await self._uptime()
        await self.cli("core restart now")
        end = time.monotonic() + BOOT_DEADLINE_S
        while True:
            try:
                if await self._uptime() < before:
                    break
            except (OSError, LabError):
                pass
            if time.monotonic() > end:
                raise LabError(f"Asterisk did not restart in {BOOT_DEADLINE_S} s; see {self.run_dir}")
            await asyncio.sleep(POLL_S)
        await self._booted()

    async def _uptime(self) -> int:
        """Seconds since it booted."""
        said = await self.cli("core show uptime seconds")
        found = re.search(r"System uptime: (\d+)", said)
        if found is None:
            raise LabError(f"no uptime: {said!r}")
        return int(found[1])

    async def cli(self, command: str) -> str:
        """What `asterisk -rx COMMAND` prints, asked over the control socket without a process of its own."""
        reader, writer = await asyncio.open_unix_connection(str(self.run_dir / "run" / "asterisk.ctl"))
        try:
            writer.write(b"cli quit after " + command.encode() + b"\0")
            await writer.drain()
            said = (await reader.read()).decode(errors="replace")
        finally:
            writer.close()
        _banner, _, answer = said.partition("\n")
        return re.sub(r"[\x00\x7f-\x9f]", "", answer)

    async def write(self, name: str, text: str) -> None:
        """Replaces one configuration file and makes Asterisk read it (`core reload`)."""
        (self.run_dir / "etc" / name).write_text(text)
        await self.reload()

    async def reload(self, module: str = "") -> str:
        return await self.cli(f"module reload {module}" if module else "core reload")

    async def channels(self) -> list[str]:
        """The names of the channels that are up now."""
        concise = await self.cli("core show channels concise")
        return [row.split("!")[0] for row in concise.splitlines() if "!" in row]

    async def idle(self, deadline_s: float = 10.0) -> None:
        """Waits until no channel is up."""
        end = time.monotonic() + deadline_s
        while left := await self.channels():
            if time.monotonic() > end:
                raise LabError(f"still up after {deadline_s} s: {left}")
            await asyncio.sleep(POLL_S)

    async def _booted(self) -> None:
        end = time.monotonic() + BOOT_DEADLINE_S
        while time.monotonic() < end:
            if self._process is None or self._process.returncode is not None:
                raise LabError(f"Asterisk ended while booting; see {self.run_dir}\n{self._tail()}")
            try:
                async with asyncio.timeout(BOOT_DEADLINE_S):
                    if "fully booted" in (await self.cli("core waitfullybooted")).lower():
                        return
            except OSError:
                pass
            await asyncio.sleep(POLL_S)
        raise LabError(f"Asterisk did not boot in {BOOT_DEADLINE_S} s; see {self.run_dir}\n{self._tail()}")

    async def _is_ours(self) -> None:
        """An Asterisk whose port is taken boots all the same, and another one would answer our phones."""
        answers = await server_name(self.sip_port)
        if answers != self.user_agent:
            raise LabError(f"SIP port {self.sip_port} is answered by {answers!r}, not by {self.user_agent!r}")
        for line in self.log().splitlines():
            if "Address already in use" in line:
                raise LabError(f"a port of this run is taken: {line}")

    def _tail(self) -> str:
        out = (self.run_dir / "asterisk.out").read_text(errors="replace")
        return "\n".join([*out.splitlines()[-10:], *self.log().splitlines()[-10:]])

    def _write_configuration(self) -> None:
        for folder in ("etc", "run", "log", "db", "moh", "sounds", "spool/recording", "spool/monitor"):
            (self.run_dir / folder).mkdir(parents=True, exist_ok=True)
        file_of(Tone(MUSIC_HZ), 8000, self.run_dir / "moh")
        for name, text in {**self._configuration(), **self.files}.items():
            (self.run_dir / "etc" / name).write_text(text + self.more.get(name, ""))
        if self.user:
            uid, gid = self.account()
            for folder in ("run", "log", "db", "spool", "spool/recording", "spool/monitor"):
                os.chown(self.run_dir / folder, uid, gid)

    def account(self) -> tuple[int, int]:
        """The numbers of `user` and of its group, in the tree."""
        for row in self.tree.inside("/etc/passwd").read_text().splitlines():
            name, _, uid, gid, *_ = row.split(":")
            if name == self.user:
                return int(uid), int(gid)
        raise LabError(f"the tree has no user {self.user}")

    def _configuration(self) -> dict[str, str]:
        run = self.run_dir
        rtp_first, rtp_last = self._ports.rtp
        codecs = "alaw,ulaw" if self.rate == 8000 else "g722,alaw,ulaw"
        loopback = "deny=0.0.0.0/0.0.0.0\npermit=127.0.0.1/255.255.255.255"
        return {
            "asterisk.conf": self._asterisk_conf(),
            "extensions.conf": self.dialplan,
            "pjsip.conf": self._pjsip_conf(codecs),
            "rtp.conf": f"[general]\nrtpstart={rtp_first}\nrtpend={rtp_last}\nstrictrtp=no\n",
            "manager.conf": (
                f"[general]\nenabled=yes\nbindaddr=127.0.0.1\nport={self.ami_port}\ntimestampevents=yes\n"
                f"[{self.ami_user}]\nsecret={self.ami_secret}\n{loopback}\nwritetimeout=1000\n"
                "read=system,call,dialplan,user,dtmf,agent\nwrite=system,call\n"
                f"[lab]\nsecret={self.lab_secret}\n{loopback}\nread=all\nwrite=all\n"
            ),
            "http.conf": (
                f"[general]\nservername={self.user_agent}\nenabled=yes\nbindaddr=127.0.0.1\n"
                f"bindport={self._ports.http}\n"
            ),
            "ari.conf": (
                f"[general]\nenabled=yes\npretty=no\n[{self.ari_user}]\ntype=user\nread_only=no\n"
                f"password={self.ari_password}\n"
            ),
            "queues.conf": (
                "[general]\nautofill=yes\nmonitor-type=MixMonitor\n"
                "[sales]\nmusicclass=default\nstrategy=ringall\ntimeout=20\nretry=1\nringinuse=no\n"
                "member => PJSIP/101\nmember => PJSIP/102\n"
            ),
            "features.conf": "[general]\natxfernoanswertimeout=15\n[featuremap]\natxfer=*2\nblindxfer=##\n",
            "res_parking.conf": "[general]\n[default]\nparkext=700\nparkpos=701-720\ncontext=parkedcalls\n",
            "followme.conf": "[general]\n",
            "confbridge.conf": "[general]\n[default_bridge]\ntype=bridge\n[default_user]\ntype=user\n",
            "musiconhold.conf": f"[default]\nmode=files\ndirectory={run}/moh\n",
            "logger.conf": "[general]\ndateformat=%F %T.%3q\n[logfiles]\nfull => notice,warning,error,verbose\n",
            "modules.conf": "[modules]\nautoload=yes\n" + "".join(f"noload={name}.so\n" for name in NOLOAD.split()),
            "stasis.conf": "[threadpool]\ninitial_size=5\n",
            "cdr.conf": "[general]\nenable=yes\n",
            "udptl.conf": "[general]\n",
            "ccss.conf": "[general]\n",
            **{f"{name}.conf": "" for name in EMPTY.split()},
            **{name: text for name in PACKAGED if (text := self._packaged(name))},
        }

    def _packaged(self, name: str) -> str:
        """A configuration file as the package ships it; empty when it ships none."""
        path = self.tree.inside(f"/etc/asterisk/{name}")
        return path.read_text(errors="replace") if path.exists() else ""

    def _asterisk_conf(self) -> str:
        """The tree's own directories for what Asterisk only reads, this run's for what it writes."""
        packaged = self._packaged("asterisk.conf")
        directories = dict(re.findall(r"^(ast\w+dir)\s*=>?\s*(\S+)", packaged, re.MULTILINE))
        run = self.run_dir
        directories |= {
            "astetcdir": f"{run}/etc",
            "astrundir": f"{run}/run",
            "astlogdir": f"{run}/log",
            "astspooldir": f"{run}/spool",
            "astdbdir": f"{run}/db",
        }
        lines = ["[directories]", *(f"{name} => {path}" for name, path in directories.items())]
        lines += ["[options]", "verbose=3", "hideconnect=yes", f"systemname={self.user_agent}"]
        lines += ["nocolor=yes", "transmit_silence=no", "maxfiles=8192"]
        lines += [f"runuser={self.user}", f"rungroup={self.user}"] if self.user else []
        return "\n".join(lines) + "\n"

    def _pjsip_conf(self, codecs: str) -> str:
        # By address before user name: a carrier's caller may show the number of one of our own phones.
        parts = [
            f"[global]\ntype=global\nuser_agent={self.user_agent}\nendpoint_identifier_order=ip,username\n"
            "keep_alive_interval=0\n",
            f"[udp]\ntype=transport\nprotocol=udp\nbind=127.0.0.1:{self.sip_port}\n",
        ]
        for line in self.lines:
            parts.append(
                f"[{line.name}]\ntype=endpoint\ntransport=udp\ncontext={line.context}\ndisallow=all\n"
                f"allow={codecs}\ndirect_media=no\nmedia_address=127.0.0.1\n"
                f"bind_rtp_to_media_address=yes\n"
                f"aors={line.name}\ndtmf_mode=rfc4733\ntimers=no\nallow_subscribe=no\n"
                + ("use_ptime=yes\n" if line.packet_ms != 20 else "")
                + ("t38_udptl=yes\nt38_udptl_ec=redundancy\n" if line.t38 else "")
                + (f"call_group={line.group}\npickup_group={line.group}\n" if line.group else "")
                + (f"auth={line.name}\n" if line.registers else "")
                + (f"callerid={line.name} <{line.caller_id or line.name}>\n" if line.registers else "")
            )
            if line.registers:
                parts.append(
                    f"[{line.name}]\ntype=auth\nauth_type=userpass\nusername={line.name}\n"
                    f"password={line.password}\n"
                    f"[{line.name}]\ntype=aor\nmax_contacts={line.contacts}\nremove_existing=yes\n"
                )
            else:
                parts.append(
                    f"[{line.name}]\ntype=aor\ncontact=sip:{line.host}:{line.port}\n"
                    f"[{line.name}]\ntype=identify\nendpoint={line.name}\nmatch={line.host}\n"
                )
        return "".join(parts)


PACKAGED = ("indications.conf",)
EMPTY = """
    acl cel pjproject pjsip_wizard pjsip_notify stir_shaken aeap websocket_client chan_websocket
    res_http_media_cache cli_aliases
"""
# Modules that need a configuration or a daemon that the lab does not have, or that listen beyond loopback.
NOLOAD = """
    chan_iax2 chan_unistim chan_motif chan_dahdi chan_console chan_alsa chan_oss chan_mobile chan_ooh323
    pbx_dundi pbx_ael pbx_lua app_voicemail_imap app_voicemail_odbc res_xmpp res_calendar res_snmp res_hep
    res_phoneprov res_pjsip_phoneprov_provider res_config_ldap res_config_odbc res_config_pgsql
    res_config_sqlite3 res_odbc res_smdi app_alarmreceiver app_minivm res_stun_monitor cdr_odbc
    cdr_adaptive_odbc cdr_pgsql cdr_radius cdr_tds cdr_beanstalkd cdr_csv cdr_sqlite3_custom cdr_custom
    cdr_manager cel_odbc cel_pgsql cel_radius cel_tds cel_custom cel_sqlite3_custom cel_manager
    cel_beanstalkd res_statsd res_chan_stats res_geolocation res_pjsip_geolocation res_prometheus
    res_calendar_caldav res_calendar_exchange res_calendar_icalendar res_calendar_ews func_odbc
    res_hep_rtcp res_hep_pjsip res_odbc_transaction res_pjsip_notify app_agent_pool app_festival app_amd
    app_voicemail app_adsiprog app_getcpeid res_adsi
"""


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that are free for UDP and TCP on every loopback address at this moment."""
    held: list[socket.socket] = []
    ports: list[int] = []
    try:
        while len(ports) < count:
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.append(tcp)
            tcp.bind(("0.0.0.0", 0))
            port = int(tcp.getsockname()[1])
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.append(udp)
            try:
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
            ports.append(port)
    finally:
        for one in held:
            one.close()
    return ports


def is_free(port: int) -> bool:
    """Whether nobody has this port, UDP or TCP, on any address at this moment."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            try:
                one.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


async def server_name(port: int, deadline_s: float = 5.0) -> str:
    """Who answers SIP on a loopback port: its `Server` header; empty when nobody does."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        here = f"127.0.0.1:{sock.getsockname()[1]}"
        question = _options(here, f"127.0.0.1:{port}")
        try:
            async with asyncio.timeout(deadline_s):
                await loop.sock_connect(sock, ("127.0.0.1", port))
                await loop.sock_sendall(sock, question.encode())
                answer = (await loop.sock_recv(sock, 65535)).decode(errors="replace")
        except (TimeoutError, ConnectionRefusedError):
            return ""
    found = re.search(r"^(?:Server|User-Agent):\s*(.*?)\s*$", answer, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def _options(here: str, there: str) -> str:
    mark = secrets.token_hex(6)
    lines: Iterable[str] = (
        f"OPTIONS sip:whoami@{there} SIP/2.0",
        f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{mark};rport",
        "Max-Forwards: 70",
        f"From: <sip:lab@{here}>;tag={mark}",
        f"To: <sip:whoami@{there}>",
        f"Call-ID: {mark}@lab",
        "CSeq: 1 OPTIONS",
        f"Contact: <sip:lab@{here}>",
        "Content-Length: 0",
        "",
        "",
    )
    return "\r\n".join(lines)


def die_with_parent() -> None:
    """In the child: end when the test process ends, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
