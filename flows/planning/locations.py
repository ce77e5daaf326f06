"""Directories of the pipeline: a checkout has its own, an installed package uses those of its user.

This file imports only the standard library, since commands that import neither Hydra nor Prefect use it too.
"""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CONF_IN_WHEEL = _PACKAGE / "conf"
_USER_CONF = "conf"

CHECKOUT: Path | None = None if _CONF_IN_WHEEL.is_dir() else _PACKAGE.parent
CONF = _CONF_IN_WHEEL if CHECKOUT is None else CHECKOUT / "conf"


def server_directory() -> Path:
    """Return the directory of the Prefect server's data: the checkout's, or for an installed package the user's."""
    if CHECKOUT is not None:
        return CHECKOUT / ".prefect"
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "jaxcache" / "prefect"


def config_directories(config_dir: str | None = None) -> tuple[Path, ...]:
    """Return the directories that configs are looked for in, the first first.

    Args:
        config_dir: Value of ``--config-dir``; it comes before ``conf`` in the working directory, and that before the
            configs of the project itself.
    """
    candidates = [] if config_dir is None else [Path(config_dir).resolve()]
    here = Path(_USER_CONF).resolve()
    candidates += [here] if here.is_dir() else []
    return tuple(dict.fromkeys([*candidates, CONF]))
