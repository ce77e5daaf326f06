"""The project's Prefect server ends by itself when nobody has used it for a while, and is there again when needed."""

import asyncio
import json
import subprocess
import sys

import psutil
import pytest

from flows.planning.errors import UsageError
from flows.planning.plan import make_plan
from flows.prefect_server import process
from flows.prefect_server.serve import ClientLog, end_when_idle

from .conftest import command
from .test_sweep import api

CLIENT, BROWSER = b"prefect/3.8.8 (API 0.8.4)", b"Mozilla/5.0 (X11; Linux x86_64)"
HOUR = 3600.0


class Clock:
    """A clock that is moved by hand, or by waiting."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


async def answer(scope, receive, send):
    """As an application that has nothing to say."""


def ask(log, path="/api/flow_runs/filter", agent=CLIENT):
    scope = {"type": "http", "path": path, "headers": [(b"user-agent", agent)]}
    asyncio.run(log(scope, None, None))


def test_a_server_ends_twelve_hours_after_its_last_client():
    clock = Clock()
    log = ClientLog(answer, clock)
    clock.now = 11 * HOUR
    ask(log)
    ended = []
    end_when_idle(log, 12 * HOUR, lambda: ended.append(clock.now), clock.wait)
    assert ended == [pytest.approx(23 * HOUR, abs=60)]


@pytest.mark.parametrize(("path", "agent"), [("/api/flow_runs/filter", BROWSER), ("/api/health", CLIENT)])
def test_a_forgotten_tab_and_who_asks_for_its_health_do_not_keep_a_server(path, agent):
    clock = Clock()
    log = ClientLog(answer, clock)
    clock.now = 5 * HOUR
    ask(log, path, agent)
    assert log.idle_seconds == 5 * HOUR


def test_the_hours_begin_when_the_server_has_started():
    clock = Clock()

    async def start(scope, receive, send):
        clock.now = 40 * HOUR
        assert log.idle_seconds == 0
        await send({"type": "lifespan.startup.complete"})

    async def heard(message):
        """As uvicorn, which opens the port now."""

    log = ClientLog(start, clock)
    asyncio.run(log({"type": "lifespan"}, None, heard))
    clock.now += HOUR
    assert log.idle_seconds == HOUR


def test_a_server_stays_while_a_flow_is_connected_however_long_it_says_nothing():
    clock = Clock()

    async def stay(scope, receive, send):
        clock.now = 40 * HOUR
        assert log.idle_seconds == 0

    log = ClientLog(stay, clock)
    asyncio.run(log({"type": "websocket", "path": "/api/events/in", "headers": []}, None, None))
    clock.now += HOUR
    assert log.idle_seconds == HOUR


def test_the_loops_that_are_slowed_down_are_prefect_s():
    """A variable that Prefect does not know would be ignored."""
    import prefect.settings

    for name, seconds in process._LOOPS.items():
        assert getattr(prefect.settings, f"PREFECT_SERVER_SERVICES_{name}").default() < seconds


@pytest.mark.parametrize("hours", ["0", "-1", "soon", "nan"])
def test_hours_that_are_none_are_refused(hours):
    with pytest.raises(UsageError, match=r"^server\.idle_hours "):
        make_plan((f"server.idle_hours={hours}",))


@pytest.mark.in_turns
def test_a_server_that_ended_by_itself_is_started_again_at_its_address_with_all_runs_there(tmp_path):
    assert command(tmp_path, "server", "start", "--idle-hours", "0.001").returncode == 0
    record = json.loads((tmp_path / "server.json").read_text())
    url = f"http://127.0.0.1:{record['port']}/api"
    flow = api(url, "/flows/", {"name": "kept"})["id"]
    psutil.Process(record["pid"]).wait(60)
    assert command(tmp_path, "server", "status").returncode == 1
    saved = tmp_path / "server.secret.json"
    saved.write_text(json.dumps({**json.loads(saved.read_text()), "idle_hours": 12}))  # or it would soon end again
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"]) as ending:  # as if it were still ending
        created = psutil.Process(ending.pid).create_time()
        (tmp_path / "server.json").write_text(json.dumps({**record, "pid": ending.pid, "created": created}))
        done = command(tmp_path, "server", "open", DISPLAY="")
    try:
        assert (done.returncode, done.stdout) == (0, f"Prefect UI: http://127.0.0.1:{record['port']}\n")
        assert api(url, f"/flows/{flow}")["name"] == "kept"
    finally:
        assert command(tmp_path, "server", "stop").stdout == "stopped\n"
