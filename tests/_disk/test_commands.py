"""python -m jaxcache: what it prints, what it changes, how it ends."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from jaxcache._cli.commands import main
from jaxcache._disk.imported_from import imported_from
from jaxcache._disk.jax_import import import_entries
from jaxcache._process.environment import export
from tests._support.interpreters import run_python


@pytest.fixture
def shared(open_cache):
    with open_cache(None, "1MiB", "gdsf") as cache:
        for number in range(4):
            cache.get(f"jit_f{number}-abc")
            cache.put(f"jit_f{number}-abc", b"x" * 1000 * (number + 1), float(4 - number))
        cache.get("jit_f0-abc")
    return cache.path


def told(capsys, *arguments):
    code = main([*map(str, arguments)])
    return code, capsys.readouterr().out


def test_stats_tell_hits_misses_seconds_and_bytes_and_begin_anew(shared, capsys):
    code, text = told(capsys, "stats", "--dir", shared)
    assert code == 0
    assert "hits            1 (20%)" in text
    assert "new           4" in text
    assert "of 1 MiB, eviction gdsf" in text
    _, text = told(capsys, "stats", "--dir", shared, "--json", "--reset")
    stats = json.loads(text)
    assert (stats["hits"], stats["misses"], stats["entries"]) == (1, 4, 4)
    assert stats["seconds_spent"] == pytest.approx(10, rel=0.1)
    assert json.loads(told(capsys, "stats", "--dir", shared, "--json")[1])["hits"] == 0


def test_stats_of_an_empty_directory_are_printed(tmp_path, capsys):
    code, text = told(capsys, "stats", "--dir", tmp_path)
    assert code == 0
    assert "hits            0\n" in text


@pytest.mark.parametrize(("order", "first"), [("largest", "jit_f3"), ("costliest", "jit_f0"), ("coldest", "jit_f1")])
def test_list_orders_the_entries(shared, capsys, order, first):
    _, text = told(capsys, "list", "--dir", shared, "--sort", order, "--json", "--top", "2")
    rows = json.loads(text)
    assert len(rows) == 2
    assert rows[0]["key"].startswith(first)
    assert first in told(capsys, "list", "--dir", shared, "--sort", order)[1].splitlines()[1]


def test_prune_keeps_to_a_limit_and_can_be_tried(shared, capsys):
    prune = ["prune", "--dir", shared, "--limit", "6KB", "--policy", "gdsf", "--json"]
    tried = json.loads(told(capsys, *prune, "--dry-run")[1])
    assert json.loads(told(capsys, "stats", "--dir", shared, "--json")[1])["entries"] == 4
    done = json.loads(told(capsys, *prune)[1])
    assert done["keys"] == tried["keys"] == ["jit_f3-abc", "jit_f2-abc"]
    stats = json.loads(told(capsys, "stats", "--dir", shared, "--json")[1])
    assert (stats["entries"], stats["eviction"]) == (2, "gdsf")
    assert stats["size_bytes"] <= 6000


def test_prune_removes_what_was_not_used_for_long(shared, capsys):
    assert "nothing to remove" in told(capsys, "prune", "--dir", shared, "--older-than", "1h")[1]
    assert "removed 4 entries" in told(capsys, "prune", "--dir", shared, "--older-than", "0s")[1]


def test_clear_removes_everything(shared, capsys):
    assert told(capsys, "list", "--dir", shared, "--top", "3")[1].endswith("and 1 more: --top 0 lists all\n")
    assert "removed 4 entries" in told(capsys, "clear", "--dir", shared)[1]
    assert not list(shared.rglob("*.entry"))
    assert told(capsys, "list", "--dir", shared)[1].startswith("no entries yet: ")
    assert json.loads(told(capsys, "list", "--dir", shared, "--json")[1]) == []
    assert told(capsys, "verify", "--dir", shared)[1] == "0 entries checked: none damaged\n"


def test_clear_removes_entries_that_the_index_of_another_host_alone_knows(shared, capsys, tmp_path, open_cache):
    with open_cache(tmp_path / "other") as other:
        other.put("jit_g-1", b"y" * 500, 1.0)
    (entry,) = (tmp_path / "other").rglob("*.entry")
    target = shared / entry.relative_to(tmp_path / "other")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(entry, target)
    paths = list(shared.rglob("*.entry"))
    fields = json.loads(told(capsys, "clear", "--dir", shared, "--json")[1])
    assert fields["removed"] == len(paths) == 5
    assert not list(shared.rglob("*.entry"))


def test_verify_ends_with_1_if_anything_was_bad(shared, capsys):
    assert told(capsys, "verify", "--dir", shared)[0] == 0
    os.truncate(next(shared.rglob("*.entry")), 100)
    code, text = told(capsys, "verify", "--dir", shared)
    assert code == 1
    assert "4 entries checked: 1 damaged, moved to quarantine" in text
    assert "truncated: 1" in text
    assert told(capsys, "verify", "--dir", shared)[0] == 0


def test_doctor_tells_what_keeps_programs_from_being_shared(shared, capsys):
    (next(shared.rglob("*.entry")).parent / "stray").write_bytes(b"?")
    next(shared.rglob("*.entry")).unlink()
    code, text = told(capsys, "doctor", "--dir", shared)
    assert code == 1
    assert "no entry is of this machine and JAX" in text
    assert "differs in authentication" not in text
    assert "1 entry is in the index without a file" in text
    assert "1 stray file among the entries" in text
    shared.chmod(0o777)
    assert "chmod -R go-w" in told(capsys, "doctor", "--dir", shared)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["stats", "--dir", "{tmp}/nothing"], "there is none at"), (["prune", "--dir", "{tmp}"], "prune needs --limit"),
     (["prune", "--dir", "{tmp}", "--older-than", "soon"], "such as 30d"),
     (["run", "--dir", "{tmp}"], "needs a program"),
     (["stats"], "--dir; see python -m jaxcache stats --help"), (["statt"], "'statt'"), ([], "COMMAND"),
     (["list", "--dir", "{tmp}", "--sort", "name"], "choose from"),
     (["prune", "--dir", "{tmp}", "--limit", "-3"], "--limit must be"),
     (["prune", "--dir", "{tmp}", "--max-entries", "-1"], "must be a whole number, 0 or more, but is '-1'"),
     (["list", "--dir", "{tmp}", "--top", "-3"], "must be a whole number, 0 or more, but is '-3'"),
     (["verify", "--dir", ""], "--dir must name a directory, but is empty"),
     (["run", "--dir", "", "no.py"], "--dir must name a directory, but is empty")],
)  # fmt: skip
def test_a_wrong_command_says_what_is_wrong_and_ends_with_2(tmp_path, capsys, arguments, said):
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "said"),
    [(["no.py"], "there is no program no.py"), (["-m", "no_such_module"], "no module no_such_module")],
)
def test_a_program_that_is_not_there_is_named_without_a_traceback(tmp_path, program, said):
    command = [sys.executable, "-m", "jaxcache", "run", "--dir", tmp_path, *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


PROGRAM = """
import multiprocessing, pickle, sys
import numpy as np, jax

