"""Composition of one config for each trial, in which Hydra composes each option of a group only once.

Hydra takes a tenth of a second for a config. An option's values are the same whatever the other groups choose, unless a
defaults list says otherwise. That is checked: an option is reused only if choosing it changes its own group alone, and
the combination furthest from the first is composed by Hydra too and compared.
"""

import copy
import difflib
import functools
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

Combination = dict[str, Override]  # the plain overrides of a trial, by key


class Composer:
    """Composer of combinations of overrides, with the same result as if Hydra composed each alone."""

    def __init__(self, loader: ConfigLoader, config_name: str) -> None:
        self._loader, self._config_name = loader, config_name
        self._is_group = functools.cache(lambda key: bool(loader.get_group_options(key)))
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._parts: dict[str, Any] = {}

    def compose_all(self, combinations: list[Combination]) -> list[DictConfig]:
        """Return each combination's config; interpolations are left in.

        Raises:
            HydraException: If Hydra refuses a combination.
            ValueError: If a combination sets a value that does not exist.
        """
        groups = [
            {key: override for key, override in combination.items() if not self._is_plain_value(override)}
            for combination in combinations
        ]
        first, last = groups[0], groups[-1]
        assembled = self._assemble(first, last)
        independent = assembled is not None and _plain(assembled) == _plain(self._compose(last))
        configs: list[DictConfig] = []
        for combination, chosen in zip(combinations, groups, strict=True):
            config = self._assemble(first, chosen) if independent else None
            if config is None:
                config = copy.deepcopy(self._compose(chosen))
            for key, override in combination.items():
                if key not in chosen:
                    _set(config, key, override)
            configs.append(config)
        return configs

    def _is_plain_value(self, override: Override) -> bool:
        """Return whether an override only sets an existing value: Hydra then does no more than OmegaConf.update."""
        if override.type is not OverrideType.CHANGE or override.package is not None:
            return False
        return not self._is_group(override.key_or_group)

    def _compose(self, chosen: Combination) -> DictConfig:
        """Compose a choice of groups by Hydra, once."""
        lines = tuple(map(line, chosen.values()))
        if lines not in self._composed:
            config = self._loader.load_configuration(self._config_name, list(lines), run_mode=RunMode.RUN)
            with open_dict(config):
                del config["hydra"]
            self._composed[lines] = config
        return self._composed[lines]

    def _assemble(self, first: Combination, chosen: Combination) -> DictConfig | None:
        """Return the first combination's config with the options in which another differs; None if that is unsafe."""
        differing = {key: option for key, option in chosen.items() if line(option) != line(first[key])}
        parts = {key: self._part(first, option) for key, option in differing.items()}
        if any(part is None for part in parts.values()):
            return None
        config = copy.deepcopy(self._compose(first))
        for key, part in parts.items():
            config[key] = part
        return config

    def _part(self, first: Combination, option: Override) -> Any:
        """Return the node that an option sets for its group; None if it changes anything else."""
        if line(option) not in self._parts:
            key = option.key_or_group
            base, other = self._compose(first), self._compose({**first, key: option})
            alone = key in base and key in other and _plain(base, key) == _plain(other, key)
            self._parts[line(option)] = other._get_node(key) if alone else None
        return self._parts[line(option)]


def line(override: Override) -> str:
    """Return an override as it is typed."""
    return override.input_line or f"{override.get_key_element()}={override.get_value_element_as_str()}"


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return a question that names what a mistyped word may have meant; empty if nothing is like it.

    Dotted names whose last part is the word come first, then those that are like it, then those that contain it.
    """
    parts = {name: name.rpartition(".")[2] for name in names}
    typed = word.lower()
    meant = [name for name, last in parts.items() if last.lower() == typed]
    like = difflib.get_close_matches(typed, {*parts, *parts.values()}, n=1)
    meant += [name for name, last in parts.items() if like and like[0] in (name, last)]
    meant += [name for name, last in parts.items() if last.endswith(f"_{typed}")]
    return f"did you mean {' or '.join(dict.fromkeys(meant))}?" if meant else ""


def _keys(config: DictConfig, parent: str = "") -> Iterator[str]:
    """Yield every key of a config, dotted where it is nested."""
    for name in sorted(map(str, config)):
        yield f"{parent}{name}"
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _keys(node, f"{parent}{name}.")


def _plain(config: DictConfig, without: str | None = None) -> Any:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in plain.items() if key != without}


def _set(config: DictConfig, key: str, override: Override) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if parent == "program.environment" and isinstance(node, DictConfig):  # whose keys are the user's
        OmegaConf.update(config, key, str(override.value()), force_add=True)
        return
    if not isinstance(node, DictConfig) or name not in node:
        if key.startswith("program.") and "program" not in config:
            workload = OmegaConf.select(config, "workload.name")
            raise ValueError(
                f"{override.input_line} is for workload=program, but workload is {workload}; add workload=program"
            )
        names = sorted(map(str, node)) if isinstance(node, DictConfig) else sorted(map(str, config))
        siblings = [f"{parent}.{other}".removeprefix(".") for other in names]
        hint = did_you_mean(name, siblings) or did_you_mean(name, _keys(config)) or f"there are: {', '.join(names)}"
        raise ValueError(f"{override.input_line}: there is no setting {key}; {hint}")
    OmegaConf.update(config, key, override.value(), merge=True, force_add=key == "program.environment")
