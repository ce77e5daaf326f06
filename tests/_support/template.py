"""Process that has imported JAX, and forks for each program that it is asked to run; see ``interpreters``."""

import gc
import json
import os
import signal
import socket
import sys
from types import CodeType

import jax.numpy  # noqa: F401 -- so that no child has to

_LENGTH_BYTES, _PROCESS_ID_BYTES = 8, 8


def serve(descriptor: int) -> CodeType:
    """Fork for each request; return the code of the program in the process that is to run it.

    A request is a length, with the three streams of the process, and a JSON list of the program, its arguments,
    environment and working directory. The answer is the id of the process. Its parent ends at once, so that it belongs
    to whoever adopts orphans.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides what a Ctrl-C ends
    gc.freeze()
    connection = socket.socket(fileno=descriptor)
    while True:
        length, streams, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, 3, socket.MSG_WAITALL)
        if not length:
            sys.exit()
        request = json.loads(connection.recv(int.from_bytes(length), socket.MSG_WAITALL))
        reading, writing = os.pipe()
        parent = os.fork()
        if parent:
            os.waitpid(parent, 0)  # now the process has been adopted
            connection.sendall(os.read(reading, _PROCESS_ID_BYTES))
        elif process := os.fork():
            os.write(writing, process.to_bytes(_PROCESS_ID_BYTES))
            os._exit(0)
        for descriptor in (reading, writing):
            os.close(descriptor)
        if not parent:
            connection.close()
            return _become(*request, streams)
        for stream in streams:
            os.close(stream)


def _become(
    program: str, arguments: list[str], variables: dict[str, str], directory: str, streams: list[int]
) -> CodeType:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(directory)
    sys.argv = ["-c", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return compile(program, "<string>", "exec")