class Own: pass

if __name__ == "__main__":
    import __main__
    assert isinstance(pickle.loads(pickle.dumps(Own())), Own) and __main__.Own is Own
    assert sys.argv[1:] == ["a", "--limit", "x", "-m", "y"], sys.argv
    assert not any("jaxcache" in name for name in globals())
    print(sys.argv[0], sys.path[0], jax.jit(lambda x: x + 1)(np.ones(2)).tolist())
    sys.exit(7)
"""


def test_run_runs_a_script_as_python_does(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    ends = [["-m", "jaxcache", "run", "--dir", tmp_path / "shared", "--limit", "1MiB"], [],
            ["-m", "jaxcache", "run", "--dir", tmp_path / "shared"]]  # fmt: skip
    runs = [
        subprocess.run([sys.executable, *map(str, begin), str(script), "a", "--limit", "x", "-m", "y"],
                       capture_output=True, text=True, timeout=60, check=False)
        for begin in ends
    ]  # fmt: skip
    assert [one.returncode for one in runs] == [7, 7, 7], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout == runs[2].stdout
    assert list((tmp_path / "shared").rglob("*.entry"))


def test_run_finds_the_scripts_file_and_leaves_the_path_to_who_wants_it_safe(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text("value = 3")
    (tmp_path / "program.py").write_text(
        "import os, sys\nos.chdir('/')\nimport mine\n"
        "print(open(__file__).read()[:6], sys.argv[0], mine.value, sys.path[:2])"
    )
    safe = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path / "lib")}
    runs = [
        subprocess.run([sys.executable, *begin, "program.py"], capture_output=True, text=True, timeout=60, check=False,
                       cwd=tmp_path, env=safe)
        for begin in (["-m", "jaxcache", "run", "--dir", str(tmp_path / "shared")], [])
    ]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout != "", runs[0].stderr


def test_run_runs_a_module_as_python_does(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("value = 3")
    (package / "__main__.py").write_text(
        "import sys\nfrom .part import value\nprint(__name__, __package__, value, sys.argv[1:], sys.argv[0])"
    )
    runs = [
        subprocess.run([sys.executable, *begin, "-m", "package", "--dir", "b"], capture_output=True, text=True,
                       timeout=60, check=False, cwd=tmp_path)
        for begin in (["-m", "jaxcache", "run", "--dir", str(tmp_path / "shared")], [])
    ]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout != "", runs[0].stderr


def test_import_takes_over_what_jax_has_kept_and_leaves_what_is_damaged(tmp_path, capsys, monkeypatch):
    jax_dir = tmp_path / "jax"
    monkeypatch.chdir(tmp_path)
    program = """
