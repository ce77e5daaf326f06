"""The project's Prefect server: who may use it, and where it keeps its records. Real servers, a real PostgreSQL."""

import base64
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from .conftest import command

AUTH = "somebody:open-sesame"
PASSWORD = "s3same@home"
SMALL = ("eviction=lru", "workload=monte_carlo", "workload.requests=4", "shapes.distinct=2", "shapes.largest=16",
         "memory_limit=8MiB", "persistent=off")  # fmt: skip


def address(home) -> str:
    return f"http://127.0.0.1:{json.loads((home / 'server.json').read_text())['port']}"


def status(url, auth=None) -> int:
    request = urllib.request.Request(url)
    if auth:
        request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def kill_server(home) -> None:
    """As a crash of the machine would: nothing is tidied up."""
    process = psutil.Process(json.loads((home / "server.json").read_text())["pid"])
    process.kill()
    process.wait(10)


def files_with(place: Path, text: str) -> list[str]:
    return [path.name for path in place.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def command_lines() -> str:
    return "\n".join(" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The home of a server that listens on every address and asks for an auth string, and what its start said."""
    home = tmp_path_factory.mktemp("guarded")
    done = command(home, "server", "start", "--host", "0.0.0.0", PREFECT_SERVER_API_AUTH_STRING=AUTH)
    assert done.returncode == 0, done.stdout + done.stderr
    yield home, done.stdout + done.stderr
    assert command(home, "server", "stop").stdout == "stopped\n"


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (("--host", "0.0.0.0"), {}, "--host 0.0.0.0 can be reached from other machines: set "
         "PREFECT_SERVER_API_AUTH_STRING=user:password in the environment, or give --auth-file FILE"),
        (("--host", "no such host"), {}, "--host must be an IPv4 address or a name of this machine, such as 0.0.0.0"),
        ((), {"PREFECT_SERVER_API_AUTH_STRING": "sesame"}, "PREFECT_SERVER_API_AUTH_STRING must be of the form user:pas"),
        (("--auth-file", "nowhere"), {}, "--auth-file nowhere cannot be read (No such file or directory)"),
        (("--database", "mysql://me:sesame@host/x"), {}, "--database must be such as postgresql://user@host/name, but "
         "is of scheme 'mysql'"),
        (("--database", "records"), {}, "--database must be such as postgresql://user@host/name, but is no URL"),
        (("--database", "postgresql://me:sesame@127.0.0.1:9/x"), {}, "--database postgresql://me@127.0.0.1:9/x cannot "
         "be used ("),
    ],
)  # fmt: skip
def test_what_is_unsafe_or_cannot_be_is_refused_in_one_line_and_starts_nothing(words, more, message, tmp_path):
    done = command(tmp_path / "home", "server", "start", *words, **more)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert "sesame" not in done.stderr
    assert not (tmp_path / "home").exists()


def test_an_auth_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "auth"
    path.write_text(f"{AUTH}\n")
    path.chmod(0o644)
    done = command(tmp_path / "home", "server", "start", "--auth-file", str(path))
    assert done.returncode == 2
    assert done.stderr == f"--auth-file {path} can be read by others; chmod 600 it\n"


def test_a_guarded_server_answers_only_who_knows_the_auth_string(guarded):
    home, _ = guarded
    assert status(f"{address(home)}/api/admin/version") == 401
    assert status(f"{address(home)}/api/admin/version", "somebody:else") == 401
    assert status(f"{address(home)}/api/admin/version", AUTH) == 200
    assert status(f"{address(home)}/api/health") == 200
    assert json.loads(urllib.request.urlopen(f"{address(home)}/ui-settings", timeout=20).read())["auth"] == "BASIC"


def test_a_running_server_is_not_taken_for_one_with_other_settings(guarded):
    home, _ = guarded
    assert command(home, "server", "start").returncode == 0
    done = command(home, "server", "start", "--host", "127.0.0.1")
    assert done.returncode == 2
    assert done.stderr.endswith("with another host, auth string or database; make stop, then try again\n")


def test_a_sweep_starts_a_killed_server_again_as_it_was_and_uses_it(guarded, tmp_path):
    home, said = guarded
    before = address(home)
    kill_server(home)
    done = command(home, "sweep", *SMALL, f"sweep.directory={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 trials succeeded" in done.stdout
    assert address(home) == before
    assert json.loads((home / "server.json").read_text())["host"] == "0.0.0.0"
    assert status(f"{before}/api/admin/version") == 401
    assert "open-sesame" not in said + done.stdout + done.stderr + command_lines()
    assert files_with(home, "open-sesame") == ["server.secret.json"]
    assert files_with(tmp_path, "open-sesame") == []
    assert stat.S_IMODE((home / "server.secret.json").stat().st_mode) == 0o600


# PostgreSQL


def postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    places = [place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()]
    return places[-1] if places else None


def unprivileged() -> str | None:
    """Return who is to run PostgreSQL, which refuses root; None is this user."""
    if os.geteuid() != 0:
        return None
    names = {one.pw_name for one in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


@pytest.fixture(scope="module")
def postgres():
    """The URL of a database of a PostgreSQL server of the tests' own, which asks for a password."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine: install postgresql, or put initdb and pg_ctl on PATH")
    place, user = Path(tempfile.mkdtemp(prefix="jaxcache-postgres-", dir="/tmp")), unprivileged()
    (place / "password").write_text(PASSWORD)
    if user is not None:
        for path in (place, place / "password"):
            shutil.chown(path, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def postgres(program, *words):
        done = subprocess.run(
            [programs / program, "-D", place / "data", *words], user=user, cwd=place, env={"PATH": os.environ["PATH"]},
            stdout=(place / "said").open("a"), stderr=subprocess.STDOUT, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (place / "said").read_text()

    postgres("initdb", "-U", "jaxcache", "--auth=scram-sha-256", f"--pwfile={place / 'password'}", "--no-sync")
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    postgres("pg_ctl", "-w", "-l", place / "log", "-o", options, "start")
    yield f"postgresql://jaxcache:{PASSWORD.replace('@', '%40')}@127.0.0.1:{port}/postgres"
    postgres("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(place)


def count(url, table) -> int:
    import asyncio

    import asyncpg

    async def ask() -> int:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(f"SELECT count(*) FROM {table}")
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_a_wrong_password_of_a_database_is_told_without_it(postgres, tmp_path):
    url = postgres.replace("s3same%40home", "guessed")
    done = command(tmp_path / "home", "server", "start", "--database", url)
    assert done.returncode == 2
    assert 'password authentication failed for user "jaxcache"' in done.stderr
    assert "guessed" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_sweeps_are_recorded_in_postgres_also_by_a_server_that_was_killed_and_started_again(postgres, tmp_path):
    home, outputs = tmp_path / "home", tmp_path / "outputs"
    try:
        started = command(home, "server", "start", "--database", postgres)
        assert started.returncode == 0, started.stdout + started.stderr
        kill_server(home)
        done = command(home, "sweep", *SMALL, f"sweep.directory={outputs}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert count(postgres, "flow_run") == 1
        assert count(postgres, "task_run WHERE state_type = 'COMPLETED'") >= 2
        assert not (home / "prefect.db").exists()
        said = started.stdout + started.stderr + done.stdout + done.stderr + command_lines()
        for secret in (PASSWORD, PASSWORD.replace("@", "%40")):
            assert secret not in said.replace(postgres, "")
            assert set(files_with(home, secret)) <= {"server.secret.json"}
            assert files_with(outputs, secret) == []
    finally:
        assert command(home, "server", "stop").stdout == "stopped\n"
