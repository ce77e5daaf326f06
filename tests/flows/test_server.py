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
    """The URL of a database of a PostgreSQL server of the tests' own, which asks for a password; None without one."""
    programs = postgres_programs()
    if programs is None:
        yield None
        return
    place, user = Path(tempfile.mkdtemp(prefix="jaxcache-postgres-", dir="/tmp")), unprivileged()
    (place / "password").write_text(PASSWORD)
    if user is not None:
        for path in (place, place / "password"):
            shutil.chown(path, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program, *words):
        with (place / "said").open("a") as said:  # a file: the server keeps a pipe open
            done = subprocess.run(
                [programs / program, "-D", place / "data", *words], user=user, cwd=place, stdout=said,
                stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"]}, timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode == 0, (place / "said").read_text()

    run("initdb", "-U", "jaxcache", "--auth=scram-sha-256", f"--pwfile={place / 'password'}", "--no-sync")
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "-w", "-l", place / "log", "-o", options, "start")
    yield f"postgresql://jaxcache:{PASSWORD.replace('@', '%40')}@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def database(postgres):
    if postgres is None:
        pytest.skip("no PostgreSQL on this machine: install postgresql, or put initdb and pg_ctl on PATH")
    return postgres


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, postgres):
    """The home of a server that listens on every address, asks for an auth string and, where there is PostgreSQL, keeps
    its records there; and what its start said."""
    home = tmp_path_factory.mktemp("guarded")
    words = () if postgres is None else ("--database", postgres)
    done = command(home, "server", "start", "--host", "0.0.0.0", *words, PREFECT_SERVER_API_AUTH_STRING=AUTH)
    assert done.returncode == 0, done.stdout + done.stderr
    yield home, done.stdout + done.stderr
    assert command(home, "server", "stop").stdout == "stopped\n"


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (("--host", "0.0.0.0"), {}, "--host 0.0.0.0 can be reached from other machines: set "
         "PREFECT_SERVER_API_AUTH_STRING=user:password in the environment, or give --auth-file FILE"),
        (("--host", "no such host"), {}, "--host must be an IPv4 address or a name of this machine, such as 0.0.0.0"),
        (("--idle-hours", "0"), {}, "--idle-hours must be a number above 0, such as 12, or inf for never, but is '0'"),
        ((), {"PREFECT_SERVER_API_AUTH_STRING": "sesame"}, "PREFECT_SERVER_API_AUTH_STRING must be of the form"),
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
    assert done.stderr == f"--auth-file {path} can be read by others; run: chmod 600 {path}\n"


@pytest.mark.in_turns
def test_a_guarded_server_answers_only_who_knows_the_auth_string(guarded):
    home, _ = guarded
    assert status(f"{address(home)}/api/admin/version") == 401
    assert status(f"{address(home)}/api/admin/version", "somebody:else") == 401
    assert status(f"{address(home)}/api/admin/version", AUTH) == 200
    assert status(f"{address(home)}/api/health") == 200
    assert json.loads(urllib.request.urlopen(f"{address(home)}/ui-settings", timeout=20).read())["auth"] == "BASIC"


def test_another_page_of_the_browser_may_neither_read_the_server_nor_start_anything(guarded):
    home, _ = guarded

    def allowed(origin):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        request = urllib.request.Request(f"{address(home)}/api/flow_runs/filter", headers=asked, method="OPTIONS")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.headers["Access-Control-Allow-Origin"]
        except urllib.error.HTTPError as error:
            return error.headers["Access-Control-Allow-Origin"]

    assert allowed("http://elsewhere.example") is None
    assert allowed(address(home)) == address(home)


def test_the_address_of_a_server_s_ui_is_refused_with_that_of_its_api(guarded):
    home, _ = guarded
    done = command(home, "deploy", PREFECT_API_URL=address(home))
    assert done.returncode == 2
    assert done.stderr == (
        f"deploy: PREFECT_API_URL={address(home)} is a server's UI; write PREFECT_API_URL={address(home)}/api\n"
    )


def test_a_running_server_is_not_taken_for_one_with_other_settings(guarded):
    home, _ = guarded
    assert command(home, "server", "start").returncode == 0
    done = command(home, "server", "start", "--host", "127.0.0.1")
    assert done.returncode == 2
    assert done.stderr.endswith("auth string, database or idle hours; python -m flows.server stop, then try again\n")


@pytest.fixture(scope="module")
def sweep_after_a_crash(guarded, tmp_path_factory):
    """A sweep that finds its server killed, and what it wrote; and where the server was."""
    home, _ = guarded
    before, outputs = address(home), tmp_path_factory.mktemp("outputs")
    kill_server(home)
    return command(home, "sweep", *SMALL, f"sweep.directory={outputs}"), outputs, before


@pytest.mark.in_turns
def test_a_sweep_starts_a_killed_server_again_as_it_was_and_uses_it(guarded, sweep_after_a_crash):
    home, _ = guarded
    done, _, before = sweep_after_a_crash
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 trial succeeded" in done.stdout
    assert address(home) == before
    assert json.loads((home / "server.json").read_text())["host"] == "0.0.0.0"
    assert status(f"{before}/api/admin/version") == 401
    assert status(f"{before}/api/admin/version", AUTH) == 200


def test_secrets_are_in_one_private_file_and_nowhere_else(guarded, sweep_after_a_crash, postgres):
    home, said = guarded
    done, outputs, _ = sweep_after_a_crash
    server = psutil.Process(json.loads((home / "server.json").read_text())["pid"])
    lines = [" ".join(one.cmdline()) for one in (server, *server.children(recursive=True))]
    told = "\n".join((said, done.stdout, done.stderr, *lines))
    for secret in ("open-sesame", *(() if postgres is None else (PASSWORD, PASSWORD.replace("@", "%40")))):
        assert secret not in told
        assert set(files_with(home, secret)) <= {"server.secret.json"}
        assert files_with(outputs, secret) == []
    assert "open-sesame" in (home / "server.secret.json").read_text()
    assert stat.S_IMODE((home / "server.secret.json").stat().st_mode) == 0o600


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


def test_a_wrong_password_of_a_database_is_told_without_it(database, tmp_path):
    url = database.replace("s3same%40home", "guessed")
    done = command(tmp_path / "home", "server", "start", "--database", url)
    assert done.returncode == 2
    assert 'password authentication failed for user "jaxcache"' in done.stderr
    assert "guessed" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_sweeps_are_recorded_in_postgres_also_by_a_server_that_was_started_again(
    database, guarded, sweep_after_a_crash
):
    home, _ = guarded
    assert count(database, "flow_run WHERE state_type = 'COMPLETED'") == 1
    assert count(database, "task_run WHERE state_type = 'COMPLETED'") >= 2
    assert count(database, "artifact") >= 4
    assert not (home / "prefect.db").exists()