import sys, numpy as np, jax
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
for n in range(3): jax.jit(lambda x: x * 7 + n)(np.ones(3, np.float32))
"""
    run_python(program, jax_dir, check=True)
    os.truncate(sorted(jax_dir.glob("*-cache"))[0], 50)
    code, text = told(capsys, "import", "--dir", tmp_path / "shared", "jax")
    assert code == 1
    assert "imported 2 entries" in text
    assert "is damaged" in text
    reader = program.replace('jax.config.update("jax_compilation_cache_dir", sys.argv[1])',
                             "import jaxcache; cache = jaxcache.use_directory(sys.argv[1])")  # fmt: skip
    reader += "\nprint(cache.stats().process.hits, cache.stats().process.puts)"
    assert run_python(reader, tmp_path / "shared", check=True).stdout == "2 1\n"


def test_an_import_leaves_limit_and_policy_as_they_are_but_for_what_is_asked(shared, capsys, tmp_path):
    (tmp_path / "jax").mkdir()

    def state():
        fields = json.loads(told(capsys, "stats", "--dir", shared, "--json")[1])
        return fields["limit_bytes"], fields["eviction"]

    assert told(capsys, "import", "--dir", shared, tmp_path / "jax")[0] == 0
    assert state() == (1024**2, "gdsf")
    told(capsys, "import", "--dir", shared, tmp_path / "jax", "--limit", "2MiB")
    assert state() == (2 * 1024**2, "gdsf")
    told(capsys, "import", "--dir", shared, tmp_path / "jax", "--eviction", "lfu")
    assert state() == (2 * 1024**2, "lfu")
    assert imported_from(shared) is None  # nothing was: keys of JAX 0.10 stay what they are


def test_a_damaged_note_of_an_import_is_none(tmp_path):
    (tmp_path / "imported-from").write_bytes(b"\377\n")
    assert imported_from(tmp_path) is None


@pytest.mark.parametrize("command", [["stats"], ["stats", "--reset"], ["list"], ["doctor"],
                                     ["prune", "--limit", "1KB", "--dry-run"]])  # fmt: skip
@pytest.mark.parametrize("there", ["nothing", "another", "entries"])
def test_commands_that_only_look_make_nothing(tmp_path, shared, capsys, command, there):
    folder = tmp_path / there
    folder.mkdir()
    if there == "another":
        (folder / "notes.txt").write_text("mine")
    if there == "entries":  # of a directory whose index was removed
        shutil.copytree(shared / "entries", folder / "entries")
        next(folder.rglob("*.entry")).write_bytes(b"damaged")
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    _, text = told(capsys, *command, "--dir", folder, "--json")
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    if command == ["stats"]:
        assert json.loads(text)["entries"] == (3 if there == "entries" else 0)


@pytest.mark.parametrize("command", [["verify"], ["clear"], ["prune", "--limit", "1KB"], ["stats", "--reset"]])
def test_commands_that_change_leave_a_folder_alone_that_is_no_shared_directory(tmp_path, capsys, command):
    (tmp_path / "notes.txt").write_text("mine")
    assert told(capsys, *command, "--dir", tmp_path)[0] == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["notes.txt"]


@pytest.mark.parametrize("command", [["stats"], ["list"], ["prune", "--limit", "1KB", "--dry-run"]])
def test_an_index_that_cannot_be_used_is_not_shown_as_an_empty_one(tmp_path, command):
    (tmp_path / "index").write_text("a file in the place of the folder")
    script = [sys.executable, "-m", "jaxcache", *command, "--dir", str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "index" in done.stderr


def test_an_imported_entry_costs_the_same_however_many_there_are(tmp_path, open_cache):
    from jax._src import compilation_cache

    value = compilation_cache.compress_executable(compilation_cache.combine_executable_and_time(b"program", 3))
    steps = []

    def import_some(count):
        source = tmp_path / str(count)
        source.mkdir()
        for number in range(count):
            (source / f"jit_f{count}-{number}-cache").write_bytes(value)
        begun = len(steps)
        assert all(one.taken for one in import_entries(cache, source))
        cache.index.catch_up()
        return (len(steps) - begun) / count

    cache = open_cache()
    cache.put("first", b"value", 1.0)
    # Every ten steps of SQLite's machine.
    cache.index.database.change(lambda db: db.set_progress_handler(lambda: steps.append(1) and None, 10))
    few, many = import_some(20), import_some(300)
    assert many < 1.5 * few


WORKERS = """
import multiprocessing, subprocess, sys
def work(number):
    import numpy as np, jax
    assert "jaxcache" not in globals()
    return jax.jit(lambda x: x * 3 + 1)(np.ones(number + 2, np.float32)).tolist()[0]
