"""Composition of a command's trials by Hydra, without JAX, so that a mistyped key or option is answered at once."""

import functools
from pathlib import Path
from typing import Any, cast

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .compose import Composer
from .errors import UsageError
from .overrides import Expander, split_lists, trial_names

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"
CONFIG_NAME = "sweep"


@functools.lru_cache(maxsize=8)
def compose(
    overrides: tuple[str, ...], config_name: str = CONFIG_NAME, config_dir: str | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return each trial's resolved config, and its name.

    Raises:
        UsageError: If a key or an option is unknown, or an override cannot be read. Values are validated later.
    """
    directory = None if config_dir is None else Path(config_dir).resolve()
    if directory is not None and not directory.is_dir():
        raise UsageError(f"--config-dir {config_dir} is not a directory")
    primary, secondary = CONF, directory
    if directory is not None and (directory / f"{config_name}.yaml").exists():
        primary, secondary = directory, CONF
    search_path = [] if secondary is None else [f"hydra.searchpath=[file://{secondary}]"]
    with initialize_config_dir(str(primary), version_base="1.3", job_name="sweep"):
        loader = GlobalHydra.instance().config_loader()
        expander = Expander(loader, config_name, search_path, directory)
        try:
            lists = split_lists(overrides)
            combinations = [combination for words in lists for combination in expander.expand(words)]
            configs = Composer(loader, config_name, search_path).compose_all(combinations)
            resolved = cast("list[dict[str, Any]]", [OmegaConf.to_container(each, resolve=True) for each in configs])
        except OverrideParseException as error:
            raise UsageError(_unreadable(str(error.override), overrides)) from error
        except (HydraException, OmegaConfBaseException, ValueError, AttributeError, TypeError) as error:
            raise UsageError(" ".join(str(error).split())) from error
    return resolved, trial_names(combinations, resolved)


def _unreadable(word: str, words: tuple[str, ...]) -> str:
    """Return what is wrong with a word that is no override, and what to write instead."""
    key, equals, value = word.partition("=")
    after = words[words.index(word) + 1 :] if word in words else ()
    if equals and value.endswith(",") and after and "=" not in after[0]:
        return f"{word} {after[0]} has a space in it; write {word}{after[0]}"
    if not (key and equals and value.strip(",")):
        return f"{word} cannot be read; write key=value, such as seed=0,1"
    if value.endswith(","):
        return f"{word} ends with a comma; write {word.rstrip(',')}"
    return f"{word} cannot be read; put its value in quotes of its own: '{key}=\"{value}\"'"
