"""What each setting of a service unit becomes, and why the others become nothing. See systemd.py."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from duende.config.importers.draft import Draft, Findings, variable
from duende.config.importers.unitfile import Setting, Unit, boolean, size_bytes, span_s, split_words
from duende.config.units import format_duration, format_size
from duende.model.signals import Signal

__all__ = ["CARRIED", "ELSEWHERE", "why_lost"]

_Carry = Callable[[Draft, Unit, Setting, Findings], None]

# Read by systemd.py and systemd_commands.py, or of no weight here.
ELSEWHERE = frozenset(
    [f"[Unit] {key}" for key in (
        "Description", "Documentation", "After", "Before", "Requires", "Wants", "OnFailure", "StartLimitIntervalSec",
        "StartLimitBurst", "DefaultDependencies",
    )]
    + [f"[Install] {key}" for key in ("WantedBy", "RequiredBy", "DefaultInstance")]
    + [f"[Service] {key}" for key in (
        "Type", "ExecStart", "ExecReload", "ExecStop", "Restart", "RestartSec", "RestartSteps", "RestartMaxDelaySec",
        "StartLimitInterval", "StartLimitBurst", "TimeoutSec", "TimeoutStopSec", "TimeoutStartSec", "SyslogIdentifier",
        "NotifyAccess",
    )]
)  # fmt: skip
# sysexits.h, as systemd.exec(5) "Process Exit Codes" names them; without EX_
_EXIT_NAMES = {
    "SUCCESS": 0, "FAILURE": 1, "USAGE": 64, "DATAERR": 65, "NOINPUT": 66, "NOUSER": 67, "NOHOST": 68,
    "UNAVAILABLE": 69, "SOFTWARE": 70, "OSERR": 71, "OSFILE": 72, "CANTCREAT": 73, "IOERR": 74, "TEMPFAIL": 75,
    "PROTOCOL": 76, "NOPERM": 77, "CONFIG": 78,
}  # fmt: skip
_HOOK = "put it in front of the command: sh -c 'FIRST && exec PROGRAM', or make it a daemon that others wait for"
_FOLDER = "make the folder once, or in the command: sh -c 'mkdir -p … && exec …'"
_SANDBOX = (
    "duende builds no sandbox of mounts, calls and capabilities",
    "keep this one under systemd, or use bwrap(1)",
)
_LOST: Mapping[str, tuple[str, str]] = {
    "ExecStartPre": ("duende runs no command before the program", _HOOK),
    "ExecStartPost": ("duende runs no command after the start", "make it a daemon with `after`"),
    "ExecStopPost": ("duende runs no command after the end", "let the program clean up"),
    "ExecCondition": ("duende runs no command before the program", _HOOK),
    "PIDFile": ("duende knows the process it started", "set pid_file if others read it"),
    "BusName": ("duende does not look at D-Bus", "set `ready`"),
    "OOMScoreAdjust": ("duende does not set it", "put choom(1) in front of the command"),
    "OOMPolicy": ("the kernel's killer ends one process", ""),
    "Slice": ("duende makes its own control groups", ""),
    "Delegate": ("duende makes its own control groups", ""),
    "DynamicUser": ("duende makes no users", "make one, and set `user`"),
    "SupplementaryGroups": ("a daemon has the groups of its user", "add the user to the group"),
    "RuntimeDirectory": ("duende makes no folders", _FOLDER),
    "StateDirectory": ("duende makes no folders", _FOLDER),
    "CacheDirectory": ("duende makes no folders", _FOLDER),
    "LogsDirectory": ("duende makes no folders", _FOLDER),
    "ConfigurationDirectory": ("duende makes no folders", _FOLDER),
    "RuntimeDirectoryMode": ("duende makes no folders", _FOLDER),
    "UnsetEnvironment": ("duende takes no variable away", "set clean_env = true, and pass on what is needed by env"),
    "SendSIGHUP": ("duende sends one signal", ""),
    "FinalKillSignal": ("duende ends with SIGKILL", ""),
    "RestartKillSignal": ("duende stops a restart as any other", "set stop_signal"),
    "RestartForceExitStatus": ("duende restarts by policy", "take these codes out of success_exit_codes"),
    "TimeoutAbortSec": ("duende has no watchdog", ""),
    "RuntimeMaxSec": ("duende does not end what runs too long", "put timeout(1) in front of the command"),
    "BindsTo": ("duende stops no daemon because another ended", "set `after`"),
    "PartOf": ("duende restarts no daemon because another was", "name both: duende restart A B"),
    "Conflicts": ("duende runs all that is configured", "set autostart = false"),
    "Sockets": ("duende opens no sockets for a program", "let it listen itself"),
    "Alias": ("a daemon has one name", ""),
    "Also": ("is about another unit", "import that one as well"),
    "MemoryHigh": ("duende has one limit of memory", "set resources.memory_bytes"),
    "IOWeight": ("duende limits input and output by bytes per second", "set resources.io_read_bps"),
    "CPUAffinity": ("duende binds to no processors", "put taskset(1) in front of the command"),
    "CPUSchedulingPolicy": ("duende does not set it", "put chrt(1) in front of the command"),
    "IOSchedulingClass": ("duende does not set it", "put ionice(1) in front of the command"),
    "LoadCredential": ("duende brings no credentials", "name the file itself, or use env_file"),
}
_SANDBOX_PREFIXES = (
    "Protect", "Private", "Restrict", "SystemCall", "Capability", "Ambient", "ReadOnly", "ReadWrite", "Inaccessible",
    "Bind", "NoNewPrivileges", "RootDirectory", "RootImage", "MemoryDenyWriteExecute", "LockPersonality", "Temporary",
    "RemoveIPC", "ProcSubset", "KeyringMode", "AppArmor", "SELinux", "Smack", "ExecPaths", "NoExecPaths", "DeviceAllow",
    "DevicePolicy", "IPAddress", "SecureBits", "MountFlags", "PAMName",
)  # fmt: skip


def why_lost(section: str, key: str, value: str) -> tuple[str, str] | None:
    """Reason and advice; None when nothing is lost."""
    if key in _LOST:
        return _LOST[key]
    if section == "Unit" and key.startswith(("Condition", "Assert")):
        return (
            "duende starts a daemon without asking for more",
            "test it in the command: sh -c '[ … ] || exit 0; exec …'",
        )
    if key.startswith("Limit"):
        return "duende does not set this limit", "set it in the command: sh -c 'ulimit …; exec …'"
    if key.startswith(_SANDBOX_PREFIXES):
        return _SANDBOX if value.lower() not in ("no", "false", "0", "off") else None
    if section == "Install":
        return "duende starts with the stack what has autostart", ""
    if section not in ("Unit", "Service"):
        return f"[{section}] is not about a service", ""
    return "is not known to import", ""


def _environment(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    for word in split_words(one.value):
        name, equals, value = unit.expand(word).partition("=")
        if not equals:
            raise ValueError(f"{word[:40]!r} is not NAME=VALUE")
        draft.put(one.at, value, "env", name)


def _pass_environment(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    for name in one.value.split():
        draft.put(one.at, variable(f"{name}:-"), "env", name)


def _environment_file(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    optional = one.value.startswith("-")
    path = unit.expand(one.value.removeprefix("-").strip("\"'"))
    if re.search(r"[*?\[]", path):
        raise ValueError("duende reads no patterns of files")
    draft.put(one.at, [*(draft.get("env_file") or []), ("-" if optional else "") + path], "env_file")


def _text(key: str) -> _Carry:
    return lambda draft, unit, one, findings: draft.put(one.at, unit.expand(one.value), key)


def _working_directory(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    text = one.value
    if text.startswith("-"):
        findings.drop(one.at, "the folder has to exist", "make it")
        text = text[1:]
    if text == "~" and not unit.is_user:
        findings.drop(one.at, "the home of the unit's user is not known here", "write the path")
        return
    draft.put(one.at, unit.expand(text), "working_dir")


def _umask(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    draft.put(one.at, one.value, "umask")


def _nice(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    draft.put(one.at, int(one.value), "nice")


def _kill_mode(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    if one.value == "none":
        raise ValueError("duende always ends a daemon that it stops")
    draft.put(one.at, one.value, "kill_mode")


def _signal(key: str) -> _Carry:
    def carry(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
        draft.put(one.at, Signal.parse(one.value).full_name, key)

    return carry


def _send_sigkill(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    if not boolean(one.value):
        raise ValueError("duende always kills in the end")


def _remain(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    if boolean(one.value):
        findings.note(one.at, "is shown as ended when it has ended; those after it wait for `completed`")


def _exit_codes(key: str) -> _Carry:
    def carry(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
        codes = set(draft.get("restart", key) or ({0} if key == "success_exit_codes" else set()))
        for word in one.value.split():
            if word.isdigit():
                codes.add(int(word))
            elif word in _EXIT_NAMES:
                codes.add(_EXIT_NAMES[word])
            else:
                findings.drop(one.at, f"{word}: duende's lists hold exit codes, not signals")
        if codes:
            draft.put(one.at, sorted(codes), "restart", key)

    return carry


def _size(key: str) -> _Carry:
    def carry(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
        if one.value != "infinity":
            draft.put(one.at, format_size(size_bytes(one.value)), "resources", key)

    return carry


def _limit(key: str) -> _Carry:
    """SOFT:HARD; duende sets one number, the hard one, as both."""

    def carry(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
        soft, _, hard = one.value.rpartition(":")
        if hard == "infinity":
            raise ValueError("duende raises no limit to infinity; raise it where duende is started")
        if soft and soft != hard:
            findings.note(one.at, f"duende sets both limits to {hard}")
        draft.put(one.at, size_bytes(hard), "resources", key)

    return carry


def _tasks(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    if one.value != "infinity":
        if not one.value.isdigit():
            raise ValueError(f"{one.value[:20]!r} is no number; duende takes no share of the machine's")
        draft.put(one.at, int(one.value), "resources", "pids_max")


def _cpu_quota(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", one.value)
    if match is None:
        raise ValueError(f"{one.value[:20]!r} is not a percentage")
    draft.put(one.at, float(match[1]), "resources", "cpu_quota_percent")


def _cpu_weight(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    weight = int(one.value)
    # The inverse of what system/cgroup_limits.py does, so that cpu.weight is this number again.
    draft.put(one.at, 2 + -(-(weight - 1) * 262142 // 9999), "resources", "cpu_shares")


def _cpu_shares(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    draft.put(one.at, int(one.value), "resources", "cpu_shares")


def _output(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    word, _, path = one.value.partition(":")
    if word in ("journal", "inherit", "journal+console", "syslog", "kmsg"):
        return  # duende keeps it, and shows it by `duende logs`
    if word not in ("append", "file", "truncate"):
        raise ValueError(f"{one.value[:40]!r}: duende keeps what a program writes in files of its own")
    folder = os.path.dirname(unit.expand(path))
    before = draft.get("log", "directory")
    if before not in (None, folder):
        raise ValueError(f"stdout and stderr go to one folder, {before}")
    draft.put(one.at, folder, "log", "directory")
    findings.note(one.at, "the folder is kept, the files in it are named after the daemon")


def _input(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    if one.value != "null":
        raise ValueError("a daemon reads from /dev/null")


def _watchdog(draft: Draft, unit: Unit, one: Setting, findings: Findings) -> None:
    timeout_s = span_s(one.value)
    if 0 < timeout_s < float("inf"):
        draft.put(one.at, format_duration(timeout_s), "watchdog", "timeout")


CARRIED: Mapping[str, _Carry] = {
    f"[Service] {key}": carry
    for key, carry in {
        "Environment": _environment,
        "EnvironmentFile": _environment_file,
        "PassEnvironment": _pass_environment,
        "User": _text("user"),
        "Group": _text("group"),
        "WorkingDirectory": _working_directory,
        "UMask": _umask,
        "Nice": _nice,
        "KillMode": _kill_mode,
        "KillSignal": _signal("stop_signal"),
        "ReloadSignal": _signal("reload_signal"),
        "SendSIGKILL": _send_sigkill,
        "RemainAfterExit": _remain,
        "SuccessExitStatus": _exit_codes("success_exit_codes"),
        "RestartPreventExitStatus": _exit_codes("permanent_exit_codes"),
        "MemoryMax": _size("memory_bytes"),
        "MemoryLimit": _size("memory_bytes"),
        "MemorySwapMax": _size("memory_swap_bytes"),
        "TasksMax": _tasks,
        "CPUQuota": _cpu_quota,
        "CPUWeight": _cpu_weight,
        "CPUShares": _cpu_shares,
        "LimitNOFILE": _limit("open_files_max"),
        "LimitCORE": _limit("core_size_bytes"),
        "StandardOutput": _output,
        "StandardError": _output,
        "StandardInput": _input,
        "WatchdogSec": _watchdog,
    }.items()
}
