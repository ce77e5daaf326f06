"""Do ahead the work that the first report of a process has, in a thread while trials run elsewhere."""

import contextlib
import importlib


def prepare_report() -> None:
    """Import, start and compile what a report needs, which takes longer than writing one. Raises nothing.

    At the usual priority: a thread that waits for a core while it holds the interpreter's lock holds up the rest.
    """
    with contextlib.suppress(Exception):  # the report will meet it too, and tell
        _prepare()


def _prepare() -> None:
    from .images import draw_nothing
    from .vega import vega_scripts

    importlib.import_module(f"{__package__}.write")
    vega_scripts()
    draw_nothing()
