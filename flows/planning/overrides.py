"""Expansion of a command's overrides into one combination of plain overrides for each trial, by Hydra's parser."""

import itertools
from collections.abc import Iterable
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.types import RunMode
from omegaconf import OmegaConf

from .compose import Combination, did_you_mean, line
from .errors import UsageError

SEPARATOR = "+"  # between two lists of overrides


def join_lists(lists: Iterable[Iterable[str]]) -> list[str]:
    """Return several lists of overrides as the words of one sweep."""
    return [word for overrides in lists for word in (SEPARATOR, *overrides)][1:]


def split_lists(words: tuple[str, ...]) -> list[list[str]]:
    """Return the lists of overrides between the separators.

    Raises:
        UsageError: If a list beside a separator is empty.
    """
    ends = [*(index for index, word in enumerate(words) if word == SEPARATOR), len(words)]
    starts = [0, *(end + 1 for end in ends)]
    lists = [list(words[start:end]) for start, end in zip(starts, ends, strict=False)]
    if len(lists) > 1 and not all(lists):
        raise UsageError(
            f"{SEPARATOR} stands between two lists of overrides, such as eviction=lru {SEPARATOR} eviction=gdsf"
        )
    return lists


class Expander:
    """Expander of lists of overrides, which may name studies and options of the user's config directories."""

    def __init__(self, loader: ConfigLoader, config_name: str) -> None:
        self._loader, self._config_name = loader, config_name
        self._parser = OverridesParser.create(config_loader=loader)

    def expand(self, words: list[str]) -> list[Combination]:
        """Return one combination for each trial.

        Keys that the command line does not set get their values from ``hydra.sweeper.params`` of the primary config
        or of the study.

        Raises:
            UsageError: If an override cannot be swept, or names an unknown option.
        """
        overrides = self._parser.parse_overrides(words)
        self._check(overrides)
        axes = self._default_axes(overrides)
        self._check(axes.values())
        for override in overrides:
            if not override.key_or_group.startswith("hydra."):
                _set_axis(axes, override)
        choices = [[(key, value) for value in self._values(override)] for key, override in axes.items()]
        return [dict(combination) for combination in itertools.product(*choices)]

    def _default_axes(self, overrides: list[Override]) -> dict[str, Override]:
        """Return the ``hydra.sweeper.params`` of the primary config with the studies that the command line names."""
        studies = [
            line(override)
            for override in overrides
            if override.key_or_group == "experiment" or override.key_or_group.startswith("hydra.")
        ]
        primary = self._loader.load_configuration(self._config_name, studies, run_mode=RunMode.MULTIRUN)
        params = OmegaConf.to_container(primary.hydra.sweeper.get("params") or OmegaConf.create({}))
        assert isinstance(params, dict)
        parsed = self._parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
        return {override.key_or_group: override for override in parsed}

    def _values(self, override: Override) -> list[Override]:
        if not override.is_sweep_override():
            return [override]
        if not override.is_discrete_sweep():
            raise UsageError(f"{override.input_line}: a sweep needs listed values, such as seed=0,1,2")
        key = override.get_key_element()
        values = self._parser.parse_overrides([f"{key}={value}" for value in override.sweep_string_iterator()])
        if not values:
            raise UsageError(f"{override.input_line} matches nothing; list values, such as seed=0,1,2")
        return values

    def _check(self, overrides: Iterable[Override]) -> None:
        seen: dict[str, Override] = {}
        for override in overrides:
            key = override.key_or_group
            if key in seen:
                raise UsageError(
                    f"{key} is given twice, as {seen[key].input_line} and {override.input_line}; "
                    f"write {key}=a,b to try both"
                )
            seen[key] = override
            options = self._loader.get_group_options(key)
            if options:
                _check_choice(override, options)


def _set_axis(axes: dict[str, Override], override: Override) -> None:
    """Set a key to the command line's values in place of the study's.

    The study's settings of the one program that it was written for, such as the number of its requests, are dropped
    with that program where the command line names another.
    """
    key = override.key_or_group
    study = axes.get(key)
    if study is not None and not study.is_sweep_override() and line(study) != line(override):
        for other in [name for name in axes if name.startswith(f"{key}.")]:
            del axes[other]
    axes[key] = override


def _check_choice(override: Override, options: list[str]) -> None:
    key, value = override.key_or_group, override.value()
    listed = ", ".join(options)
    if isinstance(value, list):
        raise UsageError(f"{override.input_line} is one list; write {key}={','.join(map(str, value))} to try each")
    if isinstance(value, Glob):
        if not value.filter(options):
            raise UsageError(f"{override.input_line} matches none of: {listed}")
        return
    names = list(override.sweep_string_iterator()) if override.is_sweep_override() else [value]
    if key == "experiment" and len(names) > 1:
        raise UsageError(f"{override.input_line}: experiment takes one study at a time; choose one of: {listed}")
    for name in names:
        if str(name) not in options and not (name is None and key == "experiment"):
            close = "" if name is None else did_you_mean(str(name), options)
            raise UsageError(
                f"{key} must be one of {listed}, but is {'null' if name is None else repr(str(name))}"
                + f"; {close}" * bool(close)
            )


def trial_names(combinations: list[Combination], configs: list[dict[str, Any]]) -> list[str]:
    """Return a name for each trial: the keys whose values differ within the sweep, or its policy if none does."""
    values = [
        {key: override.get_value_element_as_str().replace("\\ ", " ") for key, override in combination.items()}
        for combination in combinations
    ]
    keys = dict.fromkeys(key for settings in values for key in settings)
    varied = [key for key in keys if len({settings.get(key) for settings in values}) > 1]
    names = [" ".join(f"{key}={settings[key]}" for key in varied if key in settings) for settings in values]
    return [name or f"eviction={config['eviction']['name']}" for name, config in zip(names, configs, strict=True)]
