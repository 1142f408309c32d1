"""Every reason why a conversation is not recorded, with its condition (DESIGN.md, "A permit exists only while") and
its plain words in Dutch and English.

The value is the stable code that logs, CLI, API, CDR and manifests show. Reasons cite "own rule" where the law is
open and call nobody a criminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    # condition 3: somebody or something forbids it
    OBJECTED = "objected"
    NEVER_RECORD = "never_record"
    MARKED_PRIVATE = "marked_private"
    # condition 1: who takes part
    NOT_BRIDGED = "not_bridged"
    NO_OWN_PARTY = "no_own_party"
    OWN_NOT_ANSWERED = "own_not_answered"
    NO_EXTERNAL_PARTY = "no_external_party"
    EXTERNAL_NOT_ANSWERED = "external_not_answered"
    UNKNOWN_PARTY = "unknown_party"
    PRIVATE_PARTY = "private_party"
    SPIED_ON = "spied_on"
    # condition 4: the purpose
    NO_PURPOSE = "no_purpose"
    PURPOSE_UNKNOWN = "purpose_unknown"
    PURPOSE_INACTIVE = "purpose_inactive"
    DISCLOSURE_UNAPPROVED = "disclosure_unapproved"
    WRONG_DIRECTION = "wrong_direction"
    # condition 5: hold, pause, a second call on the device
    ON_HOLD = "on_hold"
    HOLD_UNKNOWN = "hold_unknown"
    PAUSED = "paused"
    SECOND_CALL = "second_call"
    # condition 6: our own health
    AUDIT_UNHEALTHY = "audit_unhealthy"
    SPOOL_FULL = "spool_full"
    START_FAILED = "start_failed"
    # condition 7: our sight
    NOT_CONNECTED = "not_connected"
    BEAT_LATE = "beat_late"
    CHANGE_HALF_DONE = "change_half_done"
    PICTURE_WRONG = "picture_wrong"
    # condition 2: told, and asked where that is needed
    NOT_TOLD = "not_told"
    CONSENT_MISSING = "consent_missing"
    # why a disclosure was not heard in full (details beside NOT_TOLD)
    PROMPT_CUT = "prompt_cut"
    PROMPT_FAILED = "prompt_failed"
    PROMPT_UNSENT = "prompt_unsent"
    PROMPT_ON_HOLD = "prompt_on_hold"
    PROMPT_TIMED_OUT = "prompt_timed_out"
    PROMPT_CHANNEL_GONE = "prompt_channel_gone"
    PROMPT_NO_MEDIA = "prompt_no_media"
    GUARD_AWAY = "guard_away"
    # the switch and the mode
    SWITCHED_OFF = "switched_off"
    OBSERVE_MODE = "observe_mode"
    # ends that are no refusal
    CALL_ENDED = "call_ended"
    OWN_LEFT = "own_left"
    EXTERNAL_LEFT = "external_left"
    PERMIT_CHANGED = "permit_changed"
    RECORDER_STOPPED = "recorder_stopped"


@dataclass(frozen=True, slots=True)
class Words:
    """`condition`: 1-7 as in DESIGN.md, 0 for the switch and mode, 8 for an ordinary end."""

    condition: int
    nl: str
    en: str
    mend: str = ""
    """What an operator can do, in English; empty when nothing is wrong."""


_R = Reason
WORDS: dict[Reason, Words] = {
    _R.OBJECTED: Words(3, "de beller maakte bezwaar", "the other party objected"),
    _R.NEVER_RECORD: Words(
        3,
        "dit nummer wordt nooit opgenomen",
        "the number is on the never-record list",
        "If that is wrong, change [never_record] in the configuration.",
    ),
    _R.MARKED_PRIVATE: Words(3, "het gesprek is als privé gemarkeerd", "the call was marked private"),
    _R.NO_OWN_PARTY: Words(
        1,
        "niemand van de eigen organisatie neemt deel (art. 139b/139c Sr)",
        "nobody of the own organisation takes part (art. 139b/139c Sr)",
    ),
    _R.OWN_NOT_ANSWERED: Words(1, "de medewerker heeft nog niet opgenomen", "the agent has not answered yet"),
    _R.NO_EXTERNAL_PARTY: Words(
        1,
        "er is niemand van buiten; interne gesprekken worden niet opgenomen (eigen regel)",
        "nobody external takes part; internal calls are not recorded (own rule)",
    ),
    _R.EXTERNAL_NOT_ANSWERED: Words(
        1, "de andere kant heeft nog niet opgenomen", "the other party has not answered yet"
    ),
    _R.UNKNOWN_PARTY: Words(
        1,
        "het is onbekend wie er meeluistert (eigen regel)",
        "it is unknown who takes part (own rule)",
        "Add a channel pattern for it under [parties]; `pbxguard check` lists endpoints without one.",
    ),
    _R.PRIVATE_PARTY: Words(
        1,
        "een toestel voor privégesprekken neemt deel",
        "a private extension takes part, which is never recorded",
    ),
    _R.SPIED_ON: Words(1, "iemand luistert mee via ChanSpy", "somebody listens in through ChanSpy"),
    _R.NOT_BRIDGED: Words(1, "er is geen gesprek tot stand gekomen", "no conversation came about"),
    _R.NO_PURPOSE: Words(
        4,
        "er is geen doel opgegeven",
        "no purpose was asked for",
        "Call Gosub(pbxguard-disclose,s,1(PURPOSE)) before Dial() or Queue().",
    ),
    _R.PURPOSE_UNKNOWN: Words(
        4, "het doel is niet ingesteld", "the purpose is not configured", "Add it under [purposes]."
    ),
    _R.PURPOSE_INACTIVE: Words(
        4, "het doel is niet actief", "the purpose is not active", "Set active = true under [purposes.NAME]."
    ),
    _R.DISCLOSURE_UNAPPROVED: Words(
        4,
        "de melding is niet goedgekeurd",
        "the disclosure is not approved",
        "Run `pbxguard prompts build` and `pbxguard prompts approve NAME`.",
    ),
    _R.WRONG_DIRECTION: Words(
        4,
        "het doel past niet bij de richting van het gesprek",
        "the purpose does not suit the call's direction",
    ),
    _R.ON_HOLD: Words(5, "er staat iemand in de wacht", "somebody is on hold"),
    _R.HOLD_UNKNOWN: Words(
        5,
        "na een onderbreking is onbekend of iemand in de wacht staat",
        "after an interruption it is unknown whether somebody is on hold",
    ),
    _R.PAUSED: Words(5, "de opname is gepauzeerd", "the recording is paused"),
    _R.SECOND_CALL: Words(
        5, "het toestel heeft een tweede gesprek open", "the phone has a second call open that is not on hold"
    ),
    _R.AUDIT_UNHEALTHY: Words(
        6,
        "het logboek kan niet worden geschreven",
        "the audit log cannot be written",
        "Look at the disk and the database; `pbxguard check` names the place.",
    ),
    _R.SPOOL_FULL: Words(
        6,
        "er is geen ruimte om op te nemen",
        "the spool has no room",
        "Free space on the spool's disk; nothing is deleted to make room.",
    ),
    _R.START_FAILED: Words(
        6,
        "de opname kon niet worden gestart",
        "the recorder could not be started",
        "See the log line recorder.start_failed; `pbxguard check` tests the rights.",
    ),
    _R.NOT_CONNECTED: Words(
        7,
        "er is geen verbinding met de centrale",
        "there is no connection to Asterisk",
        "Look at [ami] in the configuration and at manager.conf.",
    ),
    _R.BEAT_LATE: Words(
        7,
        "de centrale antwoordt te laat",
        "Asterisk answers too late to be sure who takes part",
        "Look at the load of the machine and the metric of the beat's lag.",
    ),
    _R.PICTURE_WRONG: Words(
        7,
        "niet zeker is wie er meeluistert: de centrale heeft het niet gemeld",
        "who takes part is not what Asterisk's events said",
        "A transfer into a conference does it, for a moment. Else events were lost: look at the machine's load and at"
        " writetimeout in manager.conf.",
    ),
    _R.CHANGE_HALF_DONE: Words(7, "een doorverbinding is half af", "a change of the conversation is half done"),
    _R.NOT_TOLD: Words(
        2,
        "de andere kant heeft de melding niet volledig gehoord",
        "the other party has not heard the disclosure in full",
    ),
    _R.CONSENT_MISSING: Words(2, "toestemming is nodig en niet gegeven", "consent is needed and was not given"),
    _R.PROMPT_CUT: Words(2, "de melding is afgebroken", "the disclosure was cut short"),
    _R.PROMPT_FAILED: Words(
        2,
        "de melding kon niet worden afgespeeld",
        "the disclosure could not be played",
        "Run `pbxguard check`: it names missing sounds.",
    ),
    _R.PROMPT_UNSENT: Words(2, "de melding is niet verzonden", "the disclosure's audio was not sent to the phone"),
    _R.PROMPT_ON_HOLD: Words(
        2, "de melding speelde terwijl het gesprek in de wacht stond", "the disclosure played while on hold"
    ),
    _R.PROMPT_TIMED_OUT: Words(2, "de melding kwam niet tot een einde", "the disclosure did not finish in time"),
    _R.PROMPT_CHANNEL_GONE: Words(
        2,
        "de andere kant was weg voor het einde van de melding",
        "the other party was gone before the disclosure's end",
    ),
    _R.PROMPT_NO_MEDIA: Words(2, "er kwam geen geluid van de beller", "no audio came from the other party"),
    _R.GUARD_AWAY: Words(
        2,
        "pbxguard was niet bereikbaar",
        "pbxguard was away or too slow; the call went on",
        "See `pbxguard status` and the service's log.",
    ),
    _R.SWITCHED_OFF: Words(0, "pbxguard staat uit", "pbxguard is switched off", "`pbxguard on`"),
    _R.OBSERVE_MODE: Words(
        0,
        "pbxguard kijkt alleen mee",
        "pbxguard only observes here",
        'Set mode = "guard" for the whole or for this queue, DID or context.',
    ),
    _R.CALL_ENDED: Words(8, "het gesprek is afgelopen", "the call ended"),
    _R.OWN_LEFT: Words(8, "de medewerker is uit het gesprek", "the agent left the conversation"),
    _R.EXTERNAL_LEFT: Words(8, "de andere kant is uit het gesprek", "the other party left the conversation"),
    _R.PERMIT_CHANGED: Words(8, "de grond voor de opname is veranderd", "the permit changed"),
    _R.RECORDER_STOPPED: Words(
        8,
        "een ander stopte de opname; die is opnieuw begonnen",
        "somebody else stopped the recorder, which was started anew",
        "Look for StopMixMonitor in the dialplan and at other AMI accounts; to stop recording, use `pbxguard off`.",
    ),
}

_ORDER = (0, 3, 1, 4, 5, 6, 7, 2, 8)


def ordered(reasons: frozenset[Reason] | set[Reason]) -> tuple[Reason, ...]:
    """Reasons, the one to show first at the front: by condition 3, 1, 4, 5, 6, 7, 2 (DESIGN.md, CDR)."""
    codes = list(Reason)
    return tuple(sorted(reasons, key=lambda r: (_ORDER.index(WORDS[r].condition), codes.index(r))))


def words(reason: Reason, language: str = "en") -> str:
    """Its plain words; Dutch for ``nl``, English for all else."""
    return WORDS[reason].nl if language == "nl" else WORDS[reason].en
