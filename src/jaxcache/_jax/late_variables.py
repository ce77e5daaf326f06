"""Variables such as JAX_ENABLE_X64 that a program sets before it imports JAX, which has been imported already.

JAX reads them once, as it is imported: under a command of ours that is before the program's first line. So the module
is taken out of the imported ones again. The program's own import of it finds the same module, and passes on first what
has changed in the environment since.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .notices import warn

_JAX = "jax"
_PREFIX = "JAX_"
_TRUE, _FALSE = ("y", "yes", "t", "true", "on", "1"), ("n", "no", "f", "false", "off", "0")


def read_variables_at_import() -> None:
    """Let the next import of JAX read what has changed in its variables from here on; nothing if it is not imported."""
    module = sys.modules.pop(_JAX, None)
    if module is not None:
        sys.meta_path.insert(0, _Again(module))


class _Again(MetaPathFinder, Loader):
    """Finder and loader of the module that has been imported already."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__
        self._before = _variables()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname != _JAX:
            return None
        spec = ModuleSpec(_JAX, self, origin=self._module.__file__, is_package=True)
        spec.submodule_search_locations = list(self._module.__path__)
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
        for name, text in _variables().items():
            if self._before.get(name) != text:
                _pass_on(module, name, text)
        if self in sys.meta_path:  # it stays where a value is wrong, which the next import says again
            sys.meta_path.remove(self)


def _variables() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name.startswith(_PREFIX)}


def _pass_on(module: Any, name: str, text: str) -> None:
    """Give JAX a setting as it would have read it from its variable.

    Raises:
        ValueError: If the text is no value of the setting.
    """
    setting = name.lower()
    if setting not in module.config.values:
        return
    present = module.config.values[setting]
    value: object = text
    if isinstance(present, bool):
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError(f"invalid truth value {text!r} for environment {name!r}")  # JAX's own words
        value = text.lower() in _TRUE
    elif isinstance(present, int | float):
        value = type(present)(text)
    try:
        module.config.update(setting, value)
    except RuntimeError:  # the devices have been asked for, such as by --warm
        warn(f"{name}={text}, which the program sets, is too late: set it before the command", RuntimeWarning)
