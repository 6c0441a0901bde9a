"""Health and metrics, asked over the control socket of real instances."""

from __future__ import annotations

import json
import socket

import pytest

pytestmark = pytest.mark.real


def _daemon(*methods: str, run: str = "async def run(self, ctx): await ctx.wait_shutdown()") -> str:
    return "class D(duende.Daemon):\n" + "".join(f"    {method}\n" for method in (*methods, run))


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("body", "healthy", "reason"),
    [
        ("return duende.HealthStatus.healthy(3.5)", True, ""),
        ("return duende.HealthStatus.unhealthy('no database')", False, "no database"),
        ("return True", True, ""),
        ("return False", False, "health_check returned False"),
        ("raise OSError('refused')", False, "OSError: refused"),
        ("pass", False, "health_check returned None, not a HealthStatus"),
    ],
)
def test_the_answer_of_health_check_is_passed_on(start, kind, body, healthy, reason):
    instance = start(_daemon(f"{kind} health_check(self): {body}"))
    instance.event("ready")
    answer = instance.ask("health")
    assert (answer["healthy"], answer["reason"]) == (healthy, reason)
    assert answer["latency_ms"] == 3.5 if "3.5" in body else 0 < answer["latency_ms"] < 5000


def test_without_a_health_check_it_is_healthy(start):
    instance = start(_daemon())
    instance.event("ready")
    assert instance.ask("health")["healthy"] is True


def test_health_is_answered_while_run_blocks(start):
    instance = start(_daemon("def health_check(self): return True", run="def run(self, ctx): time.sleep(1000)"))
    instance.event("ready")
    assert instance.ask("health")["healthy"] is True
    assert instance.ask("metrics")["metrics"]["requests_total"] == 0


@pytest.mark.parametrize(("kind", "wait"), [("def", "ctx.wait_shutdown()"), ("async def", "await ctx.wait_shutdown()")])
def test_a_check_that_hangs_is_not_started_twice(start, kind, wait):
    check = f"{kind} health_check(self): print('asked'); ctx = self.ctx; {wait}; return True"
    # The last wait is for the check, which ends by the same shutdown, to be done before the process is.
    run = "async def run(self, ctx): self.ctx = ctx; print('set'); await ctx.wait_shutdown(); await asyncio.sleep(0.1)"
    instance = start(_daemon(check, run=run))
    instance.event("ready")
    instance.until("set\n")
    instance.control.send(b'{"op":"health","n":100}')
    instance.until("asked\n")
    for _ in range(3):
        answer = instance.ask("health")
        assert answer["healthy"] is False
        assert "health_check still running after" in answer["reason"]
    assert instance.stdout.count("asked") == 1


def test_before_the_end_of_init_it_is_not_healthy(start):
    instance = start(_daemon("async def init(self, config): print('in'); await asyncio.sleep(1000)"))
    instance.until("in\n")
    assert instance.ask("health") == {"healthy": False, "latency_ms": 0.0, "reason": "init has not finished"}


def test_metrics_are_collected(start):
    run = """async def run(self, ctx):
        self.metrics().record_request(); self.metrics().record_error(); self.metrics().record_duration(0.25)
        print("counted"); await ctx.wait_shutdown()"""
    instance = start(_daemon(run=run))
    instance.until("counted\n")
    instance.event("ready")
    metrics = instance.ask("metrics")["metrics"]
    assert (metrics["requests_total"], metrics["errors_total"], metrics["duration_sum_s"]) == (1, 1, 0.25)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("return {'queue': 3, 'load': 0.5}", {"metrics": {"queue": 3, "load": 0.5}}),
        ("raise KeyError('x')", {"error": "metrics: KeyError: 'x'"}),
        ("return 3", {"error": "metrics: TypeError: DaemonMetrics or a mapping is needed, not int"}),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_metrics_of_ones_own(start, kind, body, answer):
    instance = start(_daemon(f"{kind} metrics(self): {body}"))
    instance.event("ready")
    assert instance.ask("metrics") == answer


def test_metrics_that_are_too_large_are_an_error_and_not_a_silence(start):
    instance = start(_daemon("def metrics(self): return {f'name{n}': n for n in range(100000)}"))
    instance.event("ready")
    assert "over the limit of 65536" in instance.ask("metrics")["error"]


def test_rubbish_and_unknown_requests_do_not_hurt(start):
    instance = start(_daemon())
    instance.event("ready")
    instance.control.send(b"\xff{")
    instance.control.send(b"[1]")
    assert "does not know the request 'dance'" in instance.ask("dance")["error"]
    assert instance.ask("health")["healthy"] is True


def test_a_full_control_socket_loses_answers_and_blocks_nothing(start):
    instance = start(
        _daemon(run="async def run(self, ctx): print('got', await ctx.recv_signal()); await ctx.wait_shutdown()")
    )
    instance.event("ready")
    instance.control.setblocking(False)
    asked = 0
    try:
        for asked in range(100_000):  # noqa: B007
            instance.control.send(b'{"op":"health","n":1}')
    except BlockingIOError:
        pass  # the worker's own buffer is full: it is slower than we are, which is fine
    instance.signal(10)
    instance.until("got 10\n")
    instance.control.setblocking(True)
    instance.control.settimeout(0.5)
    answers = []
    try:
        while True:
            answers.append(json.loads(instance.control.recv(65536)))
    except TimeoutError:
        pass  # all that was sent has been read
    assert answers
    assert all(answer["n"] == 1 for answer in answers)
    instance.control.settimeout(20)
    assert instance.ask("health")["healthy"] is True


def test_news_wait_until_the_socket_takes_them():
    from duende.worker.control import Control

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = Control(far)
    near.setblocking(False)
    filled = 0
    while not control._news and filled < 100_000:
        control.answer({"fill": "x" * 1000})
        filled += 1
        if filled % 100 == 0:
            control.tell({"ev": "ready"})
    assert control._news, "the socket was never full"
    control.answer({"lost": 1})
    control.drain(0.01)
    assert control._news
    words = []
    while True:
        try:
            words.append(json.loads(near.recv(65536)))
        except BlockingIOError:
            if not control._news:
                break
            control.drain(5.0)
    assert words[-1] == {"ev": "ready"}
    assert {"lost": 1} not in words
    control.close()
    near.close()
