"""The ways to tell: webhooks against a real server, commands as real processes, functions in real threads."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import importlib.metadata
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from duende.config.hook import HookConfig
from duende.runtime.commands import running_commands
from duende.runtime.hooks.command import Commands, environment
from duende.runtime.hooks.retry import Outcome
from duende.runtime.hooks.send import Sender
from duende.runtime.hooks.webhook import shown_url, signature
from tests.harness import free_port
from tests.runtime.hooks.server import CLOSE, GARBAGE, HANG, Answer, Receiver, receiver

EVENT: dict[str, Any] = {
    "id": "shop-7-2026", "stack": "shop", "hook": "h", "seq": 7, "time": "2026-11-21T02:36:00.000000Z",
    "daemon": "web", "kind": "failed", "status": "failed", "cause": "Exited", "message": "exited with code 1 – ü",
    "data": {"instance": 2},
}  # fmt: skip


def run(scene: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(30.0):
            return await scene()

    return asyncio.run(main())


def sender(directory: Path = Path("/")) -> Sender:
    async def start(name: str, why: str) -> tuple[bool, str]:
        return True, f"{name} because of {why}"

    return Sender(str(directory), start)


def post(answers: list[Answer], **fields: Any) -> tuple[Outcome, Receiver, float]:
    """One event to a server that answers so: what became of it, what the server got, and how long it took."""

    async def scene() -> tuple[Outcome, Receiver, float]:
        async with receiver(answers) as server:
            began_s = time.monotonic()
            hook = HookConfig("h", ("*",), **({"webhook": server.url, "timeout": 20.0} | fields))
            return await sender()(hook, EVENT), server, time.monotonic() - began_s

    found: tuple[Outcome, Receiver, float] = run(scene)
    return found


def test_a_webhook_gets_the_event_and_a_signature_that_others_can_check(tmp_path: Path) -> None:
    key = b"0123456789abcdef01234567"
    secret = tmp_path / "secret"
    secret.write_bytes(b"whsec_" + base64.b64encode(key) + b"\n")
    outcome, server, _ = post([(204, {}, b"")], secret_file=secret)
    assert outcome == Outcome(True, "HTTP status 204")
    ((target, headers, body),) = server.requests
    assert target == "/in?key=1"
    assert json.loads(body) == EVENT
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == EVENT["id"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{EVENT['id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_a_secret_of_another_form_is_taken_as_it_is() -> None:
    expected = hmac.new(b"plain", b"id.5.{}", hashlib.sha256).digest()
    assert signature(b"plain", "id", 5, b"{}") == "v1," + base64.b64encode(expected).decode()


@pytest.mark.parametrize(
    ("answer", "text", "is_final", "retry_after_s"),
    [
        ((503, {"Retry-After": "17"}, b"busy"), "HTTP status 503: busy", False, 17.0),
        ((500, {}, b""), "HTTP status 500", False, None),
        ((429, {}, b"slow\ndown"), "HTTP status 429: slow down", False, None),
        ((404, {}, b"x" * 5000), "HTTP status 404: " + "x" * 200, True, None),
        ((301, {}, b""), "HTTP status 301: redirects are not followed, write the final URL", True, None),
    ],
)  # fmt: skip
def test_an_answer_says_whether_later_may_be_better(
    answer: Answer, text: str, is_final: bool, retry_after_s: float | None
) -> None:
    outcome, server, _ = post([answer])
    assert outcome == Outcome(False, text, is_final, retry_after_s)
    assert len(server.requests) == 1


def test_a_server_that_hangs_costs_the_hooks_own_time() -> None:
    outcome, server, took_s = post([HANG], timeout=0.3)
    assert outcome == Outcome(False, f"http://127.0.0.1:{server.port}/…: no answer within 0.3 s")
    assert took_s < 5.0


@pytest.mark.parametrize(
    ("answer", "text"),
    [(CLOSE, "closed the connection without an answer"), (GARBAGE, "what it says is not HTTP")],
)
def test_a_server_that_speaks_no_http_is_tried_again(answer: Answer, text: str) -> None:
    outcome, _, _ = post([answer])
    assert not outcome.ok
    assert not outcome.is_final
    assert text in outcome.text


def test_nobody_there_and_no_such_name() -> None:
    async def scene() -> list[Outcome]:
        urls = [f"http://127.0.0.1:{free_port()}/secret", "http://nobody.invalid/secret"]
        return [await sender()(HookConfig("h", ("*",), webhook=url, timeout=20.0), EVENT) for url in urls]

    for outcome in run(scene):
        assert not outcome.ok
        assert not outcome.is_final
        assert "secret" not in outcome.text


@pytest.mark.parametrize(
    ("content", "text", "is_final"),
    [(b"", "is empty", True), (b"whsec_?!", "is not base64", True), (None, "No such file", False)],
)
def test_a_secret_that_cannot_be_used_sends_nothing(
    tmp_path: Path, content: bytes | None, text: str, is_final: bool
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    outcome, server, _ = post([(204, {}, b"")], secret_file=secret)
    assert (outcome.ok, outcome.is_final) == (False, is_final)
    assert text in outcome.text
    assert server.requests == []


def test_a_password_in_the_url_is_sent_and_never_shown() -> None:
    async def scene() -> dict[str, str]:
        async with receiver([(200, {}, b"")]) as server:
            url = f"http://me:p%40ss@127.0.0.1:{server.port}/x"
            assert shown_url(url) == f"http://127.0.0.1:{server.port}/…"
            assert (await sender()(HookConfig("h", ("*",), webhook=url), EVENT)).ok
            return server.requests[0][1]

    headers = run(scene)
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert "@" not in headers["host"]


# --- commands


def command(tmp_path: Path, script: str, *, said: list[str] | None = None, **fields: Any) -> Outcome:
    commands = Commands(str(tmp_path), say=(said if said is not None else []).append)
    hook = HookConfig("h", ("*",), command=("sh", "-c", script), **({"timeout": 20.0} | fields))
    found: Outcome = run(lambda: commands.send(hook, EVENT))
    assert running_commands() == set()
    return found


def test_a_command_gets_the_event_twice_and_its_output_goes_to_the_log(tmp_path: Path) -> None:
    said: list[str] = []
    script = 'cat > event.json; echo "$DUENDE_EVENT_KIND of $DUENDE_EVENT_DAEMON"; printf "\\033[2J" >&2'
    assert command(tmp_path, script, said=said) == Outcome(True, "exited with code 0")
    assert json.loads((tmp_path / "event.json").read_text()) == EVENT
    assert said == ["hook h: failed of web\nhook h: ?[2J"]


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    assert command(tmp_path, "echo no mail today; exit 3").text == "sh exited with 3: no mail today"
    assert command(tmp_path, "kill -9 $$").text == "sh was killed by signal 9"


def test_a_command_that_never_ends_is_killed_with_what_it_started(tmp_path: Path) -> None:
    outcome = command(tmp_path, "sleep 1000 & echo $! > pid; wait", timeout=0.3)
    assert outcome.text == "sh did not end within 0.3 s and was killed"
    pid = int((tmp_path / "pid").read_text())
    deadline_s = time.monotonic() + 10.0
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break  # whoever adopts orphans here takes its time
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_command_that_reads_nothing_and_writes_a_lot_is_no_trouble(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = command(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x; exec 0<&-", said=said)
    assert outcome.ok
    assert len(said[0]) < 20_000


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    commands = Commands(str(tmp_path))
    hook = HookConfig("h", ("*",), command=("no-such-program",))
    assert "cannot execute 'no-such-program'" in run(lambda: commands.send(hook, EVENT)).text


def test_only_a_few_commands_run_at_once(tmp_path: Path) -> None:
    script = 'mkdir run.$$; ls -d run.* | wc -l >> counts; sleep 0.1; rmdir run.$$'

    async def scene() -> list[Outcome]:
        commands = Commands(str(tmp_path))
        hooks = [HookConfig(f"h{n}", ("*",), command=("sh", "-c", script), timeout=20.0) for n in range(12)]
        return await asyncio.gather(*(commands.send(hook, EVENT) for hook in hooks))

    assert all(outcome.ok for outcome in run(scene))
    assert max(map(int, (tmp_path / "counts").read_text().split())) <= 4


def test_the_environment_of_a_command_takes_any_text() -> None:
    hostile = {**EVENT, "message": "a\0b\ud800" + "x" * 100_000, "status": None}
    env = environment(hostile, {"DUENDE_STACK": "no", "PATH": "/bin"})
    assert env["PATH"] == "/bin"
    assert "DUENDE_STACK" not in env
    assert env["DUENDE_EVENT_STATUS"] == ""
    assert env["DUENDE_EVENT_MESSAGE"].startswith("ab\\ud800xxx")
    assert len(os.fsencode(env["DUENDE_EVENT_MESSAGE"])) <= 32768


# --- entry points

_told: list[dict[str, Any]] = []
_gate = threading.Event()


def takes(event: dict[str, Any]) -> None:
    _told.append(event)


def raises(event: dict[str, Any]) -> None:
    raise ValueError(f"cannot take {event['kind']}")


def hangs(event: dict[str, Any]) -> None:
    _gate.wait(30.0)


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> None:
    group = "duende.hooks"
    made = [importlib.metadata.EntryPoint(name, f"{__name__}:{name}", group) for name in ("takes", "raises", "hangs")]
    found = lambda group: {"duende.hooks": made}.get(group, [])  # noqa: E731
    monkeypatch.setattr("duende.runtime.hooks.entry.entry_points", found)


def call(name: str, **fields: Any) -> HookConfig:
    return HookConfig("h", ("*",), entry_point=name, **fields)


@pytest.mark.usefixtures("points")
def test_an_entry_point_is_called_with_the_event() -> None:
    _told.clear()
    assert run(lambda: sender()(call("takes"), EVENT)) == Outcome(True, "returned")
    assert _told == [EVENT]


@pytest.mark.usefixtures("points")
def test_what_an_entry_point_raises_is_told() -> None:
    assert run(lambda: sender()(call("raises"), EVENT)) == Outcome(False, "ValueError: cannot take failed")


@pytest.mark.usefixtures("points")
def test_an_entry_point_that_is_not_installed_names_those_that_are() -> None:
    outcome = run(lambda: sender()(call("misses"), EVENT))
    assert outcome.is_final
    assert "no installed package has the entry point 'misses'" in outcome.text
    assert "hangs, raises, takes" in outcome.text


@pytest.mark.usefixtures("points")
def test_an_entry_point_that_hangs_has_one_thread_and_holds_up_nobody() -> None:
    _gate.clear()

    async def scene() -> list[Outcome]:
        way = sender()
        first = await way(call("hangs", timeout=0.1), EVENT)
        before = threading.active_count()
        second = await way(call("hangs", timeout=0.1), EVENT)
        assert threading.active_count() == before
        _gate.set()
        return [first, second]

    try:
        first, second = run(scene)
    finally:
        _gate.set()
    assert first.text == "did not return within 0.1 s; its thread goes on"
    assert "an earlier call still runs" in second.text


def test_a_start_says_why() -> None:
    outcome = run(lambda: sender()(HookConfig("h", ("*",), start="medic"), EVENT))
    assert outcome == Outcome(True, "medic because of hook h: failed of web, event 7")
