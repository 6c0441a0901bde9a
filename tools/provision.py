"""Bring what the tests need onto this machine: a virtual environment, and programs from Debian when we are root.

`provision.py` looks for the programs that the end-to-end tests run and installs the Debian packages of the missing
ones, saying so; without root it lists what to install and goes on (their tests then skip and name what is missing).
`provision.py --venv DIR` makes the virtual environment. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

# program -> Debian package
NEEDED = {
    "redis-server": "redis-server",
    "nginx": "nginx-light",
    "postgres": "postgresql",
    "unshare": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "gcc": "gcc",
    "curl": "curl",
    "dot": "graphviz",
    "fish": "fish",
    "zsh": "zsh",
}
_ELSEWHERE = ("/usr/sbin", "/sbin", "/usr/local/sbin", *sorted(glob.glob("/usr/lib/postgresql/*/bin")))


def find(program: str) -> str | None:
    """The program's path, also where Debian keeps what is not in a user's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_ELSEWHERE])
    return shutil.which(program, path=path)


def install_programs() -> int:
    missing = sorted({package for program, package in NEEDED.items() if find(program) is None})
    if not missing:
        return 0
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"The end-to-end tests also want: {' '.join(missing)}")
        print(f"  on Debian, as root: {' '.join(command)}")
        print("Without them their tests are skipped, with the reason.")
        return 0
    print(f"installing with apt-get: {' '.join(missing)}", flush=True)
    # Policy: the packages' own services must not be started here.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "env": env}
    subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)  # type: ignore[call-overload]
    return subprocess.run(["apt-get", "-qq", *command[1:]], check=False, **quiet).returncode  # type: ignore[call-overload]


def make_venv(folder: str) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what runs on an older Python
        print(
            f"duende needs Python 3.11 or newer, this is {sys.version.split()[0]}; try: make PYTHON=python3.11",
            file=sys.stderr,
        )
        return 1
    print(f"making a virtual environment in {folder}", flush=True)
    done = subprocess.run([sys.executable, "-m", "venv", folder], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return 0
    shutil.rmtree(folder, ignore_errors=True)
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"venv is missing here; installing with apt-get: {package}", flush=True)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=env, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "-qq", "install", "--yes", package], check=True, env=env, stdout=subprocess.DEVNULL)
        return subprocess.run([sys.executable, "-m", "venv", folder], check=False).returncode
    print(done.stdout + done.stderr, file=sys.stderr)
    print(f"cannot make a virtual environment; on Debian, as root: apt-get install {package}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(make_venv(sys.argv[2]) if sys.argv[1:2] == ["--venv"] else install_programs())
