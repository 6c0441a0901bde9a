"""The life of an instance, in real processes, both executed and forked from the zygote."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ASYNC_ECHO = """
class D(duende.Daemon):
    async def init(self, config):
        print("init", config.settings.get("port"), self.name, self.id)
    async def run(self, ctx):
        print("running")
        while True:
            print("got", await ctx.recv_signal())
            if ctx.should_shutdown:
                break
        print("ran")
    async def shutdown(self, timeout):
        print("shutdown", 0 < timeout < 10)
"""
BLOCKING_ECHO = ASYNC_ECHO.replace("async def", "def").replace("await ", "")
BOTH = pytest.mark.parametrize("source", [ASYNC_ECHO, BLOCKING_ECHO], ids=["async", "blocking"])


@BOTH
def test_it_is_ready_after_init_and_knows_its_settings_name_and_id(start, source):
    identity = "0f8fad5b-d9cb-469f-a165-70867728950e"
    instance = start(source, settings={"port": 8080}, id=identity, name="shop.web")
    instance.event("ready")
    instance.until(f"init 8080 shop.web {identity}\n")
    assert Path(f"/proc/{instance.pid}/comm").read_text() == "shop.web\n"


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_term_int_and_quit_ask_for_shutdown(start, source, number):
    instance = start(source)
    instance.event("ready")
    instance.until("running\n")
    instance.signal(number)
    instance.event("stopping")
    assert instance.wait() == 0
    assert f"got {int(number)}\nran\n" in instance.stdout.replace("shutdown True\n", "")
    assert "shutdown True\n" in instance.stdout
    assert instance.stderr == ""


@BOTH
def test_hup_usr1_and_usr2_are_delivered_and_do_not_stop(start, source):
    instance = start(source)
    instance.event("ready")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        instance.signal(number)
        instance.until(f"got {int(number)}\n")
    assert instance.ask("health")["healthy"]
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0


@BOTH
def test_stop_and_cont_pause_and_resume_and_fire_no_timer(start, source):
    instance = start(source, shutdown_timeout_s=1.0)
    instance.event("ready")
    instance.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, instance.pid, os.WSTOPPED)
    instance.signal(signal.SIGCONT)
    os.waitid(os.P_PID, instance.pid, os.WCONTINUED)
    assert instance.ask("health")["healthy"]
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0


def test_run_returning_by_itself_is_exit_code_0_without_shutdown(start):
    instance = start(
        "class D(duende.Daemon):\n def run(self, ctx): print('done')\n def shutdown(self, timeout): print('no')"
    )
    instance.event("ready")
    assert instance.wait() == 0
    assert instance.stdout == "done\n"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_exception_in_run_is_a_traceback_and_exit_code_1(start, kind):
    instance = start(f"class D(duende.Daemon):\n {kind} run(self, ctx): raise KeyError('lost')")
    instance.event("ready")
    assert instance.wait() == 1
    assert "KeyError: 'lost'" in instance.stderr
    assert "Traceback" in instance.stderr
    assert "script.py" in instance.stderr


@pytest.mark.parametrize(("argument", "code"), [("", 0), ("3", 3), ("'words'", 1)])
def test_sys_exit_in_run_is_honoured(start, argument, code):
    instance = start(f"class D(duende.Daemon):\n async def run(self, ctx): sys.exit({argument})")
    assert instance.wait() == code
    assert ("words" in instance.stderr) == (argument == "'words'")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_init_failure_is_told_with_its_traceback(start, kind):
    init = f"{kind} init(self, config): raise ValueError('no port')"
    source = f"class D(duende.Daemon):\n {init}\n def run(self, ctx): print('ran')"
    instance = start(source)
    failed = instance.event("failed")
    assert failed["stage"] == "init"
    assert failed["error"] == "ValueError: no port"
    assert "no port" in failed["traceback"]
    assert instance.wait() == 1
    assert "ValueError: no port" in instance.stderr
    assert "ran" not in instance.stdout


def test_a_failing_constructor_is_an_init_failure_and_giant_messages_still_fit_one_packet(start):
    source = (
        "class D(duende.Daemon):\n def __init__(self): raise ValueError('\\u20ac' * 1000000)\n def run(self, ctx): pass"
    )
    failed = start(source).event("failed")
    assert failed["stage"] == "init"
    assert failed["error"].startswith("ValueError: €")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("", None, "no class 'D'"),
        ("class D: pass", None, "not a class derived from duende.Daemon"),
        ("raise OSError('disk')", None, "OSError: disk"),
        ("sys.exit(0)", None, "SystemExit"),
        ("def f(:", None, "SyntaxError"),
        ("class D(duende.Daemon): pass", None, "does not define run"),
        ("class D(duende.Daemon):\n def __init__(self, port): pass\n def run(self, ctx): pass", None, "'port'"),
        ("", "no_such_module:D", "No module named 'no_such_module'"),
        ("", "/no/such/file.py:D", "no such file"),
        ("", "nonsense", "names no class"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_a_permanent_failure(start, source, target, words):
    instance = start(source, **({"target": target} if target else {}))
    failed = instance.event("failed")
    assert failed["stage"] == "load"
    assert words in failed["error"]
    assert instance.wait() == 125
    assert words in instance.stderr


def test_a_script_is_not_run_as_main_and_its_classes_can_be_pickled(start):
    source = """
import pickle
class Point: x = 1
class D(duende.Daemon):
    def run(self, ctx): print(type(pickle.loads(pickle.dumps(Point()))).__module__, sys.argv, __name__)
