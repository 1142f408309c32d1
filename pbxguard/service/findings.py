"""What `check` finds: one thing, its place, its mend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

MOST_NAMED = 8
"""Names in one finding; the rest is counted."""


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"
    """Something will not work, or must not be done so."""
    WARNING = "warning"
    NOTE = "note"
    """Nothing is wrong; somebody should know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: where, what, and what to do. `code` is stable."""

    code: str
    severity: Severity
    place: str
    message: str
    mend: str
    unreachable: bool = False
    """A component did not answer: what depends on it was not looked at."""

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "place": self.place,
            "message": self.message,
            "mend": self.mend,
        }


def about(code: str, severity: Severity, place: str, message: str, names: Sequence[str], mend: str) -> list[Finding]:
    """One finding about all of `names`, none when there are none."""
    if not names:
        return []
    shown = ", ".join("".join(c for c in name if c.isprintable())[:80] for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [Finding(code, severity, place, f"{message}: {shown}{more}", mend)]


def exit_code(findings: Iterable[Finding]) -> int:
    """0 fine (notes only), 1 found a problem, 3 a component cannot be reached."""
    found = list(findings)
    if any(finding.unreachable for finding in found):
        return 3
    return 1 if any(finding.severity is not Severity.NOTE for finding in found) else 0


def grouped(findings: Iterable[Finding]) -> Mapping[Severity, list[Finding]]:
    """By severity, the worst first."""
    found: dict[Severity, list[Finding]] = {severity: [] for severity in Severity}
    for finding in findings:
        found[finding.severity].append(finding)
    return found