if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map(work, [1, 2]) == [4, 4]
            pool.close()
            pool.join()  # what is killed does not count its last hits
    code = "import numpy, jax; jax.jit(lambda x: x * 5 - 2)(numpy.ones(9, numpy.float32))"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_processes_that_a_program_starts_use_the_directory_too(tmp_path, capsys):
    (tmp_path / "program.py").write_text(WORKERS)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('own sitecustomize')")
    shared = tmp_path / "shared"
    command = [sys.executable, "-m", "jaxcache", "run", "--dir", str(shared), "--limit", "9MiB", "--eviction", "gdsf",
               str(tmp_path / "program.py")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "PYTHONPATH": str(tmp_path / "site")})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("own sitecustomize") >= 4  # the program's, and that of each process
    stats = json.loads(told(capsys, "stats", "--dir", shared, "--json")[1])
    assert (stats["puts"], stats["hits"]) == (3, 2)  # the second pool reads what the first has compiled
    assert (stats["limit_bytes"], stats["eviction"]) == (9 * 1024**2, "gdsf")


NAMED = """
import numpy, jax{more}
jax.jit(lambda x: x * 5 - 2)(numpy.ones(9, numpy.float32))
"""


@pytest.mark.parametrize(
    ("more", "variables", "entries", "warned"),
    [("", {"JAXCACHE_DIR": "{shared}"}, 0, ""), (", jaxcache", {}, 0, ""), (", jaxcache", {"JAXCACHE_DIR": ""}, 0, ""),
     (", jaxcache", {"JAXCACHE_DIR": "{shared}"}, 1, ""),
     (", jaxcache", {"JAXCACHE_DIR": "{shared}", "JAXCACHE_MIN_ENTRY_BYTES": "9MiB"}, 0, ""),
     (", jaxcache", {"JAXCACHE_DIR": "{shared}", "JAXCACHE_LIMIT": "much"}, 0, "is not used: limit must be"),
     (", jaxcache", {"JAXCACHE_DIR": "{shared}", "JAXCACHE_MAX_ENTRIES": "x"}, 0, "JAXCACHE_MAX_ENTRIES must be")],
)  # fmt: skip
def test_only_a_variable_turns_the_directory_on_by_import(tmp_path, more, variables, entries, warned):
    environment = {name: value.format(shared=tmp_path / "shared") for name, value in variables.items()}
    done = subprocess.run([sys.executable, "-c", NAMED.format(more=more)], capture_output=True, text=True, timeout=60,
                          check=True, env={**os.environ, **environment})  # fmt: skip
    assert len(list(tmp_path.rglob("*.entry"))) == entries
    assert (warned in done.stderr, "Traceback" in done.stderr) == (True, False), done.stderr


def test_what_run_was_told_reaches_the_processes_that_it_starts(tmp_path):
    environment = {"JAXCACHE_KEY_FILE": "/a/key", "JAXCACHE_MAX_ENTRIES": "7", "PYTHONPATH": "/own"}
    options = {"limit": "1GiB", "max_entries": None, "wait_seconds": 0.0, "verify": 0.5, "key_file": None}
    for _ in range(2):  # a run within a run
        export(environment, tmp_path, {**options, "explain": False})
    start = environment.pop("PYTHONPATH").split(os.pathsep)
    assert (len(start), start[1]) == (2, "/own")
    assert environment == {"JAXCACHE_DIR": str(tmp_path), "JAXCACHE_KEY_FILE": "/a/key", "JAXCACHE_LIMIT": "1GiB",
                           "JAXCACHE_WAIT_SECONDS": "0.0", "JAXCACHE_VERIFY": "0.5"}  # fmt: skip


def test_commands_take_the_directory_of_the_variable_and_turn_nothing_on(tmp_path, shared):
    words = [sys.executable, "-X", "importtime", "-m", "jaxcache", "stats"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "JAXCACHE_DIR": str(shared)})  # fmt: skip
    assert "entries         4, " in done.stdout
    assert "eviction gdsf" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "jaxcache._disk.disk_cache" in imported
    assert "jax" not in imported


def test_commands_that_look_after_a_directory_do_not_wait_for_jax(tmp_path, shared):
    store = (tmp_path / "store").as_uri()
    words = (["list"], ["verify"], ["push", store], ["pull", store], ["prune", "--older-than", "1d"], ["clear"])
    program = "import sys; from jaxcache._cli.commands import main\n"
    program += f"print([main([*words, '--dir', sys.argv[1]]) for words in {words}], 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, shared], capture_output=True, text=True, timeout=60,
                          check=True, cwd=tmp_path)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 0] False", done.stdout + done.stderr
