"""Every error of pbxguard has one base, a stable code, and a word to the operator.

Adapters translate foreign exceptions at their edge into these. No message holds a number or a name of a person.
"""

from __future__ import annotations


class PbxguardError(Exception):
    """Base of all errors of pbxguard."""

    code = "error"

    def diagnostics(self) -> str:
        """What the operator can do about it, in a sentence or two; empty when there is nothing to say."""
        return ""


class ImpossibleCommand(PbxguardError):
    """Our own bug: somebody tried to build what the rules forbid, e.g. a permit outside `permit.decide`."""

    code = "impossible_command"


class ConnectionFailed(PbxguardError):
    """A component (AMI, ARI, the database, the service's socket) cannot be reached or does not answer in time."""

    code = "connection_failed"

    def __init__(self, component: str, detail: str, mend: str = "") -> None:
        super().__init__(f"{component}: {detail}")
        self.component = component
        self.mend = mend

    def diagnostics(self) -> str:
        return self.mend


class AnotherGuard(PbxguardError):
    """Another pbxguard runs on the same Asterisk: there is one for each."""

    code = "another_guard"

    def __init__(self, detail: str, mend: str = "") -> None:
        super().__init__(detail)
        self.mend = mend

    def diagnostics(self) -> str:
        return self.mend


class PeerMisbehaved(PbxguardError):
    """The other side sent what its protocol does not allow."""

    code = "peer_misbehaved"


class ActionRefused(PbxguardError):
    """Asterisk answered Error (AMI) or 4xx/5xx (ARI)."""

    code = "action_refused"


class UnsafeValue(PbxguardError):
    """A value may not be sent to Asterisk: it holds ``, CR LF $ { } ^`` or the like."""

    code = "unsafe_value"


class AuditFailed(PbxguardError):
    """The audit log could not be written; what it was to open stays closed."""

    code = "audit_failed"


class StorageFailed(PbxguardError):
    """Spool, archive or index could not be written or read."""

    code = "storage_failed"


class SegmentsOpen(PbxguardError):
    """A recording has segments that are not closed yet: it is sealed with them, or not at all."""

    code = "segment_open"


class NotFound(PbxguardError):
    """No recording, call or prompt of that name."""

    code = "not_found"


class SettingsError(PbxguardError):
    """The configuration is broken; `mistakes` holds (key, reason, mend) of every mistake at once."""

    code = "settings"

    def __init__(self, mistakes: list[tuple[str, str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {reason}" for key, reason, _ in mistakes))
        self.mistakes = mistakes

    def diagnostics(self) -> str:
        return "\n".join(f"{key}: {reason} ({mend})" for key, reason, mend in self.mistakes)


class PromptRefused(PbxguardError):
    """A prompt cannot be made or approved: its sound is none, its words changed, nobody is named."""

    code = "prompt_refused"

    def __init__(self, detail: str, mend: str = "") -> None:
        super().__init__(detail)
        self.mend = mend

    def diagnostics(self) -> str:
        return self.mend


class Protected(PbxguardError):
    """It may not be done to this recording, or call, now: it is locked, destroyed, or not the one; or not paused."""

    code = "protected"

    def __init__(self, detail: str, mend: str = "") -> None:
        super().__init__(detail)
        self.mend = mend

    def diagnostics(self) -> str:
        return self.mend


class Ambiguous(PbxguardError):
    """A reference fits more than one recording; `candidates` are their ids."""

    code = "ambiguous"

    def __init__(self, detail: str, candidates: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.candidates = candidates

    def diagnostics(self) -> str:
        return "Name one of: " + ", ".join(self.candidates)


class WrongUse(PbxguardError):
    """What was asked makes no sense: a reason is missing, a date is none."""

    code = "wrong_use"
