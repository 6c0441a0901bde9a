"""F019, F020: a daemon's environment and working directory are its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import Stack

SECRET = "CLAIM_SECRET"
SETTING = "CLAIM_SETTING"

# A Python class is forked from a warm process: what it sees itself is what counts, and what its children get.
SHOWING = """\
import os, subprocess
from duende import Daemon

class Showing(Daemon):
    def init(self, config):
        with open(f"{config.name}.env", "wb") as file:
            file.write(b"\\0".join(b"%s=%s" % pair for pair in os.environb.items()) + b"\\0")
        subprocess.run(["sh", "-c", f"cat /proc/self/environ > {config.name}.child"], check=True)
        with open("relative-of-" + config.name, "w") as file:
            file.write(os.getcwd())
    async def run(self, ctx):
        await ctx.wait_shutdown()
"""


def environ(path: Path) -> dict[str, str]:
    """What /proc/PID/environ says, or a copy of it."""
    pairs = [entry.partition("=") for entry in path.read_bytes().decode().split("\0") if entry]
    return {name: value for name, _, value in pairs}


@pytest.mark.claim("F019")
def test_the_environment_is_isolated(stack: Stack, claim_figure) -> None:
    stack.file("showing.py", SHOWING)
    toml = ""
    for kind, what in (("command", 'command = ["sleep", "1000"]'), ("class", 'daemon = "showing:Showing"')):
        for mode, more in (
            ("set", f'env = {{ {SETTING} = "one", PATH = "/usr/bin:/bin:/of-{kind}" }}'),
            ("other", ""),
            ("clean", "clean_env = true"),
            ("cleanset", f'clean_env = true\nenv = {{ {SETTING} = "two", PATH = "/usr/bin:/bin" }}'),
        ):
            toml += f"[daemon.{kind}-{mode}]\n{what}\n{more}\n"
    stack.write(toml)
    stack.env = {**stack.env, SECRET: "of the manager", "LANG": "C.UTF-8"}
    before = dict(os.environ)
    stack.up()
    assert dict(os.environ) == before
    manager = stack.status()["manager"]

    def managers() -> list[dict[str, str]]:
        return [environ(Path(f"/proc/{manager[pid]}/environ")) for pid in ("pid", "keeper_pid")]

    first = managers()
    for round_number in range(3):  # what one life leaves behind would be seen in the next
        seen = {f"command-{mode}": environ(Path(f"/proc/{stack.daemon(f'command-{mode}')['pid']}/environ")) for mode in
                ("set", "other", "clean", "cleanset")}  # fmt: skip
        for mode in ("set", "other", "clean", "cleanset"):
            seen[f"class-{mode}"] = environ(stack.folder / f"class-{mode}.env")
            seen[f"class-{mode} child"] = environ(stack.folder / f"class-{mode}.child")
        for name, found in seen.items():
            kind, _, mode = name.removesuffix(" child").partition("-")
            assert found["DUENDE_DAEMON"] == f"{kind}-{mode}", name
            assert found.get(SETTING) == {"set": "one", "cleanset": "two"}.get(mode), name
            if mode.startswith("clean"):
                # The user's own variables and duende's, and what the process adds itself; nothing of the manager's.
                ours = {key for key in found if key.startswith("DUENDE_")}
                own = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", SETTING}
                added = {"PWD", "SHLVL", "_", "OLDPWD"} if name.endswith("child") else {"LC_CTYPE"}
                assert set(found) <= ours | own | added, name
                assert SECRET not in found
            else:
                assert found[SECRET] == "of the manager", name
                assert found["LANG"] == "C.UTF-8"
                assert found["PATH"] == (f"/usr/bin:/bin:/of-{kind}" if mode == "set" else stack.env["PATH"]), name
        assert managers() == first
        assert all(SETTING not in found for found in first)
        if round_number < 2:
            assert stack.run("restart", "*").returncode == 0
    claim_figure("environments compared", 3 * len(seen), "")


@pytest.mark.claim("F020")
def test_the_working_directory_is_configurable(stack: Stack, claim_figure) -> None:
    """Absolute, relative (to the configuration's folder, wherever `duende` is called), and none (that folder)."""
    stack.file("showing.py", SHOWING)
    elsewhere = stack.root / "elsewhere"
    inside = stack.folder / "sub" / "deep"
    for folder in (elsewhere, inside):
        folder.mkdir(parents=True)
        script = folder / "script"
        script.write_text('#!/bin/sh\npwd -P > "$1"\nexec sleep 1000\n')
        script.chmod(0o755)
    cases = {"absolute": elsewhere, "relative": inside, "dotted": elsewhere, "none": stack.folder}
    written = {"absolute": str(elsewhere), "relative": "sub/deep", "dotted": "sub/../../elsewhere", "none": ""}
    toml = ""
    for name, folder in written.items():
        line = f'working_dir = "{folder}"\n' if folder else ""
        program = "./script" if folder else str(elsewhere / "script")
        toml += f'[daemon.command-{name}]\ncommand = ["{program}", "relative-of-command-{name}"]\n{line}'
        toml += f'[daemon.class-{name}]\ndaemon = "showing:Showing"\n{line}'
    path = stack.write(toml)
    assert (
        stack.run("-c", os.path.relpath(path, "/usr"), "up", "-d", "--no-restarter", cwd=Path("/usr")).returncode == 0
    )
    for name, folder in cases.items():
        for kind in ("command", "class"):
            told = folder / f"relative-of-{kind}-{name}"
            stack.until(lambda told=told: told.exists() and told.read_text(), str(told))
            assert told.read_text().strip() == str(folder.resolve())
            assert os.readlink(f"/proc/{stack.daemon(f'{kind}-{name}')['pid']}/cwd") == str(folder.resolve())
    claim_figure("daemons in their folders", 2 * len(cases), "")
    assert stack.run("down").returncode == 0

    # One that is not there is told as what it is, and is made the fault of nobody else.
    stack.write('[daemon.lost]\ncommand = ["sleep", "1"]\nworking_dir = "no/such/folder"\n')
    lost = stack.run("up", "-d", "--no-restarter")
    assert lost.returncode != 0
    assert "no/such/folder" in lost.stdout + lost.stderr
