"""The warm process itself: its forks leak nothing, its refusals are answers, its children are the keeper's."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.worker.conftest import start_warm, worker_json

pytestmark = pytest.mark.real

ONCE = "import duende\nclass D(duende.Daemon):\n def run(self, ctx): pass\n"


@pytest.fixture
def once(tmp_path: Path) -> str:
    (tmp_path / "once.py").write_text(ONCE)
    return f"{tmp_path}/once.py:D"


def _descriptors(pid: int) -> list[str]:
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_two_hundred_forks_leak_neither_descriptors_nor_children(zygote, once):
    before = _descriptors(zygote.process.pid)
    ours = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        instance = start_warm(zygote, worker_json(once), {})
        assert instance.wait() == 0
        instance.close()
    assert _descriptors(zygote.process.pid) == before
    assert _children(zygote.process.pid) == ""
    assert len(os.listdir("/proc/self/fd")) == ours


def test_an_instance_is_the_child_of_the_subreaper_in_its_own_session_with_its_own_descriptors(zygote, tmp_path):
    (tmp_path / "waits.py").write_text(
        "import duende\nclass D(duende.Daemon):\n async def run(self, ctx): print('in'); await ctx.wait_shutdown()\n"
    )
    instance = start_warm(zygote, worker_json(f"{tmp_path}/waits.py:D"), {})
    instance.until("in\n")
    stat = Path(f"/proc/{instance.pid}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[1]) == os.getpid()  # ppid
    assert int(stat[3]) == instance.pid  # session
    kinds = [name.partition(":")[0] for name in _descriptors(instance.pid)]
    # stdin, then stdout and stderr, then the control socket, and the loop's selector with its own pair
    assert sorted(kinds) == ["/dev/null", "anon_inode", "pipe", "pipe", "socket", "socket", "socket"]
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    instance.close()


def _failed_fork(zygote, spec):
    out_r, out_w = os.pipe()
    status_r, status_w = os.pipe()
    answer = zygote.fork(spec, [out_w, os.dup(out_w), status_w])
    os.close(out_r)
    with os.fdopen(status_r, "rb") as status:
        words = [json.loads(line) for line in status.read().splitlines()]
    return answer, words


def test_a_step_that_fails_is_told_on_the_status_pipe(zygote):
    answer, words = _failed_fork(zygote, {"cwd": "/no/such/folder"})
    assert words == [{"pid": answer["pid"]}, {"stage": "cwd", "errno": 2, "path": "/no/such/folder"}]
    assert os.waitstatus_to_exitcode(os.waitpid(answer["pid"], 0)[1]) == 127


def test_a_spec_without_a_worker_is_told_on_the_status_pipe(zygote):
    answer, words = _failed_fork(zygote, {})
    assert words[1]["stage"] == "specification"
    os.waitpid(answer["pid"], 0)


def test_rubbish_is_answered_and_the_zygote_goes_on(zygote, once):
    read_end, write_end = os.pipe()
    os.close(read_end)
    assert zygote.fork({}, [write_end])["error"]["stage"] == "fork request"
    zygote.channel.send({"op": "dance", "n": zygote._n + 1})
    instance = None
    zygote._n += 1
    while instance is None:
        frames = zygote.channel.receive()
        for message, _ in frames:
            assert message["error"]["stage"] == "op dance"
            instance = start_warm(zygote, worker_json(once), {})
    assert instance.wait() == 0
    instance.close()


def test_each_instance_has_a_fresh_interpreter_state(zygote, tmp_path):
    (tmp_path / "fresh.py").write_text(
        "import duende, os, random, sys\nassert 'shop_state' not in sys.modules\nsys.modules['shop_state'] = sys\n"
        "class D(duende.Daemon):\n"
        " def run(self, ctx):\n"
        "  os.environ['LEFT'] = 'behind'\n"
        "  print(random.random(), os.environ.get('TZ'), getattr(sys.modules['__main__'], 'main', None))\n"
    )
    outputs = set()
    for zone in ("UTC", "Asia/Tokyo"):
        instance = start_warm(zygote, worker_json(f"{tmp_path}/fresh.py:D"), {"TZ": zone})
        assert instance.wait() == 0, instance.stderr
        number, seen_zone, main = instance.stdout.split()
        assert (seen_zone, main) == (zone, "None")
        outputs.add(number)
        instance.close()
    assert len(outputs) == 2, "both drew the same random number"


@pytest.mark.skipif(os.getuid() != 0, reason="changing the user needs root")
def test_an_instance_of_another_user_owns_its_proc(zygote, tmp_path):
    run = "def run(self, ctx): print(os.getuid(), os.stat('/proc/self/environ').st_uid, open('/proc/self/comm').read())"
    source = f"import duende, os\nclass D(duende.Daemon):\n {run}\n"
    (tmp_path / "other.py").write_text(source)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    spec = {"uid": 65534, "gid": 65534, "groups": []}
    instance = start_warm(zygote, worker_json(f"{tmp_path}/other.py:D", name="otto"), {}, **spec)
    assert instance.wait() == 0, instance.stderr
    assert instance.stdout.split() == ["65534", "65534", "otto"]
    instance.close()


def test_it_ends_when_the_keeper_closes(zygote):
    from tests.worker.conftest import Zygote

    other = Zygote()
    other.close()  # asserts exit code 0
    assert other.process.returncode == 0
