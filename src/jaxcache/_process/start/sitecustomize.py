"""Start of processes that a program under ``python -m jaxcache run`` starts: they do what that was told too.

Python imports a module of this name, where ``PYTHONPATH`` names its folder, before any program. JAX is not imported
here: jaxcache is, right after it, if the program ever imports JAX, and turns on what ``JAXCACHE_DIR`` and its like ask
for.
"""

import contextlib
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType

_HERE = os.path.dirname(os.path.abspath(__file__))


class _AfterJax:
    """Finder that has jaxcache imported after JAX."""

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "jax":
            return None
        sys.meta_path.remove(self)  # pyright: ignore[reportArgumentType]
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_import(module: ModuleType) -> None:
                run(module)
                with contextlib.suppress(ImportError):  # another Python, without jaxcache
                    importlib.import_module("jaxcache")

            spec.loader.exec_module = run_and_import
        return spec


def _run_hidden() -> None:
    """Run the module of this name that this one hides."""
    others = [folder for folder in sys.path if os.path.abspath(folder) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if any(os.environ.get(f"JAXCACHE_{name}") for name in ("DIR", "MEMORY_LIMIT", "RECORD")):
    sys.meta_path.insert(0, _AfterJax())  # pyright: ignore[reportArgumentType]
_run_hidden()
