"""Commands of a command line, and the options that those of a shared directory have in common."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._process.variables import DIRECTORY_VARIABLE


class Subcommands:
    """Commands of a parser, each with the function that runs it.

    Args:
        parser: Parser of the whole command line.
        invocation: How the user has started it, for messages.
    """

    def __init__(self, parser: argparse.ArgumentParser, invocation: str) -> None:
        self.invocation = invocation
        self._parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self, name: str, run: Callable[[argparse.Namespace], int], text: str, **options: Any
    ) -> argparse.ArgumentParser:
        """Add a command, and return its parser; ``options`` are those of ``argparse.ArgumentParser``."""
        parser = self._parsers.add_parser(name, help=text, description=text, **options)
        parser.set_defaults(command=run, invocation=self.invocation)
        return parser

    def add_with_directory(
        self, name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        """Add a command that needs a shared directory, and may need the keys of its entries; return its parser."""
        parser = self.add(name, run, text)
        add_directory(parser, required=True)
        parser.add_argument("--trusted-key", dest="trusted_keys", action="append", metavar="KEY",
                            help="public, or a file with it: entries signed with one such are read")  # fmt: skip
        parser.add_argument("--sign-key", metavar="FILE", help="private; entries signed with it are read too")
        return parser


def add_directory(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that name a shared directory and the key that its entries are authenticated with."""
    named = os.environ.get(DIRECTORY_VARIABLE) or None
    parser.add_argument(
        "--dir",
        required=required and named is None,
        default=named,
        type=_named_directory,
        metavar="DIR",
        help=f"the shared directory (or {DIRECTORY_VARIABLE})",
    )
    parser.add_argument("--key-file", metavar="FILE", help="with the key for entries (or JAXCACHE_KEY_FILE)")


def _named_directory(text: str) -> Path:
    """Return the directory of ``--dir``; an empty name, as of a variable that is not set, is not the present one."""
    if not text:
        raise argparse.ArgumentTypeError("must name a directory, but is empty")
    return Path(text)
