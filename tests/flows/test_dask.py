"""Sweeps whose trials run in Dask workers. Separate processes with directories of their own stand in for hosts."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from jaxcache.lab.running.progress_file import read_progress

from .conftest import PROGRAMS, PROJECT, SMALL, command, environment, newest, run_sweep
from .test_sweep import COMPILING, decisions, results


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(*words, cwd=PROJECT, **more):
    """Run a process of the cluster; end it and its children afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=cwd, env={**os.environ, **more},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.kill()
        process.communicate()


@contextlib.contextmanager
def scheduling(protocol="tcp", **more):
    port = free_port()
    words = ("--protocol", protocol, "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    with started("distributed.cli.dask_scheduler", *words, **more) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                yield f"{protocol}://127.0.0.1:{port}", process
                return
            time.sleep(0.1)
        raise TimeoutError("the scheduler does not answer")


@pytest.fixture
def scheduler():
    with scheduling() as found:
        yield found


def host(address, scratch, **more):
    words = ("--device", "cpu", "--workers", "1", "--scratch", str(scratch))
    return started("flows.worker", address, *words, **more)


def wait_for(found, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.05)
    raise TimeoutError


def until_ready(*hosts):
    for process in hosts:
        assert "Ready.\n" in iter(process.stdout.readline, "")


def dask_processes(process):
    """Return the Dask workers of a host: neither the nanny that watches them nor the trials."""
    return [c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())]


def trials_of(process):
    """Return the processes of a host that run a trial: they have a session of their own."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(child.pid) == child.pid:
                found.append(child)
    return found


def test_dask_decides_as_the_local_runner_does(first_sweep, prefect_home, tmp_path):
    _, _, local = first_sweep
    costs = f"costs={local / 'costs.json'}"
    done = run_sweep(prefect_home, tmp_path, *PROGRAMS, "runner=dask", "runner.workers=1", costs, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "distributed" not in done.stderr
    assert decisions(newest(tmp_path)) == decisions(local)
    ours, theirs = results(local), results(newest(tmp_path))
    assert {name: one["checksum"] for name, one in ours.items()} == {n: one["checksum"] for n, one in theirs.items()}
    assert {one["config"]["persistent"]["directory"] for one in theirs.values()} == {str(tmp_path / "cache")}
    assert (newest(tmp_path) / "report.html").exists()


def hits_so_far(outputs):
    """Return what the live table reads of trials that run elsewhere."""
    found = [read_progress(path) for path in outputs.glob("20*/trials/*/scratch")]
    return [one.hit_rate for one in found if one is not None and one.requests == int(COMPILING[-1].partition("=")[2])]


def sweeping(home, outputs, *words):
    """Start a sweep and do not wait for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.sweep", *words, f"sweep.directory={outputs}"], cwd=PROJECT, env=environment(home),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.in_turns
