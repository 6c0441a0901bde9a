"""What `make demo` runs: the real `duende`, step by step, in folders of its own and on a free port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
DUENDE = Path(sys.executable).with_name("duende")
PATIENCE_S = 10.0  # for what takes milliseconds; a busy machine may need longer


class Demo:
    """One run: a stack with a name, a port and folders that nothing else uses."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="duende-demo-")
        self.stack = f"demo-{os.getpid()}"
        self.is_up = False  # whether there may be a manager or daemons of ours
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DUENDE_")},
            "DUENDE_RUNTIME_DIR": f"{self.folder}/run",
            "DUENDE_STATE_DIR": f"{self.folder}/state",
            "DEMO_PORT": str(self.port),
        }

    def duende(self, *words: str) -> None:
        """Show a command line, and run it."""
        print(f"\n$ duende {' '.join(words)}", flush=True)
        self.is_up = self.is_up or words[0] == "up"
        subprocess.run(self._argv(words), env=self.env, check=True)
        self.is_up = self.is_up and words[0] != "down"

    def daemon(self, name: str) -> dict[str, Any]:
        """What `duende status NAME --json` says."""
        done = subprocess.run(self._argv(["status", "--json"]), env=self.env, check=True, capture_output=True)
        stack: dict[str, Any] = json.loads(done.stdout)
        return {**next(one for one in stack["daemons"] if one["name"] == name), "manager": stack["manager"]["pid"]}

    def with_new_manager(self, name: str, former_pid: int) -> dict[str, Any]:
        """The same, as soon as another manager answers."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = self.daemon(name)
                if found["manager"] != former_pid:
                    return found
            except subprocess.CalledProcessError:
                pass  # between two managers nobody answers
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no manager came after {former_pid}")
            time.sleep(0.02)

    def _argv(self, words: Any) -> list[str]:
        return [str(DUENDE), "-c", str(HERE / "duende.toml"), "-s", self.stack, *words]

    def visit(self) -> None:
        with urlopen(f"http://127.0.0.1:{self.port}/", timeout=PATIENCE_S) as answer:
            print(f"\n$ curl http://127.0.0.1:{self.port}/\n{answer.read().decode().strip()}", flush=True)

    def close(self) -> None:
        """End whatever still runs, and remove the folders. The demo may have been interrupted anywhere: also while
        a manager was just coming up, or when only daemons were left, which a new manager has to take over first.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while self.is_up and time.monotonic() < deadline_s:
            if self._quietly("down") == 0:
                break
            self._quietly("up", "-d", "--no-wait")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _quietly(self, *words: str) -> int:
        return subprocess.run(self._argv(words), env=self.env, check=False, capture_output=True).returncode


def say(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def kill(pid: int) -> None:
    print(f"\n$ kill -9 {pid}", flush=True)
    os.kill(pid, signal.SIGKILL)


def play(demo: Demo) -> None:
    say("A web server (a Python class), a worker class that uses it, and a shell command.")
    demo.duende("up", "-d")
    demo.duende("status")
    demo.visit()

    say("The web server is killed. duende starts it again.")
    before = demo.daemon("web")
    started_s = time.monotonic()
    kill(before["pid"])
    while (web := demo.daemon("web"))["pid"] in (before["pid"], None) or not web["ready"]:
        if time.monotonic() - started_s > PATIENCE_S:
            raise TimeoutError(f"web did not come back: {web['message']}")
        time.sleep(0.02)
    print(f"back as process {web['pid']}, seen ready after {time.monotonic() - started_s:.2f} s")
    demo.visit()
    demo.duende("events", "-n", "3", "web")

    say("duende's own manager is killed. The daemons do not notice; a new one comes by itself and takes them over.")
    kill(web["manager"])
    demo.visit()
    after = demo.with_new_manager("web", web["manager"])
    kept = after["pid"] == web["pid"] and after["restarts"] == web["restarts"]
    print(f"web is {'still' if kept else 'NOT any more'} process {web['pid']}; the manager is now {after['manager']}")
    demo.duende("logs", "-n", "4", "worker")

    say("Everything is stopped, in reverse order.")
    demo.duende("down")
    if not kept:
        raise RuntimeError("the daemon did not survive its manager")


NEXT = f"""
Try next:
  cd {os.path.relpath(HERE)}
  {os.path.relpath(DUENDE, HERE)} up      the same stack in the foreground, on port 8080; Ctrl-C stops it
  docs/tutorial/first-stack.md    write your own
  examples/shop                   a larger stack, with redis-server and nginx
"""


def main() -> int:
    demo = Demo()
    try:
        play(demo)
        print(NEXT, end="")
        return 0
    except KeyboardInterrupt:
        print("\nstopped; cleaning up", file=sys.stderr)
        return 130
    except (subprocess.CalledProcessError, OSError, TimeoutError, RuntimeError) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave daemons behind
        demo.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the `finally` above
    sys.exit(main())
