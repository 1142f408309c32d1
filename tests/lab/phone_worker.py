"""Owns: the process behind one phone: pjsua2, driven by JSON lines on standard input, telling on standard output.

Started by tests/lab/phone.py, which owns the words of the protocol. A process for each phone, because the library
as built allows four calls a process, and because it aborts its process when it is asked something wrong. It ends
when its input does. It imports pjsua2 and the standard library only, so any interpreter that has pjsua2 will do.
"""

from __future__ import annotations

import gc
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pjsua2 as pj

POLL_MS = 4
TICK_S = 0.1
RETIRED_S = 1.0
CODECS = {8000: ("PCMA/8000",), 16000: ("G722/16000", "PCMA/8000")}


class Worker:
    """One phone. `settings` are those that `phone.py` passes as the first line."""

    def __init__(self, settings: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        self.settings = settings
        self.tell = tell
        self.policy: dict[str, Any] = settings["on_incoming"]
        self.legs: dict[str, Leg] = {}
        self.incoming = 0
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.retired: list[tuple[float, Any]] = []
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        self.endpoint.libInit(self._config())
        self.endpoint.audDevManager().setNullDev()
        transport = pj.TransportConfig()
        transport.boundAddress = transport.publicAddress = settings["host"]
        transport.port = settings["port"]
        self.transport = self.endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        self.address = self.endpoint.transportGetInfo(self.transport).localName
        self.endpoint.libStart()
        self._choose_codecs()
        self.silence = self.player(settings["silence"])  # keeps every recorder's timeline running
        self.account = Account(self)
        self.account.create(self._account())

    def run(self, commands: Iterator[dict[str, Any]]) -> None:
        """Until the input ends."""
        ticks_at = 0.0
        for command in commands:
            if command:
                self._obey(command)
            now = time.monotonic()
            due, self.later = (
                [work for when, work in self.later if when <= now],
                [item for item in self.later if item[0] > now],
            )
            for work in due:
                with self.guarded():
                    work()
            if now >= ticks_at:
                ticks_at = now + TICK_S
                for leg in self.legs.values():
                    leg.tick(now)
                self.retired = [(when, player) for when, player in self.retired if when > now]
            self.endpoint.libHandleEvents(POLL_MS)

    def player(self, path: str) -> Any:
        player = pj.AudioMediaPlayer()
        player.createPlayer(path)
        return player

    def retire(self, player: Any) -> None:
        """Destroys a player that plays to nobody any more, later: at each end of its file it is told so from another
        thread, and the library crashes when the player is gone by then (pjproject #5045, in every release before it).
        """
        self.retired.append((time.monotonic() + RETIRED_S, player))

    def uri(self, user: str, name: str = "") -> str:
        shown = f'"{name}" ' if name else ""
        return f"{shown}<sip:{user}@{self.address}>"

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """No exception may pass through the library; it is told to whoever waits."""
        try:
            yield
        except pj.Error as error:
            self.tell({"failure": error.info(True)})
        except Exception:
            self.tell({"failure": traceback.format_exc()})

    def _obey(self, command: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": command["id"]}
        try:
            answer["result"] = getattr(self, "do_" + command["do"])(**command["with"])
        except pj.Error as error:
            answer["error"] = error.info(True)
        except Exception as error:
            answer["error"] = repr(error)
        self.tell(answer)

    # What can be asked, by name.

    def do_register(self, on: bool) -> None:
        self.account.setRegistration(on)

    def do_policy(self, policy: dict[str, Any]) -> None:
        self.policy = policy

    def do_call(self, key: str, target: str, sound: str, caller: list[str] | None, headers: dict[str, str]) -> None:
        leg = Leg(self, key, pj.PJSUA_INVALID_ID, sound)
        parameters = pj.CallOpParam(True)
        if caller:
            parameters.txOption.localUri = self.uri(*caller)
        add_headers(parameters, headers)
        leg.makeCall(target, parameters)
        self.legs[key] = leg

    def do_respond(self, key: str, code: int) -> None:
        self._live(key).respond(code)

    def do_hangup(self, key: str) -> None:
        self._live(key).hangup(pj.CallOpParam())

    def do_hold(self, key: str) -> None:
        self._live(key).setHold(pj.CallOpParam())

    def do_unhold(self, key: str) -> None:
        parameters = pj.CallOpParam(True)
        parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
        self._live(key).reinvite(parameters)

    def do_dtmf(self, key: str, digits: str) -> None:
        self._live(key).dialDtmf(digits)

    def do_refer(self, key: str, target: str) -> None:
        self._live(key).xfer(target, pj.CallOpParam())

    def do_refer_replaces(self, key: str, other: str) -> None:
        self._live(key).xferReplaces(self._live(other), pj.CallOpParam())

    def do_join(self, key: str, other: str) -> None:
        one, two = self._live(key), self._live(other)
        one.joined.add(two)
        two.joined.add(one)
        one.connect()

    def do_refresh(self, key: str, codec: str, new_port: bool) -> None:
        if codec:
            for known in self.endpoint.codecEnum2():
                self.endpoint.codecSetPriority(known.codecId, 200 if known.codecId.startswith(codec) else 0)
        parameters = pj.CallOpParam(True)
        if new_port:
            parameters.opt.flag = pj.PJSUA_CALL_REINIT_MEDIA
        self._live(key).reinvite(parameters)

    def do_say(self, key: str, sound: str) -> None:
        self._live(key).say(sound)

    def do_mute(self, key: str, on: bool) -> None:
        self._live(key).mute(on)

    # Set-up.

    def _live(self, key: str) -> Leg:
        """The leg, while there is one: the library aborts when it is asked about a call that is over."""
        leg = self.legs.get(key)
        if leg is None or leg.over or leg.getId() < 0:
            raise ValueError(f"call {key} is over")
        return leg

    def _config(self) -> Any:
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.userAgent = f"lab-phone {self.settings['name']}"
        config.logConfig.level = 4
        config.logConfig.consoleLevel = 0
        config.logConfig.filename = self.settings["log"]
        media = config.medConfig
        media.clockRate = media.sndClockRate = self.settings["rate"]
        media.channelCount = 1
        media.noVad = not self.settings["dtx"]
        media.ecTailLen = 0
        media.quality = 4
        # A fixed jitter buffer that drops and invents nothing: what is heard is what was sent, 60 ms later.
        media.jbInit = media.jbMinPre = media.jbMaxPre = 60
        media.jbMax = 600
        set_discard_nothing(config)
        return config

    def _choose_codecs(self) -> None:
        for codec in self.endpoint.codecEnum2():
            wanted = (self.settings["codec"],) if self.settings["codec"] else CODECS[self.settings["rate"]]
            rank = next((n for n, name in enumerate(wanted) if codec.codecId.startswith(name)), None)
            self.endpoint.codecSetPriority(codec.codecId, 0 if rank is None else 200 - rank)
            if rank is not None:
                parameters = self.endpoint.codecGetParam(codec.codecId)
                parameters.setting.plc = False
                parameters.setting.vad = self.settings["dtx"]
                parameters.setting.frmPerPkt = self.settings["packet_ms"] // parameters.info.frameLen
                self.endpoint.codecSetParam(codec.codecId, parameters)

    def _account(self) -> Any:
        config = pj.AccountConfig()
        config.idUri = self.uri(self.settings["user"])
        config.sipConfig.transportId = self.transport
        media = config.mediaConfig.transportConfig
        media.boundAddress = media.publicAddress = self.settings["host"]
        media.port, media.portRange = self.settings["rtp"]
        config.natConfig.contactRewriteUse = 0
        config.natConfig.viaRewriteUse = 0
        config.natConfig.sdpNatRewriteUse = 0
        config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_INACTIVE
        if self.settings["password"]:
            config.regConfig.registrarUri = f"sip:{self.settings['server']}"
            config.regConfig.registerOnAdd = False
            secret = pj.AuthCredInfo("digest", "*", self.settings["user"], 0, self.settings["password"])
            config.sipConfig.authCreds.append(secret)
        return config


class Account(pj.Account):  # type: ignore[misc]
    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker

    def onRegState(self, prm: Any) -> None:
        with self.worker.guarded():
            info = self.getInfo()
            self.worker.tell({"registered": bool(info.regIsActive) and info.regStatus == 200, "status": prm.code})

    def onIncomingCall(self, prm: Any) -> None:
        worker = self.worker
        with worker.guarded():
            worker.incoming += 1
            leg = Leg(worker, f"in-{worker.incoming}", prm.callId, worker.settings["sound"])
            worker.legs[leg.key] = leg
            leg.changed()
            worker.tell({"incoming": leg.key, "invite": prm.rdata.wholeMsg})
            policy = worker.policy
            if policy["do"] == "respond":
                leg.respond(policy["code"], policy.get("headers"))
            else:
                leg.respond(180)
            if policy["do"] == "answer":
                worker.later.append((time.monotonic() + policy["after_s"], leg.answer_now))


class Leg(pj.Call):  # type: ignore[misc]
    """One call. Every change is told whole, so that no message matters by itself."""

    def __init__(self, worker: Worker, key: str, leg_id: int, sound: str) -> None:
        super().__init__(worker.account, leg_id)
        self.worker, self.key, self.sound = worker, key, sound
        self.over = False
        self.active = False
        self.muted = False
        self.joined: set[Leg] = set()
        self.player: Any = None
        self.recorders: list[Any] = []
        self.played, self.played_before = 0, 0
        self.ticks: list[str] = []
        self.facts: dict[str, Any] = {"digits": ""}

    def onCallSdpCreated(self, prm: Any) -> None:
        """PJSIP names no packet length, so no other party would keep to it."""
        if (length := self.worker.settings["packet_ms"]) != 20:
            prm.sdp.wholeSdp = f"{prm.sdp.wholeSdp.rstrip()}\r\na=ptime:{length}\r\n"

    def changed(self, **facts: Any) -> None:
        self.facts.update(facts)
        self.worker.tell({"call": self.key, "is": self.facts})

    def tick(self, now: float) -> None:
        """Notes how far the sound clock is: a phone that gets no time for long loses some, and its files with it."""
        if self.player is not None and self.recorders:
            position = self.player.getPos()
            if position < self.played:  # begun again
                self.played_before += self.player.getInfo().sizeSamples
            self.played = position
            self.ticks.append(f"{now:.4f} {self.played_before + position}\n")

    def respond(self, code: int, headers: dict[str, str] | None = None) -> None:
        parameters = pj.CallOpParam(code < 300)
        parameters.statusCode = code
        add_headers(parameters, headers or {})
        self.answer(parameters)

    def answer_now(self) -> None:
        if not self.over:
            self.respond(200)

    def say(self, path: str) -> None:
        """From now on this sound, from its beginning."""
        self.sound = path
        if self.recorders:
            self.played_before, self.played = self.played_before + self.played, 0
            said = self.recorders[1]
            sound = self._sound()
            if sound is not None:
                self.player.stopTransmit(sound)
            self.player.stopTransmit(said)
            self.worker.retire(self.player)
            self.player = self.worker.player(path)
            self.player.startTransmit(said)
            self.connect()

    def mute(self, on: bool) -> None:
        """Packets go on, with silence in them."""
        self.muted = on
        sound = self._sound()
        if sound is not None and self.recorders:
            (self.player.stopTransmit if on else self.player.startTransmit)(sound)

    def onCallState(self, prm: Any) -> None:
        with self.worker.guarded():
            now = time.monotonic()
            info = self.getInfo()
            facts: dict[str, Any] = {"reason": info.lastReason}
            if info.lastStatusCode:
                facts["status"] = info.lastStatusCode
            if info.state == pj.PJSIP_INV_STATE_EARLY and "rang_at" not in self.facts:
                facts["rang_at"] = now
            elif info.state == pj.PJSIP_INV_STATE_CONFIRMED and "answered_at" not in self.facts:
                facts["answered_at"] = now
            elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
                self.over, self.active = True, False
                self._finish()
                facts |= {"ended_at": now, "active": False}
            self.changed(**facts)

    def onCallMediaState(self, prm: Any) -> None:
        with self.worker.guarded():
            info = self.getInfo()  # its `media` lives as long as it does
            for media in info.media:
                if media.type == pj.PJMEDIA_TYPE_AUDIO:
                    self._media(media.status)

    def onDtmfDigit(self, prm: Any) -> None:
        with self.worker.guarded():
            self.changed(digits=self.facts["digits"] + prm.digit)

    def onCallTransferStatus(self, prm: Any) -> None:
        with self.worker.guarded():
            self.changed(transfer_status=prm.statusCode)
            if prm.finalNotify and 200 <= prm.statusCode < 300 and not self.over and self.isActive():
                self.hangup(pj.CallOpParam())  # as phones do when a transfer has worked

    def connect(self) -> None:
        """Wires the sound as the call's state wants it; harmless when it is wired already."""
        sound = self._sound()
        if sound is None or not self.recorders:
            return
        sound.startTransmit(self.recorders[0])
        if self.active and not self.muted:
            self.player.startTransmit(sound)
        for other in self.joined:
            far = other._sound()
            if far is not None and self.active and other.active:
                sound.startTransmit(far)
                far.startTransmit(sound)

    def _media(self, status: int) -> None:
        self.active = status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)
        facts: dict[str, Any] = {
            "active": self.active,
            "on_hold": status == pj.PJSUA_CALL_MEDIA_LOCAL_HOLD,
            "held": status == pj.PJSUA_CALL_MEDIA_REMOTE_HOLD,
        }
        if self.active and not self.recorders:
            facts |= self._record()
        self.connect()
        self.changed(**facts)

    def _record(self) -> dict[str, Any]:
        base = os.path.join(self.worker.settings["folder"], f"{self.worker.settings['name']}-{self.key}")
        paths = {"heard": f"{base}-heard.wav", "said": f"{base}-said.wav", "clock": f"{base}-clock.txt"}
        for path in (paths["heard"], paths["said"]):
            recorder = pj.AudioMediaRecorder()
            recorder.createRecorder(path)
            self.recorders.append(recorder)
        self.player = self.worker.player(self.sound)
        began = time.monotonic()
        for recorder in self.recorders:
            self.worker.silence.startTransmit(recorder)
        self.player.startTransmit(self.recorders[1])
        return {"paths": paths, "began": began}

    def _sound(self) -> Any:
        if self.over or not self.isActive():
            return None
        try:
            return self.getAudioMedia(-1)
        except pj.Error:
            return None  # no audio port in this state

    def _finish(self) -> None:
        """Files are written to their end, and their headers, only when the recorders are destroyed."""
        for other in self.joined:
            other.joined.discard(self)
        self.joined.clear()
        if self.ticks:
            with open(self.facts["paths"]["clock"], "w") as clock:
                clock.writelines(self.ticks)
        if self.player is not None:
            self.player.stopTransmit(self.recorders[1])
            self.worker.retire(self.player)
            self.player = None
        while self.recorders:
            recorder = self.recorders.pop()
            self.worker.silence.stopTransmit(recorder)
            recorder.this.own(True)
            del recorder
        gc.collect()


def add_headers(parameters: Any, headers: dict[str, str]) -> None:
    for name, value in headers.items():
        header = pj.SipHeader()
        header.hName, header.hValue = name, value
        parameters.txOption.headers.append(header)


def set_discard_nothing(config: Any) -> None:
    """The jitter buffer may not shorten itself by dropping sound. The binding has no name for this enum's values."""
    text = pj.JsonDocument()
    text.writeObject(config)
    fields = json.loads(text.saveString())
    fields["EpConfig"]["MediaConfig"]["jbDiscardAlgo"] = 0
    changed = pj.JsonDocument()
    changed.loadString(json.dumps(fields))
    changed.readObject(config)


def commands() -> Iterator[dict[str, Any]]:
    """Each command as it comes, and an empty one whenever there is none."""
    pending = b""
    wait = 10.0  # for the settings; after them the library sets the pace
    while True:
        if not select.select([0], [], [], wait)[0]:
            yield {}
            continue
        block = os.read(0, 65536)
        if not block:
            return
        *lines, pending = (pending + block).split(b"\n")
        for line in lines:
            wait = 0.0
            yield json.loads(line)


def main() -> None:
    # The library prints on standard output until it has its configuration: keep that for ourselves.
    out = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=out, flush=True)

    coming = commands()
    settings = next(command for command in coming if command)
    worker = Worker(settings, tell)
    tell({"ready": worker.address})
    worker.run(coming)
    out.flush()
    os._exit(0)  # calls are over and files closed; the library's own farewell would take seconds


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)  # who started us is gone
    except pj.Error as error:
        sys.exit(str(error.info(True)))
