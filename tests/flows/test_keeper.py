"""The Prefect server goes away while it is needed."""

import json
import os
import socket
import subprocess
import sys
import threading

import psutil
import pytest
from filelock import FileLock

from flows.prefect_server import ports, process

from .conftest import PROJECT, command, environment, newest
from .test_sweep import COMPILING, flow_run_of, results, start_sweep, task_runs_of, wait_for


@pytest.mark.in_turns
def test_the_project_s_server_is_started_again_and_has_every_state(server, prefect_home, tmp_path):
    process = start_sweep(prefect_home, tmp_path, *COMPILING, "eviction=lru,gdsf")
    wait_for(process, tmp_path, "20*/trials/*/stderr.txt")
    told = json.loads((prefect_home / "server.json").read_text())
    psutil.Process(told["pid"]).kill()
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "sweep: the Prefect server went away; starting it again, trials go on" in output
    assert len(results(newest(tmp_path))) == 2
    assert json.loads((prefect_home / "server.json").read_text())["port"] == told["port"]
    flow_run = flow_run_of(server, newest(tmp_path))
    assert flow_run["state"]["type"] == "COMPLETED"
    tasks = task_runs_of(server, flow_run, lambda found: {task["state_type"] for task in found} == {"COMPLETED"})
    assert [task["state_type"] for task in tasks] == ["COMPLETED"] * 4


WITHOUT_A_SERVER = """
import os, sys, time
from pathlib import Path
from flows.prefect_server import watchdog

def leave(place):
    print("left", place)
    return 7

watchdog._LOOK_SECONDS = watchdog._MISSED_SECONDS = 0.2
with watchdog.watching(leave):
    if sys.argv[1] == "gone first":
        time.sleep(2)
    print("trials have ended", flush=True)
    watchdog.finish(Path("here"))
    print("Prefect is asked", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("order", ["gone first", "ended first"])
def test_a_sweep_whose_server_is_gone_for_good_ends_by_itself(tmp_path, order):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_SERVER, order], cwd=PROJECT, env=environment(tmp_path, PREFECT_API_URL=nobody),
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "left here" in done.stdout
    assert done.stderr == (
        f"sweep: PREFECT_API_URL={nobody} does not answer any more; start that server again for the next sweep. "
        "Trials go on and their results are kept; Prefect's record of this sweep ends here.\n"
    )


def test_a_server_that_was_killed_gets_its_port_back_as_soon_as_it_has_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "HOME", tmp_path)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        (tmp_path / "server.json").write_text(json.dumps({"pid": 2**22, "created": 0.0, "port": port}))
        letting_go = threading.Timer(0.3, held.close)
        letting_go.start()
        found, reservation = process._free_port()
        os.close(reservation)
        assert found == port
        letting_go.join()


def test_who_starts_a_server_while_one_is_being_stopped_waits_and_is_not_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "HOME", tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        told = {"pid": living.pid, "created": psutil.Process(living.pid).create_time(), "port": 1}
        stopping = threading.Thread(target=process.stop)
        with FileLock(tmp_path / "server.lock"):  # a sweep starts one just now
            stopping.start()
            stopping.join(0.3)
            (tmp_path / "server.json").write_text(json.dumps(told))
            assert stopping.is_alive()
        stopping.join()
        living.wait(10)  # it is what was stopped
    assert not (tmp_path / "server.json").exists()


def test_a_port_that_another_has_taken_for_good_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "HOME", tmp_path)
    monkeypatch.setattr(ports, "_RELEASE_SECONDS", 0.1)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        (tmp_path / "server.json").write_text(json.dumps({"pid": 2**22, "created": 0.0, "port": port}))
        found, reservation = process._free_port()
        os.close(reservation)
        assert found != port


def test_a_server_that_was_stopped_gets_its_port_again_so_that_links_of_reports_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "HOME", tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        wanted = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        told = {"pid": living.pid, "created": psutil.Process(living.pid).create_time(), "port": wanted}
        (tmp_path / "server.json").write_text(json.dumps(told))
        assert process.stop()
        living.wait(10)
    found, reservation = process._free_port()
    os.close(reservation)
    assert found == wanted


def test_a_project_without_a_server_so_far_gets_the_same_port_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "HOME", tmp_path)
    with socket.socket() as other:  # as if it were another project's server
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        monkeypatch.setattr(ports, "_PORTS", range(taken, taken + 100))
        found = []
        for _ in range(3):
            port, reservation = process._free_port()
            found.append(port)
            os.close(reservation)
    assert len(set(found)) == 1
    assert found[0] != taken


def test_a_port_whose_reservation_outlives_its_socket_is_waited_for(tmp_path, monkeypatch):
    """The kernel closes the files of a killed process one by one."""
    monkeypatch.setattr(process, "HOME", tmp_path)
    port, reservation = process._free_port()
    (tmp_path / "server.json").write_text(json.dumps({"pid": 2**22, "created": 0.0, "port": port}))
    closing = threading.Timer(0.3, os.close, (reservation,))
    closing.start()
    found, again = process._free_port()
    os.close(again)
    closing.join()
    assert found == port


@pytest.mark.in_turns
def test_projects_that_start_their_servers_at_one_moment_have_a_port_each(make_home):
    homes = [make_home(name) for name in ("one", "other")]
    starting = [
        subprocess.Popen([sys.executable, "-m", "flows.server", "start"], cwd=PROJECT, env=environment(home),
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for home in homes
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=240)[0] for process in starting]
        assert [process.returncode for process in starting] == [0, 0], outputs
        assert len({json.loads((home / "server.json").read_text())["port"] for home in homes}) == 2
    finally:
        ended = [command(home, "server", "stop").stdout for home in homes]
    assert ended == ["stopped\n"] * 2