def test_killed_workers_and_killed_sweeps_lose_no_trial_and_leave_no_process(prefect_home, scheduler, tmp_path):
    address, _ = scheduler
    words = ("seed=0,1", "runner=dask", f"runner.address={address}", *COMPILING)
    with host(address, tmp_path / "a") as first, host(address, tmp_path / "b") as second:
        until_ready(first, second)
        sweep = sweeping(prefect_home, tmp_path / "outputs", *words)
        ran = {child.pid for child in wait_for(lambda: trials_of(first))}
        dask_processes(first)[0].kill()
        wait_for(lambda: {child.pid for child in trials_of(first)} - ran)  # Dask gave it to a worker again
        wait_for(lambda: hits_so_far(tmp_path / "outputs"))
        sweep.send_signal(signal.SIGINT)
        out, error = sweep.communicate(timeout=60)
        assert sweep.returncode == 130, out + error
        wait_for(lambda: not trials_of(first) and not trials_of(second))

        sweep = sweeping(prefect_home, tmp_path / "outputs", *words)
        wait_for(lambda: trials_of(first) or trials_of(second))  # the other trial may have ended before the interrupt
        sweep.kill()
        sweep.communicate()
        wait_for(lambda: not trials_of(first) and not trials_of(second))

        done = run_sweep(prefect_home, tmp_path / "outputs", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 of 2 trials succeeded" in done.stdout
        assert len([path for path in (tmp_path / "outputs").iterdir() if path.name.startswith("20")]) == 1
        assert not list((tmp_path / "outputs").rglob("scratch"))


def test_without_a_scheduler_nothing_starts(prefect_home, tmp_path):
    address = f"tcp://127.0.0.1:{free_port()}"
    done = run_sweep(prefect_home, tmp_path, "runner=dask", f"runner.address={address}")
    assert done.returncode == 2
    assert re.fullmatch(
        rf"sweep: no Dask scheduler answers at runner.address={address} \(.*\); start one with: dask scheduler\n",
        done.stderr,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("place", ["tcp://127.0.0.1:{}", "no address"])
def test_a_worker_says_in_one_line_that_no_scheduler_answers(place):
    address = place.format(free_port())
    with started("flows.worker", address, "--device", "cpu", "--workers", "1") as worker:
        said, _ = worker.communicate(timeout=60)
        assert worker.returncode == 2
    assert re.fullmatch(
        rf"1 worker .* Connecting …\nworker: no Dask scheduler answers at {address} \(.*\); "
        r"start one with: dask scheduler\n",
        said,
    )


def test_a_cluster_that_cannot_do_the_work_is_refused_with_the_reason(prefect_home, scheduler, other_sources, tmp_path):
    address, _ = scheduler
    words = ("runner=dask", f"runner.address={address}")
    done = run_sweep(prefect_home, tmp_path, *words)
    assert done.returncode == 2
    assert (
        done.stderr == f"sweep: no worker is connected to {address}; start some, on each machine: "
        f"python -m flows.worker {address}\n"
    )

    with started("flows.worker", address, "--device", "cpu", "--workers", "1", **other_sources) as process:
        until_ready(process)
        done = run_sweep(prefect_home, tmp_path, *words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "runs other sources than this; check out the same commit" in done.stderr


@pytest.fixture(scope="module")
def other_sources(tmp_path_factory):
    """A checkout in which a source differs."""
    other = tmp_path_factory.mktemp("checkout")
    for name in ("flows", "conf", "src"):
        shutil.copytree(PROJECT / name, other / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "src/jaxcache/_policies/sieve.py").open("a") as source:
        source.write("# another version\n")
    return {"cwd": other, "PYTHONPATH": f"{other / 'src'}:{other}"}


def listening(process):
    return {one.laddr.ip for one in psutil.Process(process.pid).net_connections("tcp") if one.status == "LISTEN"}


@pytest.mark.in_turns
def test_a_worker_that_comes_later_and_differs_is_given_nothing(prefect_home, scheduler, other_sources, tmp_path):
    address, _ = scheduler
    words = ("runner=dask", f"runner.address={address}", *COMPILING)
    one = ("flows.worker", address, "--device", "cpu", "--workers", "1")
    with host(address, tmp_path / "a") as first:
        until_ready(first)
        assert listening(dask_processes(first)[0]) == {"127.0.0.1"}  # as the scheduler; else anyone could run code
        sweep = sweeping(prefect_home, tmp_path / "outputs", *words)
        under_way = wait_for(lambda: trials_of(first))
        for trial in under_way:
            trial.suspend()  # or the sweep may have ended before the other worker is there
        with started(*one, **other_sources) as wrong:
            until_ready(wrong)
            first.terminate()
            for trial in under_way:
                with contextlib.suppress(psutil.NoSuchProcess):
                    trial.resume()
            refused = "runs other sources than this; check out the same commit: it is given nothing."
            assert refused in wait_for_line(sweep.stderr, "it is given nothing")
            with host(address, tmp_path / "b"):
                out, error = sweep.communicate(timeout=200)
        assert sweep.returncode == 0, out + error


def wait_for_line(stream, words):
    return next(line for line in iter(stream.readline, "") if words in line)


@pytest.mark.in_turns
def test_without_its_scheduler_a_sweep_stops_and_says_how_to_go_on(prefect_home, scheduler, tmp_path):
    address, process = scheduler
    words = ("runner=dask", f"runner.address={address}", *COMPILING)
    with host(address, tmp_path / "a") as only:
        until_ready(only)
        sweep = sweeping(prefect_home, tmp_path / "outputs", *words)
        wait_for(lambda: trials_of(only))
        process.kill()
        out, error = sweep.communicate(timeout=60)
        assert sweep.returncode == 130, out + error
        assert "The Dask scheduler is gone: stopping.\n" in error
        assert "Traceback" not in error, error
        assert f"python -m flows.sweep sweep.resume={tmp_path}" in out


@pytest.mark.in_turns
@pytest.mark.skipif(shutil.which("openssl") is None, reason="docs/many-machines.md makes the key with openssl")
def test_with_the_documented_tls_only_who_has_the_key_gets_in(prefect_home, tmp_path):
    safety = (PROJECT / "docs/many-machines.md").read_text().partition("## Safety")[2]
    made = subprocess.run(
        ["bash", "-ec", f"{safety.split('```')[1]}\nenv"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    keys = dict(line.split("=", 1) for line in made.stdout.splitlines() if line.startswith("DASK_"))
    with scheduling("tls", **keys) as (address, _), host(address, tmp_path / "a", **keys) as only:
        until_ready(only)
        words = ("runner=dask", *COMPILING, f"sweep.directory={tmp_path / 'outputs'}")
        for stranger in (address, address.replace("tls:", "tcp:")):
            done = command(prefect_home, "sweep", *words, f"runner.address={stranger}")
            assert done.returncode == 2, done.stdout + done.stderr
            assert done.stderr.startswith(f"sweep: no Dask scheduler answers at runner.address={stranger} (")
            assert done.stderr.count("\n") == 1
        done = command(prefect_home, "sweep", *words, f"runner.address={address}", **keys)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 of 1 trial succeeded" in done.stdout
