"""``python -m jaxcache run`` leaves an unchanged program as it is under Python alone, but for what it was told."""

import ast
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

import jaxcache

PROGRAM = """
import atexit, multiprocessing, os, pickle, signal, sys
import jax, numpy as np

class Own:
    pass

def work(n):
    import numpy as np
    f = jax.jit(lambda x: x * n)
    return float(f(np.ones(2, np.float32))[0]), type(f).__module__.split(".")[0]

if __name__ == "__main__":
    atexit.register(lambda: print("bye", flush=True))
    print(sys.argv[1:], __file__.endswith("program.py"), __spec__, pickle.loads(pickle.dumps(Own())).__class__ is Own)
    f = jax.jit(lambda x: x + 1)
    for n in range(1, 5):
        f(np.ones(n))
    what = sys.argv[1]
    if what == "spawn":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(work, [1, 2]))
    if what == "fork" and os.fork() == 0:
        sys.exit(0)
    if what == "raise":
        raise ValueError("boom")
    if what == "kill":
        print("ready", flush=True)
        signal.pause()
    sys.exit(int(what) if what.isdecimal() else 0)
"""


TRACING = """
import jax, numpy as np
import jaxcache

@jax.jit
def f(x):
    y = x.reshape(-1, 1)
    print("traced", y.aval.str_short())
    return y

first, second = f(np.zeros(2, np.float32)), f(np.ones(3, np.float32))
print(np.sum(first), np.sum(second))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("programs") / "program.py"
    path.write_text(PROGRAM)
    return path


def command(program, *options, arguments=()):
    return [sys.executable, "-m", "jaxcache", "run", *map(str, options), str(program), *map(str, arguments)]


def python(program, *arguments):
    return [sys.executable, str(program), *map(str, arguments)]


def done(command, **environment):
    known = {name: value for name, value in os.environ.items() if not name.startswith("JAXCACHE_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                          env={**known, **environment})  # fmt: skip


@pytest.mark.parametrize("what", ["3", "raise"])
def test_a_program_ends_as_under_python_alone(program, what):
    plain, ours = done(python(program, what)), done(command(program, "--memory-limit", "64MiB", arguments=[what]))
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert ours.returncode == {"3": 3, "raise": 1}[what]


HOOKED = """
import sys, traceback
assert sys.excepthook is sys.__excepthook__
sys.excepthook = lambda kind, error, shown: print([frame.name for frame in traceback.extract_tb(shown)])
def fail():
    raise ValueError("boom")
