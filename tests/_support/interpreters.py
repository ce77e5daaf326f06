"""Processes of Python that have imported JAX already, forked from one that has, in place of fresh interpreters.

The import of JAX is most of what a short program takes. A process is forked from a template, which has imported JAX and
numpy and started no backend, and becomes a child of this process, with output, environment and working directory of its
own. Where Python or JAX would read another setting while they start, and without Linux, it is a fresh interpreter.
Tests of how a program starts, and of what it holds, use those too.
"""

import atexit
import ctypes
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

_TEMPLATE = """
import sys
from tests._support.template import serve
exec(serve(int(sys.argv[1])))
"""
_READ_WHILE_STARTING = ("JAX_", "JAXCACHE_", "PYTHON", "LD_", "OPENBLAS_", "OMP_", "MALLOC_")
_PR_SET_CHILD_SUBREAPER = 36
_ASKING = threading.Lock()


def run_python(
    program: str, *arguments: object, timeout: float = 120.0, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program as ``python -c`` does, and return how it ended, with its output as text."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with start_python(program, *arguments, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def start_python(program: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a program as ``python -c`` does; ``options`` are those of ``subprocess.Popen``."""
    words, options = [sys.executable, "-c", program, *map(str, arguments)], {"text": True, **options}
    environment = options.get("env") or os.environ
    if sys.platform == "linux" and _settings(environment) == _settings(_template_environment()):
        return _ForkedPython(words, **options)
    return subprocess.Popen(words, **options)


def _settings(environment: Any) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_WHILE_STARTING)}


@functools.cache
def _template_environment() -> dict[str, str]:
    return dict(os.environ)


@functools.cache
def _template() -> socket.socket:
    """Return the connection to the template, which is started first, and ends with this process."""
    here, there = socket.socketpair()
    variables = {**_template_environment(), "OPENBLAS_NUM_THREADS": "1"}  # a process with threads must not be forked
    template = subprocess.Popen(
        [sys.executable, "-c", _TEMPLATE, str(there.fileno())], env=variables, pass_fds=[there.fileno()],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    there.close()
    atexit.register(template.wait)
    atexit.register(here.close)
    return here


class _ForkedPython(subprocess.Popen[str]):
    """A process that runs a program, forked from the template, whose parent is this process."""

    def _execute_child(self, args: list[str], executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any,
                       env: Any, startupinfo: Any, creationflags: Any, shell: Any, *more: Any) -> None:  # fmt: skip
        """Let the template fork, with what ``Popen`` has prepared."""
        given = (more[0], more[3], more[5])  # streams of the child; -1 for those of this process
        variables, directory = dict(os.environ if env is None else env), str(cwd or os.getcwd())
        request = json.dumps([args[2], args[3:], variables, directory]).encode()
        template = _template()
        streams = [number if stream == -1 else stream for number, stream in enumerate(given)]
        with _ASKING:
            _adopt_orphans(True)
            try:
                socket.send_fds(template, [len(request).to_bytes(8)], streams)
                template.sendall(request)
                self.pid = int.from_bytes(template.recv(8, socket.MSG_WAITALL))
            finally:
                _adopt_orphans(False)
        self._child_created = True
        for stream in {*given} - {-1}:
            os.close(stream)


def _adopt_orphans(adopt: bool) -> None:
    """Become the parent of processes whose parent ends, or no longer: see ``man PR_SET_CHILD_SUBREAPER``."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
