"""The critical chain: who waited for whom, read from recorded events."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from duende.core.chain import Link, chain_of, chain_to_json, longest_chain, starts_in

ZERO = datetime(2026, 11, 21, 2, 36, tzinfo=UTC).timestamp()


class Log:
    """Events as the event log has them; `at_s` counts from ZERO."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.executed: dict[tuple[str, int], str] = {}

    def add(self, at_s: float, daemon: str, kind: str, status: str, message: str, cause: str, **data: Any) -> Log:
        self.events.append({
            "seq": len(self.events) + 1, "time": text(at_s), "daemon": daemon, "kind": kind, "status": status,
            "message": message, "cause": cause, "data": data,
        })  # fmt: skip
        return self

    def waits(self, at_s: float, daemon: str, *others: str) -> Log:
        waits_for = dict.fromkeys(others, "ready")
        return self.add(at_s, daemon, "waiting", "created", "", "StartRequested", waits_for=waits_for)

    def met(self, at_s: float, daemon: str, last: str, condition: str = "ready") -> Log:
        return self.add(at_s, daemon, "dependencies-met", "created", "", "BecameReady", last=last, condition=condition)

    def begins(self, at_s: float, daemon: str, instance: int = 1, cause: str = "StartRequested") -> Log:
        self.add(at_s, daemon, "status", "starting", f"incarnation {instance}", cause, instance=instance)
        self.executed[daemon, instance] = text(at_s + 0.25)
        return self

    def ready(self, at_s: float, daemon: str, instance: int = 1) -> Log:
        return self.add(at_s, daemon, "status", "running", "", "BecameReady", instance=instance)

    def ends(self, at_s: float, daemon: str, status: str = "backoff", instance: int = 1) -> Log:
        return self.add(at_s, daemon, "status", status, "exited with code 1", "Exited", instance=instance)

    def chain(self, name: str, **unmet: list[str]) -> list[Link]:
        return chain_of(name, starts_in(self.events, self.executed), unmet)


