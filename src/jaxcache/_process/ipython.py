"""IPython extension: ``%load_ext jaxcache``, then ``%%compiles`` says what a cell compiles, and why."""

from typing import Any

from .compile_groups import summary
from .watch import watch


def load_ipython_extension(shell: Any) -> None:
    """Add the magic ``%%compiles`` to a shell, as IPython does for ``%load_ext jaxcache``.

    ``%%compiles page.html`` writes the page of :meth:`jaxcache.Watch.write` as well.
    """

    def compiles(line: str, cell: str) -> None:
        """Run a cell, and say what it compiles."""
        with watch() as watched:
            ran = shell.run_cell(cell)
        print("\n".join(summary(watched.compiles, watched.traced, watched.seconds)))
        if line.strip():
            watched.write(line.strip())
        error: Any = ran.error_before_exec or ran.error_in_exec
        if error is not None:  # which was shown, and is to fail this cell too
            if isinstance(error, SyntaxError):  # IPython shows one in a way of its own, whatever it says
                error = RuntimeError(f"the cell is no Python: {error}")
            error._render_traceback_ = list
            raise error

    shell.register_magic_function(compiles, magic_kind="cell", magic_name="compiles")


def unload_ipython_extension(shell: Any) -> None:
    """Take the magic away."""
    shell.magics_manager.magics["cell"].pop("compiles", None)
