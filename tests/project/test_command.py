"""The installed command: an overview of all commands, each found by its name, and no more imported than it needs."""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxcache_command
from jaxcache._cli.commands import main as core_main
from jaxcache_command import COMMANDS, SHELLS, main

SOURCES = Path(jaxcache_command.__file__).parent


def without_packages(*words):
    """Run the command with the standard library and jaxcache's own sources alone."""
    program = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); from jaxcache_command import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-I", "-S", "-c", program, *words], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip


def test_the_overview_has_each_command_once_and_needs_neither_jax_nor_the_pipeline():
    done = without_packages("--help")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^  ([a-z-]+) ", done.stdout, flags=re.MULTILINE) == list(COMMANDS)
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_every_command_of_the_core_is_one_of_the_installed_program(capsys):
    with pytest.raises(SystemExit, match="0"):
        core_main(["--help"])
    listed = re.findall(r"^    ([a-z-]+) ", capsys.readouterr().out, flags=re.MULTILINE)
    core = [name for name, each in COMMANDS.items() if each.module == "jaxcache._cli.commands"]
    assert sorted(listed) == sorted(core)


@pytest.mark.parametrize(("name", "extra"), [("sweep", "flows"), ("report", "lab")])
def test_a_command_whose_extra_is_missing_says_what_to_install(name, extra):
    done = without_packages(name, "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"jaxcache: {name} needs more than is installed: pip install 'jaxcache[{extra}]'\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["swep"], "there is no command swep; did you mean sweep?"),
     (["xyzzy"], "there is no command xyzzy; see jaxcache --help"),
     (["completion"], "completion takes a shell, bash|zsh|fish, but got nothing"),
     (["completion", "tcsh"], "completion takes a shell, bash|zsh|fish, but got tcsh")],
)  # fmt: skip
def test_what_is_no_command_is_refused_in_a_line(capsys, words, message):
    assert main(words) == 2
    assert capsys.readouterr().err == f"jaxcache: {message}\n"


def test_commands_of_the_core_name_the_program_as_it_was_started(capsys, tmp_path):
    for start, invocation in ((main, "jaxcache"), (core_main, "python -m jaxcache")):
        with pytest.raises(SystemExit, match="0"):
            start(["stats", "--help"])
        assert capsys.readouterr().out.startswith(f"usage: {invocation} stats ")
        assert start(["run"]) == 2
        assert capsys.readouterr().err.startswith(f"jaxcache: run needs a program: {invocation} run [options]")
        assert start(["doctor", "--dir", str(tmp_path)]) == 0
        assert f"first program compiles, or {invocation} run;" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, each in COMMANDS.items() if each.extras and name != "sweep"])
def test_commands_of_the_pipeline_name_the_program_as_it_was_started(name, capsys, monkeypatch):
    if importlib.util.find_spec("prefect") is None:
        pytest.skip("needs jaxcache[flows]")
    for started, prefix in (("/somewhere/bin/jaxcache", "jaxcache "), ("/somewhere/flows/x.py", "python -m flows.")):
        monkeypatch.setattr(sys, "argv", [started])
        with contextlib.suppress(SystemExit):  # argparse ends so
            main([name, "--help"])
        shown = "server" if name in ("ui", "stop") else name
        assert f"{prefix}{shown} " in capsys.readouterr().out


def test_a_shell_completes_the_names_of_commands(capsys):
    for shell in SHELLS:
        assert main(["completion", shell]) == 0
        assert set(COMMANDS) <= set(re.findall(r"[a-z-]+", capsys.readouterr().out))


def test_bash_completes_by_what_is_printed():
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash here")
    ask = """
eval "$1"
words=$(complete -p jaxcache)
words=${words/complete -o default/compgen}
eval "${words% jaxcache} -- $2"
"""
    script = SHELLS["bash"].format(names=" ".join(COMMANDS))
    done = subprocess.run([bash, "-c", ask, "bash", script, "st"], capture_output=True, text=True, check=True,
                          timeout=60)  # fmt: skip
    assert sorted(done.stdout.split()) == ["stats", "stop"]