if __name__ == "__main__": print("guard broken")
"""
    instance = start(source)
    assert instance.wait() == 0
    assert instance.stdout.startswith("script ['")
    assert "guard broken" not in instance.stdout


def test_a_script_named_like_a_standard_module_does_not_replace_it(start, tmp_path):
    (tmp_path / "json.py").write_text(
        "import duende, json\nclass D(duende.Daemon):\n def run(self, ctx): print(json.dumps({}), __name__)\n"
    )
    instance = start("", target=f"{tmp_path}/json.py:D")
    assert instance.wait() == 0, instance.stderr
    assert instance.stdout == "{} duende_script_json\n"


def test_a_module_is_found_on_the_given_path_and_by_pythonpath(start, tmp_path):
    for folder in ("given", "named"):
        (tmp_path / folder).mkdir()
    (tmp_path / "given" / "shop_a.py").write_text(
        "import duende, shop_b\nclass Web(duende.Daemon):\n def run(self, ctx): print(shop_b.VALUE)\n"
    )
    (tmp_path / "named" / "shop_b.py").write_text("VALUE = 7\n")
    src = str(Path(__file__).resolve().parents[2] / "src")
    env = {"PYTHONPATH": f"{tmp_path / 'named'}:{src}"}
    instance = start("", target="shop_a:Web", sys_path=[str(tmp_path / "given")], env=env)
    assert instance.wait() == 0, instance.stderr
    assert instance.stdout == "7\n"


def test_the_environment_is_the_daemons_without_our_variables_and_children_inherit_nothing(start):
    source = """
import subprocess
class D(duende.Daemon):
    def run(self, ctx):
        print(sorted(key for key in os.environ if key.startswith("DUENDE")), os.environ["COLOUR"], flush=True)
        subprocess.run(["ls", "/proc/self/fd"], close_fds=False)
"""
    instance = start(source, env={"COLOUR": "red"})
    assert instance.wait() == 0, instance.stderr
    first, _, rest = instance.stdout.partition("\n")
    assert first == "[] red"
    assert rest.split() == ["0", "1", "2", "3"]  # 3 is ls reading the folder


def test_output_comes_line_by_line_and_any_text_can_be_written(start):
    source = """
class D(duende.Daemon):
    def run(self, ctx):
        print("first \\udcff €")
        print("second", file=sys.stderr)
        ctx.wait_shutdown()
"""
    instance = start(source)
    assert instance.until("\n") == "first \\udcff €\n"
    assert instance.until("\n", "stderr") == "second\n"


def test_losing_the_readers_of_output_and_control_does_not_hurt_the_daemon(start, tmp_path):
    source = f"""
class D(duende.Daemon):
    async def run(self, ctx):
        await ctx.recv_signal()
        for n in range(1000): print("x" * 1000)
        sys.stderr.write("more\\n")
        open({str(tmp_path / "wrote")!r}, "w").close()
        os.kill(os.getppid(), 0)
        await ctx.wait_shutdown()
        sys.exit(7)
"""
    instance = start(source)
    instance.event("ready")
    instance.control.close()
    null = os.open("/dev/null", os.O_RDONLY)
    for fd in instance._fds.values():
        os.dup2(null, fd)
    os.close(null)
    instance.signal(signal.SIGUSR1)
    deadline_s = time.monotonic() + 20
    while not (tmp_path / "wrote").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)  # its output, which would be the event, is what we have taken away
    assert (tmp_path / "wrote").exists()
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 7


def test_threads_and_atexit_functions_end_before_the_process(start):
    source = """
import atexit
class D(duende.Daemon):
    def run(self, ctx):
        atexit.register(print, "atexit")
        threading.Thread(target=lambda: (ctx.sleep(0.05), print("thread"))).start()
"""
    instance = start(source)
    assert instance.wait() == 0
    assert instance.stdout == "thread\natexit\n"


def test_a_thread_left_behind_is_named_and_does_not_keep_the_process(start):
    source = """
class D(duende.Daemon):
    def run(self, ctx):
        threading.Thread(target=time.sleep, args=(100,), name="sleepy").start()
"""
    instance = start(source, shutdown_timeout_s=0.3)
    assert instance.wait() == 1
    assert "threads that have not ended: sleepy" in instance.stderr


def test_a_forked_child_of_the_daemon_can_be_terminated_without_stopping_the_daemon(start):
    source = """
import multiprocessing
class D(duende.Daemon):
    async def run(self, ctx):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
        child.start()
        child.terminate()
        await asyncio.to_thread(child.join, 10)
        await asyncio.sleep(0.05)  # what the child has written into the wake-up socket would be there by now
        print(child.exitcode, ctx.should_shutdown)
"""
    instance = start(source)
    assert instance.wait() == 0, instance.stderr
    assert instance.stdout == "-15 False\n"


def test_a_specification_that_is_no_json_is_a_permanent_failure(start):
    instance = start("", config={"working_dir": 7})
    failed = instance.event("failed")
    assert failed["stage"] == "load"
    assert "specification" in failed["error"]
    assert instance.wait() == 125


def test_the_configuration_arrives_in_init(start):
    source = """
import json
class D(duende.Daemon):
    def init(self, config):
        print(config.version, config.config_path, config.working_dir.name, config.env["A"],
              config.resources.memory_bytes, config.shutdown_timeout, config.settings["deep"]["x"])
    def run(self, ctx): print(ctx.config.version)
"""
    config = {
        "version": "1.2.3", "config_path": "/etc/web.toml", "working_dir": "/srv/web", "env": {"A": "b"},
        "resources": {"memory_bytes": 5, "from_the_future": 1}, "from_the_future": 2,
    }  # fmt: skip
    instance = start(source, config=config, settings={"deep": {"x": [1]}}, shutdown_timeout_s=4)
    assert instance.wait() == 0, instance.stderr
    assert instance.stdout == "1.2.3 /etc/web.toml web b 5 4.0 [1]\n1.2.3\n"
    assert json.dumps(config)
