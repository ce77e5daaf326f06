"""Eviction policies: who goes when the limit is reached. A short file per policy or family; nothing here knows JAX.

``POLICIES`` names them all; :func:`make_policy` builds one from its name and options.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .adaptive import Adaptive
from .gdsf import Gdsf
from .gdsf_admit import GdsfAdmit
from .lfu import Lfu
from .lnc_ra import LncRa
from .lru_fifo_none import Fifo, Lru, Never
from .protocol import Policy
from .random import Random
from .s3fifo import S3Fifo
from .sieve import Sieve
from .size_based import SizeBased

__all__ = ["POLICIES", "Policy", "make_policy", "options_of", "policy_maker"]

POLICIES: Mapping[str, type[Policy]] = {
    "none": Never,
    "lru": Lru,
    "lfu": Lfu,
    "fifo": Fifo,
    "random": Random,
    "size_based": SizeBased,
    "sieve": Sieve,
    "s3fifo": S3Fifo,
    "gdsf": Gdsf,
    "gdsf_admit": GdsfAdmit,
    "lnc_ra": LncRa,
    "adaptive": Adaptive,
}


def make_policy(name: str, **options: object) -> Policy:
    """Return a new policy.

    Args:
        name: A key of ``POLICIES``.
        **options: What that policy's constructor takes, such as ``seed`` for ``random``.

    Raises:
        ValueError: If there is no such policy, or it has no such option.
    """
    accepted = options_of(name)
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"eviction {name!r} has no option {option!r}; its options are: {', '.join(accepted) or 'none'}"
            )
    return POLICIES[name](**options)


def options_of(name: str) -> list[str]:
    """Return the names of the options that a policy takes; a policy that draws takes ``seed``.

    Raises:
        ValueError: If there is no such policy.
    """
    policy = POLICIES.get(name)
    if policy is None:
        raise ValueError(f"eviction must be one of {', '.join(POLICIES)}, but is {name!r}")
    return [] if policy.__init__ is object.__init__ else list(inspect.signature(policy).parameters)


def policy_maker(policy: object, seed: int, argument: str = "eviction") -> Callable[[], Policy]:
    """Return what makes the policy that is named, or returns the caller's own.

    Args:
        policy: A key of ``POLICIES``, or an object with the methods of :class:`Policy`.
        seed: For policies that draw.
        argument: The name under which the caller takes the policy, for the message.

    Raises:
        ValueError: If there is no policy of that name.
        TypeError: If it is neither a name nor a policy.
    """
    if isinstance(policy, str):
        options = {"seed": seed} if "seed" in options_of(policy) else {}
        return lambda: make_policy(policy, **options)
    methods = ("add", "hit", "victim", "remove", "admit")
    if isinstance(policy, type) or not all(callable(getattr(policy, name, None)) for name in methods):
        raise TypeError(
            f"{argument} must be a name such as 'lru', or an object with the methods add, hit, victim, remove and "
            f"admit of jaxcache.Policy, but is {policy!r}"
        )
    own_policy: Any = policy
    return lambda: own_policy
