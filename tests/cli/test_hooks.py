"""`duende hooks`, and what `status` says of a hook that fails, against a fake manager."""

from __future__ import annotations

from duende.cli import exits
from tests.api.fake import Served
from tests.cli.conftest import Run

TROUBLE = "hook pager is failing: HTTP status 503 (2 undelivered, 1 given up, next try in 4.5s)"


def test_hooks_in_a_table_and_the_trouble_in_words(run: Run, shop: Served) -> None:
    code, out, err = run("hooks")
    head, row, trouble = out.splitlines()
    assert (code, err) == (exits.OK, "")
    assert head.split() == ["HOOK", "STATE", "ON", "ACTION", "DELIVERED", "WAITING", "LAST"]
    assert " ".join(row.split()) == "pager failing failed webhook https://x/… 5 2 event 9: HTTP status 503"
    assert trouble == TROUBLE
    assert run("hooks", "--json").json["hooks"][0]["name"] == "pager"


def test_a_stack_without_hooks(run: Run, shop: Served) -> None:
    shop.manager.hook_report = list  # type: ignore[method-assign]
    assert run("hooks").out == "this stack has no hooks\n"


def test_the_exit_code_of_a_test_says_whether_it_arrived(run: Run, shop: Served) -> None:
    assert run("hooks", "test", "pager") == (exits.FAILED, "pager  failed  HTTP status 503\n", "")
    assert run("--json", "hooks", "test", "pager").json["ok"] is False
    unknown = run("hooks", "test", "nobody")
    assert (unknown.code, "no hook 'nobody'" in unknown.err) == (exits.FAILED, True)
    assert run("hooks", "test").code == exits.USAGE
    assert run("hooks", "tset", "pager").code == exits.USAGE


def test_status_tells_of_a_hook_that_fails_and_of_no_other(run: Run, shop: Served) -> None:
    assert "hook" not in run("status").out
    answer = shop.manager.status()
    shop.manager.status = lambda names=(): {**answer, "failing_hooks": shop.manager.hook_report()}  # type: ignore[method-assign]
    assert run("status").out.splitlines()[-1] == TROUBLE


def test_check_finds_what_a_hook_lacks(run: Run, shop: Served) -> None:
    from pathlib import Path

    file = Path("duende.toml")
    file.write_text(
        file.read_text() + 'on_failure = { command = ["no-such-medic"] }\n'
        '[[hook]]\nname = "a"\non = ["failed"]\ncommand = ["no-such-program"]\n'
        '[[hook]]\nname = "b"\non = ["failed"]\nwebhook = "http://x"\nsecret_file = "nowhere"\n'
    )
    done = run("check")
    assert done.code == exits.FAILED or done.code == exits.USAGE
    said = done.out + done.err
    assert "duende.toml:1: hook on_failure:web: there is no program no-such-medic on the manager's PATH" in said
    assert "duende.toml:4: hook a: there is no program no-such-program on the manager's PATH" in said
    assert "duende.toml:8: hook b: the secret" in said