def text(at_s: float) -> str:
    return datetime.fromtimestamp(ZERO + at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def three() -> Log:
    """web waits for api, api for db; cache is there long before."""
    log = Log().begins(0, "db").begins(0, "cache").waits(0, "api", "db").waits(0, "web", "api", "cache")
    log.ready(0.5, "cache").ready(2, "db").met(2, "api", "db").begins(2, "api", cause="DependenciesMet")
    log.ready(5, "api").met(5, "web", "api").begins(5, "web", cause="DependenciesMet")
    return log.ready(6, "web")


def names(links: list[Link]) -> list[str]:
    return [link.start.name for link in links]


def test_the_chain_goes_to_what_was_waited_for_last() -> None:
    links = three().chain("web")
    assert names(links) == ["web", "api", "db"]
    found = chain_to_json(links)
    assert [link["zero_unix_s"] for link in found] == [ZERO] * 3
    assert [(link["reached_s"], link["took_s"]) for link in found] == [(6, 1), (5, 3), (2, 2)]
    assert found[1] == {
        "name": "api", "instance": 1, "cause": "StartRequested", "waits_for": ["db"], "waited_for_last": "db",
        "condition": "ready", "zero_unix_s": ZERO, "asked_s": 0, "dependencies_met_s": 2, "began_s": 2,
        "executed_s": 2.25, "ready_s": 5, "ended_s": None, "outcome": "", "reached_s": 5, "took_s": 3,
    }  # fmt: skip


def test_what_waited_for_nothing_is_a_chain_of_one() -> None:
    assert names(three().chain("db")) == ["db"]
    assert three().chain("unknown") == []


def test_as_far_as_it_was_needed() -> None:
    """Only started was waited for: what came after that cost nothing."""
    log = Log().begins(0, "db").waits(0, "web", "db").met(0.25, "web", "db", "started").begins(0.25, "web")
    links = log.ready(1, "web").ready(9, "db").chain("web")
    assert [link.reached_s for link in links] == [ZERO + 1, ZERO + 0.25]
    assert links[1].took_s == 0.25


def test_the_incarnation_that_was_there_then() -> None:
    log = three().ends(100, "db").begins(101, "db", 2, "TimerFired").ready(103, "db", 2)
    assert [(link.start.name, link.start.instance) for link in log.chain("web")] == [("web", 1), ("api", 1), ("db", 1)]
    assert [(link.start.instance, link.took_s) for link in log.chain("db")] == [(2, 2)]


def test_a_restart_that_waited_for_nobody_ends_the_chain() -> None:
    log = three().ends(50, "web").begins(51, "web", 2, "TimerFired").ready(52, "web", 2)
    assert names(log.chain("web")) == ["web"]
    assert chain_to_json(log.chain("web"))[0]["reached_s"] == 1


def test_one_that_still_waits_leads_to_what_is_not_there_now() -> None:
    log = Log().begins(0, "db").begins(0, "cache").waits(0, "web", "db", "cache").ready(1, "db").ends(2, "cache")
    links = log.chain("web", web=["cache"])
    assert names(links) == ["web", "cache"]
    assert (links[0].start.instance, links[0].start.waits_for, links[0].reached_s) == (0, ("cache",), None)
    assert (links[1].start.outcome, links[1].reached_s) == ("exited with code 1", None)


def test_a_wait_that_was_given_up_is_not_that_of_a_later_start() -> None:
    log = Log().waits(0, "web", "db")
    log.add(3, "web", "status", "stopped", "", "StopRequested", instance=0)
    log.begins(60, "web").ready(61, "web")
    assert chain_to_json(log.chain("web"))[0]["waits_for"] == []
    assert log.chain("web")[0].start.asked_s == ZERO + 60


def test_a_wait_that_began_while_the_former_incarnation_stopped_goes_on() -> None:
    log = Log().begins(0, "web").ready(1, "web").waits(10, "web", "db").ends(12, "web", "stopped")
    log.begins(10, "db").ready(15, "db").met(15, "web", "db").begins(15, "web", 2).ready(16, "web", 2)
    assert names(log.chain("web")) == ["web", "db"]
    assert log.chain("web")[0].start.asked_s == ZERO + 10


def test_when_the_beginning_of_the_wait_is_not_on_record_the_rest_is_told() -> None:
    log = Log().begins(0, "db").ready(1, "db").met(1, "web", "db").begins(1, "web").ready(2, "web")
    assert [(link.start.name, link.start.asked_s) for link in log.chain("web")] == [("web", ZERO + 1), ("db", ZERO)]


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    log = Log().begins(100, "db").waits(100, "web", "db").ready(3, "db").met(3, "web", "db").begins(3, "web")
    links = log.ready(4, "web").chain("web")
    assert names(links) == ["web", "db"]  # order is that of the numbers
    assert [link.took_s for link in links] == [1, 0]


def test_paused_and_continued_is_ready_once() -> None:
    log = three()
    log.add(50, "web", "status", "paused", "", "Paused", instance=1)
    log.add(60, "web", "status", "running", "", "Continued", instance=1)
    assert log.chain("web")[0].start.ready_s == ZERO + 6


def test_the_longest_is_counted_from_the_first_request() -> None:
    log = three().begins(200, "slow").ready(204, "slow").begins(300, "never")
    assert names(longest_chain(starts_in(log.events))) == ["web", "api", "db"]
    log.begins(400, "slow", 2).ready(407, "slow", 2)
    assert names(longest_chain(starts_in(log.events))) == ["slow"]
    assert longest_chain({}) == []
    assert longest_chain(starts_in(Log().begins(0, "never").events)) == []


def test_the_longest_of_all_is_the_longest_of_each() -> None:
    for seed in range(200):
        chance, log = random.Random(seed), Log()
        for number in range(chance.randrange(1, 9)):
            name, at_s = f"d{number}", chance.randrange(9)
            if number and chance.random() < 0.8:
                log.waits(at_s, name, f"d{chance.randrange(number)}")
                log.met(at_s + chance.randrange(5), name, f"d{chance.randrange(number)}")
            log.begins(at_s + 5, name)
            if chance.random() < 0.9:
                log.ready(at_s + 5 + chance.randrange(9), name)
        starts = starts_in(log.events, log.executed)
        chains = [chain_of(name, starts) for name in starts]
        whole = [_total_s(links) for links in chains if links[0].reached_s is not None]
        found = longest_chain(starts)
        assert (_total_s(found) if found else None) == max(whole, default=None), seed


def _total_s(links: list[Link]) -> float:
    assert links[0].reached_s is not None
    return max(links[0].reached_s - min(link.start.asked_s for link in links), 0.0)


def test_a_long_chain_costs_no_more_than_its_length() -> None:
    """With the square of it, this would take minutes, and the manager would stand still for as long."""
    log = Log().begins(0, "d0").ready(1, "d0")
    for number in range(1, 3000):
        log.waits(0, f"d{number}", f"d{number - 1}").met(number, f"d{number}", f"d{number - 1}")
        log.begins(number, f"d{number}").ready(number + 1, f"d{number}")
    assert len(longest_chain(starts_in(log.events))) == 3000


def test_a_log_of_two_configurations_can_not_make_it_endless() -> None:
    log = Log().waits(0, "a", "b").waits(0, "b", "a")
    assert len(log.chain("a")) <= 3
