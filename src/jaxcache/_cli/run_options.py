"""The options of ``python -m jaxcache run``, which other commands list too, without waiting for JAX."""

import argparse
from pathlib import Path

from .one_line import real_number, whole_number
from .subcommands import add_directory


class Refused(ValueError):
    """The command is wrong, and the program was not started."""


def usage(invocation: str) -> str:
    """Return the usage of ``run``, for who has started jaxcache's commands so."""
    return f"{invocation} run [options] script.py [arguments]\n       {invocation} run [options] -m module [arguments]"


def add_options(run: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    add_directory(run, required=False)
    memory = run.add_argument_group("programs in memory")
    memory.add_argument("--memory-limit", metavar="SIZE", help="of all programs that the process holds, such as 2GiB")
    memory.add_argument("--eviction", metavar="POLICY",
                        help="who goes first, in memory (gdsf) and in the directory (lru if alone)")  # fmt: skip
    memory.add_argument(
        "--settings", type=Path, metavar="FILE", help="with limit, policy, directory, such as best.yaml"
    )
    memory.add_argument("--record", type=Path, metavar="TRACE", help="a directory to be made for the requests")
    compiles = run.add_argument_group("what compiles")
    compiles.add_argument("--profile", type=Path, metavar="PAGE.html", help="write a page of all compiles at the end")
    compiles.add_argument("--summary", action="store_true", help="say on stderr, at the end, what compiled and why")
    compiles.add_argument(
        "--max-compiles", type=whole_number, metavar="N", help="a program beyond N raises, before it is compiled"
    )
    shared = run.add_argument_group("the shared directory, with --dir; each has a variable as JAXCACHE_LIMIT, too")
    shared.add_argument("--limit", metavar="SIZE", help="of all entries, such as 20GiB; no limit by default")
    shared.add_argument("--max-entries", type=whole_number, metavar="N")
    shared.add_argument("--min-compile-seconds", type=real_number, metavar="S", help="what is faster is not kept")
    shared.add_argument("--min-entry-size", dest="min_entry_bytes", metavar="SIZE", help="what is smaller is not kept")
    shared.add_argument("--wait-seconds", type=real_number, metavar="S", help="for another's compile (600)")
    shared.add_argument("--verify", type=real_number, metavar="SHARE", help="of hits, to compile again")
    shared.add_argument("--explain", action="store_const", const=True, help="note what each key is made of, for doctor")
    shared.add_argument("--layer", dest="layers", action="append", default=[], metavar="DIR",
                        help="to be read after --dir, such as one of a container image; several in order")  # fmt: skip
    shared.add_argument("--copy-layer-hits", action="store_const", const=True, help="write what a layer holds to --dir")
    shared.add_argument("--remote", metavar="URL", help="an object store behind it, such as s3://bucket/prefix")
    shared.add_argument("--no-publish", dest="publish", action="store_const", const=False, help="only read --remote")
    shared.add_argument("--trusted-key", dest="trusted_keys", action="append", metavar="KEY",
                        help="public, or a file with it: only entries signed with one such are loaded")  # fmt: skip
    shared.add_argument("--sign-key", metavar="FILE", help="with the private key that signs what is compiled")
    shared.add_argument("--code-key", action="append", default=[], metavar="PACKAGE",
                        help="whose functions start without tracing, or __main__, the script; several")  # fmt: skip
    shared.add_argument("--warm", action="store_true",
                        help="load what the last run had under --code-key, from the first line on")  # fmt: skip
    shared.add_argument("--portable", metavar="LEVEL", help="compile for x86-64-v2, -v3 or -v4, for a mixed fleet")
    run.add_argument("-m", dest="module", nargs=argparse.REMAINDER, metavar="module", help="run a module")
    run.add_argument("program", nargs=argparse.REMAINDER, help="a script and its arguments")
