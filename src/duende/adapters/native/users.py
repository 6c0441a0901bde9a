"""From the names in the configuration to the numbers that the kernel knows."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from duende.errors import ConfigError

__all__ = ["Account", "look_up"]


@dataclass(frozen=True, slots=True)
class Account:
    """Whom an instance runs as. None leaves things as the manager has them."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()  # USER, LOGNAME, HOME, SHELL as login(1) sets them


def look_up(user: str | None, group: str | None) -> Account:
    """Find `user` (name or number) and `group`. ConfigError names the one that does not exist, or that we may not
    become.
    """
    if user is None and group is None:
        return Account()
    entry = _user(user) if user is not None else None
    gid = _group(group) if group is not None else (entry.pw_gid if entry else None)
    uid = entry.pw_uid if entry else None
    if os.geteuid() != 0:
        return _unprivileged(user, group, uid, gid)
    environment: tuple[tuple[str, str], ...] = ()
    groups: tuple[int, ...] = (gid,) if gid is not None else ()
    if entry is not None:
        environment = (
            ("USER", entry.pw_name), ("LOGNAME", entry.pw_name), ("HOME", entry.pw_dir),
            ("SHELL", entry.pw_shell or "/bin/sh"),
        )  # fmt: skip
        assert gid is not None
        groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Account(uid, gid, groups, environment)


def _unprivileged(user: str | None, group: str | None, uid: int | None, gid: int | None) -> Account:
    """Without root the only user one can become is oneself."""
    if uid is not None and uid != os.geteuid():
        raise ConfigError(
            f"cannot run as user {user!r}: the manager runs as uid {os.geteuid()}, and only root may change users"
        )
    if gid is not None and gid != os.getegid() and gid not in os.getgroups():
        raise ConfigError(f"cannot run with group {group!r}: the manager is not a member of it, and not root")
    return Account(gid=gid if gid != os.getegid() else None)


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():  # a number without an entry is allowed, as in systemd and in containers
            return pwd.struct_passwd((name, "x", int(name), int(name), "", "/", "/bin/sh"))
        raise ConfigError(f"no user {name!r} on this machine (getent passwd {name})") from None


def _group(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"no group {name!r} on this machine (getent group {name})") from None
