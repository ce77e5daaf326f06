"""Description of a tuned program as overrides of a sweep."""

import json
import re
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from ..planning.locations import CONF
from ..planning.plan import make_plan

_GROUPS = ("workload", "shapes", "persistent")
_NOT_THE_PROGRAM = ("eviction", "memory_limit", "buckets", "costs", "runner", "sweep")
_PLAIN = re.compile(r"[A-Za-z_./-][\w./-]*")


def describe_program(program: Sequence[str], config_dir: str | None = None) -> dict[str, str]:
    """Return the program as overrides by key: options of groups, and the values that differ from theirs.

    The settings that tuning chooses (policy, limit, buckets, costs), and those of a sweep as a whole, are left out.
    """
    config = make_plan(tuple(program), config_dir=config_dir).trials[0].config
    chosen = {key: value for key, _, value in (word.partition("=") for word in program)}
    options = {group: chosen.get(group, str(config[group].get("name", config[group].get("mode")))) for group in _GROUPS}
    if "program" in config:
        return _describe_users_program(config, options)
    plain = tuple(f"{group}={option}" for group, option in options.items())
    defaults = make_plan(plain, config_dir=config_dir).trials[0].config
    overrides = dict(options)
    for key in (key for key in config if key not in _NOT_THE_PROGRAM):
        parts = config[key].items() if isinstance(config[key], dict) else [("", config[key])]
        for name, value in parts:
            if (defaults[key][name] if name else defaults[key]) != value:
                overrides[f"{key}.{name}" if name else key] = _written(value)
    return overrides


def _describe_users_program(config: dict[str, Any], options: dict[str, str]) -> dict[str, str]:
    """Return a user's program as overrides by key."""
    name = config["workload"]["name"]
    defaults: Any = OmegaConf.to_container(OmegaConf.load(CONF / "workload" / f"{name}.yaml"))
    usual = _flat(defaults["program"])
    changed = {key: value for key, value in _flat(config["program"]).items() if usual.get(key) != value}
    overrides = {"workload": name, "persistent": options["persistent"]}
    overrides.update({f"program.{key}": _written(value) for key, value in changed.items()})
    return overrides | ({"seed": str(config["seed"])} if config["seed"] else {})


def _flat(program: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a program by key, those of its check by theirs."""
    checks = {f"check.{key}": value for key, value in program["check"].items()}
    return {**{key: value for key, value in program.items() if key != "check"}, **checks}


def _written(value: Any) -> str:
    """Return a value in the syntax of Hydra's command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return value if _PLAIN.fullmatch(value) else f"'{escaped}'"