fail()
"""


def test_a_hook_of_the_program_is_shown_a_traceback_that_begins_with_the_program(tmp_path):
    (tmp_path / "hooked.py").write_text(HOOKED)
    ours = done(command(tmp_path / "hooked.py", "--memory-limit", "64MiB"))
    assert (ours.returncode, ours.stdout, ours.stderr) == (1, "['<module>', 'fail']\n", "")


SETTING = """
import os, sys
os.environ.update(JAX_ENABLE_X64="1", JAX_DEFAULT_PRNG_IMPL="rbg", JAX_NUM_CPU_DEVICES="2")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
from jax import numpy as jnp
import jax
os.environ["JAX_DEBUG_NANS"] = "1"  # too late, under Python alone too
import jax.random
print(jax.jit(lambda x: x / 3)(jnp.arange(2.0)).dtype, jax.device_count(), jax.random.bits(jax.random.key(1)))
print(jax.config.jax_numpy_rank_promotion, jax.config.jax_debug_nans, type(jax.__spec__.loader))
print(sys.modules["jax"] is jax)
"""


@pytest.mark.parametrize("options", [("--memory-limit", "64MiB"), ("--dir", "shared")])
def test_variables_that_a_program_sets_before_it_imports_jax_count(options, tmp_path):
    script = tmp_path / "setting.py"
    script.write_text(SETTING)
    options = [tmp_path / "shared" if option == "shared" else option for option in options]
    plain, ours = done(python(script)), done(command(script, *options))
    assert (ours.returncode, ours.stdout, ours.stderr) == (0, plain.stdout, plain.stderr)
    assert ours.stdout.startswith("float64 2 ")


def test_a_variable_with_a_wrong_value_fails_the_import_of_jax_as_it_does_without_us(tmp_path):
    script = tmp_path / "wrong.py"
    script.write_text("import os\nos.environ['JAX_ENABLE_X64'] = 'perhaps'\nimport jax\n")
    last = [done(each).stderr.splitlines()[-1] for each in (python(script), command(script, "--memory-limit", "9MiB"))]
    assert last[0] == last[1]
    assert "perhaps" in last[0]


def test_a_variable_that_comes_too_late_for_warmed_devices_is_told(tmp_path):
    script = tmp_path / "late.py"
    script.write_text("import os\nos.environ['JAX_NUM_CPU_DEVICES'] = '2'\nimport jax\nprint(jax.device_count())\n")
    ours = done(command(script, "--dir", tmp_path / "shared", "--code-key", "__main__", "--warm"))
    assert (ours.returncode, ours.stdout) == (0, "1\n")
    assert "JAX_NUM_CPU_DEVICES=2, which the program sets, is too late: set it before the command" in ours.stderr


@pytest.mark.parametrize("line", ["import nowhere", "raise ValueError('set FOO')", "import sys; sys.exit(sys.argv)"])
def test_a_package_that_cannot_be_imported_ends_as_under_python_alone(line, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(line)
    (tmp_path / "package" / "__main__.py").write_text("print('reached')")
    words = ("-m", "package", "--dir", "x")
    plain, ours = (subprocess.run([sys.executable, *each], cwd=tmp_path, capture_output=True, text=True, check=False)
                   for each in (words, ("-m", "jaxcache", "run", "--memory-limit", "9MiB", *words)))  # fmt: skip
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout) == (1, "")
    assert ours.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]
    assert "jaxcache" not in ours.stderr


def test_the_installed_command_is_not_seen_by_the_program_nor_told_by_the_environment(program, tmp_path):
    installed = tmp_path / "jaxcache"  # as installers write it
    installed.write_text(
        "import sys\nfrom jaxcache_command import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    script = program.with_name("path.py")
    script.write_text("import sys\nprint(sys.path)\nraise ValueError('boom')\n")
    plain = done(python(script))
    ours = done([sys.executable, str(installed), "run", "--memory-limit", "64MiB", str(script)],
                JAXCACHE_MEMORY_LIMIT="9MiB")  # fmt: skip
    assert (ours.returncode, ours.stderr) == (1, plain.stderr)
    assert ast.literal_eval(ours.stdout)[0] == ast.literal_eval(plain.stdout)[0] == str(program.parent)


def test_a_signal_ends_it_as_under_python_alone(program):
    process = subprocess.Popen(command(program, "--memory-limit", "64MiB", arguments=["kill"]), text=True,
                               stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    while process.stdout.readline() != "ready\n":
        pass
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    process.stdout.close()


def test_processes_that_it_starts_have_the_cache_too(program, tmp_path):
    ours = done(command(program, "--memory-limit", "64MiB", "--eviction", "adaptive", "--dir", tmp_path / "shared",
                        arguments=["spawn"]))  # fmt: skip
    assert ours.returncode == 0, ours.stderr
    assert ast.literal_eval(ours.stdout.splitlines()[1]) == [(1.0, "jaxcache"), (2.0, "jaxcache")]
    assert list(tmp_path.rglob("*.entry"))


def test_at_the_end_it_says_what_compiled_once_and_writes_page_and_trace(program, tmp_path):
    page, trace = tmp_path / "page.html", tmp_path / "trace.parquet"
    pytest.importorskip("pyarrow")
    ours = done(command(program, "--memory-limit", "64MiB", "--summary", "--profile", page, "--record", trace,
                        arguments=["fork"]))  # fmt: skip
    assert ours.stderr.count("went into compiling 4 programs; one change would spare") == 1
    assert "new shape: x axis 0: was 3, is 4; pad the argument" in ours.stderr
    assert "memory: 4 programs" in ours.stderr
    assert len(ours.stderr.splitlines()) <= 12
    assert "3, is 4" in page.read_text()
    assert len(jaxcache.Trace.load(trace)) == 4


def test_what_a_tuning_recommends_can_be_put_in_front_of_a_program(program, tmp_path):
    pytest.importorskip("yaml")
    settings = tmp_path / "best.yaml"
    settings.write_text(f"eviction: lru\nmemory_limit: 48MiB\ndirectory: {tmp_path / 'shared'}\n")
    ours = done(command(program, "--settings", settings, "--summary", arguments=[0]))
    assert "of 48 MiB" in ours.stderr
    assert "directory: 0 loaded, 4 written" in ours.stderr
    layered = ["--settings", settings, "--layer", tmp_path / "shared", "--code-key", "strange", "--summary"]
    assert "directory: 4 loaded" in done(command(program, *layered, arguments=[0])).stderr


def test_variables_say_what_no_option_does(program, tmp_path):
    image, mine = tmp_path / "image", tmp_path / "mine"
    done(command(program, "--dir", image, arguments=[0]))
    variables = {"JAXCACHE_DIR": str(mine), "JAXCACHE_LAYERS": str(image), "JAXCACHE_MEMORY_LIMIT": "48MiB",
                 "JAXCACHE_EVICTION": "fifo", "JAXCACHE_LIMIT": "20MiB"}  # fmt: skip
    ours = done(command(program, "--summary", arguments=[0]), **variables)
    assert "directory: 4 loaded (4 from layers), 0 written" in ours.stderr
    assert "of 48 MiB" in ours.stderr
    assert "of 20 MiB, eviction fifo" in done(python("-m", "jaxcache", "stats", "--dir", mine)).stdout
    ours = done(command(program, "--summary", "--memory-limit", "64MiB", arguments=[0]), **variables)
    assert "of 64 MiB" in ours.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [("LIMIT", "3 apples", "JAXCACHE_LIMIT must be a size"), ("MAX_ENTRIES", "x", "JAXCACHE_MAX_ENTRIES must be a num"),
     ("MEMORY_LIMIT", "x", "JAXCACHE_MEMORY_LIMIT must be a size"), ("EVICTION", "x", "JAXCACHE_EVICTION must be"),
     ("VERIFY", "7", "JAXCACHE_VERIFY must be"), ("PORTABLE", "foo", "JAXCACHE_PORTABLE must be")],
)  # fmt: skip
def test_a_variable_with_a_wrong_value_is_refused_by_its_name(
    program, tmp_path, capsys, monkeypatch, variable, value, message
):
    from jaxcache._cli.commands import main

    monkeypatch.setenv(f"JAXCACHE_{variable}", value)
    assert main(["run", "--dir", str(tmp_path / "shared"), str(program), "0"]) == 2
    assert message in capsys.readouterr().err


def test_an_unchanged_program_starts_without_tracing_what_its_last_run_had(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TRACING)
    options = ("--dir", tmp_path / "shared", "--code-key", "__main__")
    runs = [done(command(script, *options, *more)) for more in ([], ["--warm"], ["--warm"])]
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 3
    # What is loaded for the first time is traced once, to compare, after the program.
    assert [run.stdout.splitlines()[0] for run in runs] == ["traced float32[2,1]", "0.0 3.0", "0.0 3.0"]


def test_no_more_programs_than_allowed_are_compiled(program):
    ours = done(command(program, "--max-compiles", 2, arguments=[0]))
    assert ours.returncode == 1
    assert "CompileLimitExceeded: --max-compiles 2 allows no more programs" in ours.stderr
    assert "bye" in ours.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--code-key", "mypkg"], "--code-key mypkg finds programs in a directory: name one by --dir"),
     (["--warm"], "--warm loads programs of packages under --code-key: name one, such as --code-key __main__"),
     (["--memory-limit", "0"], "--memory-limit must be positive"), (["--memory-limit", "9KiB"], "at least the small"),
     (["--record", "{folder}"], "--record must be a directory that is new or empty"),
     (["--settings", "{folder}/program.py"], "--settings must be a YAML file"),
     (["--settings", "{folder}/none.yaml"], "none.yaml cannot be read (No such file or directory)"),
     (["--settings", "{folder}"], "--settings must be a YAML file such as best.yaml, but {folder} cannot"),
     (["--profile", "{folder}/none/page.html"], "--profile must"),
     (["--eviction", "lru"], "--eviction needs --memory-limit"),
     (["--dir", "{folder}/new", "--eviction", "lruu"], "--eviction must be among none, lru, "),
     (["--dir", "{folder}/new", "--limit", "3 apples"], "--limit must be"),
     (["--limit", "1MiB"], "--limit is of a shared directory: name one by --dir; the limit of programs in memory is"),
     (["--verify", "7"], "--verify is of a shared directory: name one by --dir"),
     (["--no-publish"], "--no-publish is of a shared directory"), (["--trusted-key", "x"], "--trusted-key is of a"),
     (["--dir", "{folder}/new", "--min-entry-size", "x"], "--min-entry-size must be"),
     (["--dir", "{folder}/new", "--wait-seconds", "-1"], "--wait-seconds must be"),
     (["--dir", "{folder}/new", "--key-file", "{folder}/no.key"], "--key-file must be a file with a key, but"),
     (["--dir", "{folder}/new", "--sign-key", "{folder}/no.key"], "--sign-key must be a key as `jaxcache keygen`"),
     (["--dir", "{folder}/new", "--trusted-key", "{folder}/no.pub"], "no.pub cannot be read (No such file"),
     (["--dir", "{folder}/new", "--trusted-key", "{folder}/program.py"], "--trusted-key must be public keys"),
     (["--max-compiles", "-1"], "--max-compiles must be a whole number, 0 or more, but is '-1'"),
     (["--max-compiles", "x"], "--max-compiles must be a whole number, 0 or more, but is 'x'"),
     (["--dir", "{folder}/new", "--max-entries", "1.5"], "--max-entries must be a whole number"),
     (["--dir", "{folder}/new", "--verify", "much"], "--verify must be a number, such as 0.5, but is 'much'"),
     (["--no-such-option"], "unrecognized arguments: --no-such-option")],
)  # fmt: skip
def test_a_wrong_option_is_refused_in_a_line_and_nothing_started(program, capsys, options, message):
    from jaxcache._cli.commands import main

    options = [option.format(folder=program.parent) for option in options]
    assert main(["run", *options, str(program), "0"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert message.format(folder=program.parent) in printed.err


@pytest.mark.parametrize("kind", ["folder", "archive.zip"])
def test_a_folder_and_a_zip_file_run_as_under_python(tmp_path, kind):
    files = {
        "__main__.py": "import sys, beside\nprint(beside.X, sys.argv, __name__, __file__, repr(__package__))\n"
        "print(__spec__.name, sys.path[0], type(__loader__).__name__)\nsys.exit(3)",
        "beside.py": "X = 7",
    }
    if kind == "folder":
        (tmp_path / kind).mkdir()
        for name, text in files.items():
            (tmp_path / kind / name).write_text(text)
    else:
        with zipfile.ZipFile(tmp_path / kind, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    words = [[kind, "a", "--b"], ["-m", "jaxcache", "run", "--max-compiles", "0", kind, "a", "--b"]]
    plain, ours = (subprocess.run([sys.executable, *each], cwd=tmp_path, capture_output=True, text=True, check=False)
                   for each in words)  # fmt: skip
    assert plain.stdout.startswith("7 "), plain.stderr
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode)


def test_a_script_that_is_none_is_refused_before_anything_is_made(tmp_path, capsys):
    from jaxcache._cli.commands import main

    (tmp_path / "data.bin").write_bytes(b"\0\1\2")
    (tmp_path / "folder").mkdir()
    reasons = {"data.bin": "cannot be run", "missing.py": "there is no program", "folder": "cannot be run"}
    for script, why in reasons.items():
        assert main(["run", "--record", str(tmp_path / "trace"), str(tmp_path / script)]) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "trace").exists()


SILENT = "import jax, numpy as np{more}\nf = jax.jit(lambda x: x)\nprint(type(f).__module__.split('.')[0])"


@pytest.mark.parametrize(
    ("more", "variables", "module", "warned"),
    [("", {"JAXCACHE_MEMORY_LIMIT": "9MiB"}, "jaxlib", ""),  # nobody imports jaxcache
     ("\nimport jaxcache", {"JAXCACHE_MEMORY_LIMIT": "9MiB"}, "jaxcache", ""),
     ("\nimport jaxcache", {"JAXCACHE_MEMORY_LIMIT": "9KiB"}, "jaxlib", "installs no cache: limit must hold"),
     ("\nimport jaxcache", {}, "jaxlib", ""),
     ("", {"JAXCACHE_MEMORY_LIMIT": "9MiB", "PYTHONPATH": "start"}, "jaxcache", "")],
)  # fmt: skip
def test_variables_alone_install_a_cache_where_jaxcache_is_imported(more, variables, module, warned):
    from jaxcache._process.environment import START

    variables = {name: str(START) if value == "start" else value for name, value in variables.items()}
    ours = done([sys.executable, "-c", SILENT.format(more=more)], **variables)
    assert ours.stdout.strip() == module, ours.stderr
    assert warned in ours.stderr


def test_the_key_of_ci_is_one_line_and_the_same_again(capsys):
    from jaxcache._cli.commands import main

    assert (main(["ci-key"]), main(["ci-key"])) == (0, 0)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith(f"jaxcache-cpu-jax{__import__('jax').__version__}-python3.")
