"""Whether an account may use a folder, told from modes and owners: we cannot become Asterisk's user to try."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

_BITS = {"r": 4, "w": 2, "x": 1}
_WORDS = {"r": "read", "w": "write", "x": "enter"}


@dataclass(frozen=True, slots=True)
class Account:
    """A user and all its groups, by number."""

    uid: int
    gids: frozenset[int]

    @classmethod
    def ourselves(cls) -> Account:
        """This process."""
        return cls(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))

    @classmethod
    def of_asterisk(cls, user: str, group: str) -> Account | None:
        """As whom Asterisk runs: the account it was told to use, else that of the process called ``asterisk``.

        None when neither can be found.
        """
        if not user:
            return _of_process("asterisk")
        try:
            entry = pwd.getpwnam(user)
            gids = {entry.pw_gid, *os.getgrouplist(user, entry.pw_gid)}
            if group:
                gids.add(grp.getgrnam(group).gr_gid)
        except KeyError:
            return None
        return cls(entry.pw_uid, frozenset(gids))


def lacks(folder: Path, account: Account, needs: str) -> str:
    """What `account` lacks to use `folder` (`needs`: some of ``rwx``), in words; empty when nothing.

    Looks at every folder above too. ACLs and security modules are not looked at.
    """
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return "it is no folder"
    except FileNotFoundError:
        return "it does not exist"
    except OSError as error:
        return f"it cannot be seen: {error.strerror}"
    for above in reversed(folder.resolve().parents):
        if not _may(above, account, "x"):
            return f"may not enter {above}"
    for need in needs:
        if not _may(folder, account, need):
            return f"may not {_WORDS[need]} {folder}"
    return ""


def _may(path: Path, account: Account, need: str) -> bool:
    if account.uid == 0:
        return True
    status = path.stat()
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid in account.gids else 0
    return bool(status.st_mode >> shift & _BITS[need])


def _of_process(name: str) -> Account | None:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() != name:
                continue
            fields = dict(
                line.split(":", 1) for line in (entry / "status").read_text().splitlines() if line.count(":") >= 1
            )
            uid = int(fields["Uid"].split()[1])
            gids = {int(fields["Gid"].split()[1]), *(int(gid) for gid in fields["Groups"].split())}
        except (OSError, KeyError, ValueError, IndexError):
            continue
        return Account(uid, frozenset(gids))
    return None
