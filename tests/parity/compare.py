"""Compare suites of tests under ``jax.jit`` with the same under ``cache.jit``, test by test.

``python -m tests.parity.compare ../jax/tests/api_test.py ../jax/tests/aot_test.py`` runs each file in processes of its
own: with ``jax.jit``, with a cache without a limit, and with one of 256 KiB, so that next to nothing is held. It prints
a row for each file, and each test that passes plainly and is lost otherwise; the end is 1 if there is any.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, NamedTuple

_PLUGINS = Path(__file__).parent
_STOPPED = "stopped"


class Run(NamedTuple):
    """How the tests of one file ended under one ``jit``."""

    outcomes: dict[str, str]  # passed, failed, skipped; by test
    reasons: dict[str, str]
    ended: str  # empty, or what ended the process before its last test
    in_time: bool

    def passed(self) -> set[str]:
        return {test for test, outcome in self.outcomes.items() if outcome == "passed"}

    def lost(self, passed_plainly: set[str]) -> list[str]:
        """Return which tests pass plainly and not here; one for which there was no time is not judged."""
        judged = passed_plainly if self.in_time else passed_plainly & self.outcomes.keys()
        return sorted(judged - self.passed())


def run(file: Path, jit: str, arguments: list[str], seconds: float, log: Path) -> Run:
    """Run one file of tests in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        log_of_tests = Path(scratch, "outcomes.jsonl")
        log_of_tests.touch()
        python_path = os.pathsep.join(filter(None, [str(_PLUGINS), os.environ.get("PYTHONPATH")]))
        environment = {"JAX_PLATFORMS": "cpu", **os.environ, "PYTHONPATH": python_path}
        environment |= {"PARITY_JIT": jit, "PARITY_OUTCOMES": str(log_of_tests)}
        # -P: a checkout of JAX would take the place of the installed one.
        command = [sys.executable, "-P", "-m", "pytest", "-p", "replace_jit", "-p", "no:cacheprovider", "-q"]
        with log.open("w") as output:
            ended = _finish([*command, *arguments, str(file.resolve())], environment, scratch, seconds, output)
        rows = [json.loads(line) for line in log_of_tests.read_text(encoding="utf-8").splitlines()]
    by_test = {row["test"]: row for row in rows}
    reasons = {test: row["reason"] for test, row in by_test.items()}
    outcomes = {test: row["outcome"] for test, row in by_test.items()}
    return Run(outcomes, reasons, ended, in_time=not ended.startswith(_STOPPED))


def _finish(command: list[str], environment: dict[str, str], cwd: str, seconds: float, output: IO[str]) -> str:
    try:
        ended = subprocess.run(
            command,
            env=environment,
            cwd=cwd,
            timeout=seconds,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{_STOPPED} after {seconds:.0f} s"
    return "" if ended.returncode in (0, 1, 5) else f"ended with {ended.returncode}"  # passed, failed, no tests


def compare(file: Path, jits: tuple[str, ...], arguments: list[str], seconds: float, logs: Path) -> int:
    """Print how many tests of a file pass plainly and are lost otherwise, and which; return how many."""
    runs = {jit: run(file, jit, arguments, seconds, logs / f"{file.stem}-{jit}.log") for jit in ("plain", *jits)}
    passed = runs["plain"].passed()
    lost = {jit: runs[jit].lost(passed) for jit in jits}
    print(f"{file.stem:40}{len(passed):6} {' '.join(f'{len(lost[jit]):6}' for jit in jits)}", flush=True)
    for jit, tests in lost.items():
        for test in tests:
            reason = runs[jit].reasons.get(test, "did not run").splitlines() or [""]
            print(f"    {jit}: {test.split('/')[-1]}: {reason[0][:200]}", flush=True)
    for jit, ended in runs.items():
        if ended.ended:
            print(f"    {jit}: {ended.ended}, with {len(passed & ended.outcomes.keys())} of them run", flush=True)
    return sum(map(len, lost.values()))


def main() -> None:
    """Run and compare what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="files or folders of tests, each run in its own processes")
    parser.add_argument("--jits", default="none,256KiB", help="limits to compare with plain jax.jit (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="time limit of one process (%(default)s)")
    parser.add_argument("--logs", type=Path, default=Path(tempfile.gettempdir()), help="folder for pytest's own words")
    parser.add_argument("--pytest", default="", help="further arguments of pytest, separated by spaces")
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    jits = tuple(options.jits.split(","))
    print(f"{'tests':40}{'passed':>6} {' '.join(f'{jit:>6}' for jit in jits)}   (lost)", flush=True)
    lost = [compare(file, jits, options.pytest.split(), options.seconds, options.logs) for file in options.files]
    sys.exit(1 if any(lost) else 0)


if __name__ == "__main__":
    main()
