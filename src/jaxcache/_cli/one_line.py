"""Parser of a command line that refuses what is wrong in one line, and the numbers that options take."""

import argparse
from typing import NoReturn


class WrongCommandLine(ValueError):
    """Words that are no command, with where the right ones are listed."""


class OneLineParser(argparse.ArgumentParser):
    """Parser whose errors leave out the usage, which is longer than most terminals show beside them."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            WrongCommandLine: Always, with the option's name first.
        """
        option, _, rest = message.removeprefix("argument ").partition(": ")
        text = f"{option} {rest}" if rest.startswith("must ") else message.removeprefix("argument ")
        raise WrongCommandLine(f"{text}; see {self.prog} --help")


def whole_number(text: str) -> int:
    """Return a number of things."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, but is {text!r}")
    return int(text)


def real_number(text: str) -> float:
    """Return seconds, a share or another number; whether it is in range is for who takes it."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, such as 0.5, but is {text!r}") from error
