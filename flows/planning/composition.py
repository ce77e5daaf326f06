"""Composition of a command's trials by Hydra."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .compose import Composer
from .errors import UsageError
from .locations import CONF, config_directories
from .overrides import Expander, split_lists, trial_names
from .programs import quoting

CONFIG_NAME = "sweep"


def compose(
    overrides: tuple[str, ...], config_name: str = CONFIG_NAME, config_dir: str | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return each trial's resolved config, and its name.

    Raises:
        UsageError: If a key or an option is unknown, or an override cannot be read. Values are validated later.
    """
    if config_dir is not None and not Path(config_dir).is_dir():
        raise UsageError(f"--config-dir {config_dir} is not a directory")
    return _compose(overrides, config_name, config_directories(config_dir))


@functools.lru_cache(maxsize=8)
def _compose(
    overrides: tuple[str, ...], config_name: str, directories: tuple[Path, ...]
) -> tuple[list[dict[str, Any]], list[str]]:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="sweep"):
        loader = _loader(directories)
        expander = Expander(loader, config_name)
        try:
            lists = split_lists(overrides)
            combinations = [combination for words in lists for combination in expander.expand(words)]
            configs = Composer(loader, config_name).compose_all(combinations)
            resolved = cast("list[dict[str, Any]]", [OmegaConf.to_container(each, resolve=True) for each in configs])
        except OverrideParseException as error:
            raise UsageError(_unreadable(str(error.override), overrides)) from error
        except yaml.MarkedYAMLError as error:
            raise UsageError(_no_yaml(error)) from error
        except UnicodeDecodeError as error:
            raise UsageError(f"a config is no text in UTF-8: {error}") from error
        except OSError as error:
            what = f"the config {error.filename} cannot be read: {error.strerror}"
            raise UsageError(what if error.filename else " ".join(str(error).split())) from error
        except (HydraException, OmegaConfBaseException, ValueError, AttributeError, TypeError) as error:
            raise UsageError(" ".join(str(error).split())) from error
    return resolved, trial_names(combinations, resolved)


def _loader(directories: tuple[Path, ...]) -> ConfigLoader:
    """Return a loader of configs that has each from the first of the directories in which it is.

    ``hydra.searchpath`` could only add directories that come last, and listings of a group's options ignore it.
    """
    first, *others = directories
    search_path = create_config_search_path(str(first))
    append_directories(search_path, others)
    return ConfigLoaderImpl(search_path)


def append_directories(search_path: ConfigSearchPath, directories: Sequence[Path]) -> None:
    """Append directories to the one of Hydra's main configs, in their order."""
    for directory in reversed(directories):
        search_path.append("jaxcache", f"file://{directory}", anchor=SearchPathQuery(provider="main"))


def _no_yaml(error: yaml.MarkedYAMLError) -> str:
    """Return which line of a config is no YAML, and why."""
    mark = error.problem_mark
    where = "a config" if mark is None else f"{mark.name}, line {mark.line + 1}, column {mark.column + 1},"
    return f"{where} is no YAML: {error.problem or error}"


def _unreadable(word: str, words: tuple[str, ...]) -> str:
    """Return what is wrong with a word that is no override, and what to write instead."""
    key, equals, value = word.partition("=")
    if key == "program.args":
        return quoting(word)
    after = words[words.index(word) + 1 :] if word in words else ()
    if equals and value.endswith(",") and after and "=" not in after[0]:
        return f"{word} {after[0]} has a space in it; write {word}{after[0]}"
    if not (key and equals and value.strip(",")):
        return f"{word} cannot be read; write key=value, such as seed=0,1"
    if value.endswith(","):
        return f"{word} ends with a comma; write {word.rstrip(',')}"
    return f"{word} cannot be read; put its value in quotes of its own: '{key}=\"{value}\"'"
