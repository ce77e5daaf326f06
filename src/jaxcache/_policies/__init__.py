"""Eviction policies: who goes when the limit is reached. One short file a policy; nothing here knows JAX.

``POLICIES`` names them all; :func:`make_policy` builds one from its name and options.
"""

import inspect
from collections.abc import Mapping

from .adaptive import Adaptive
from .fifo import Fifo
from .gdsf import Gdsf
from .gdsf_admit import GdsfAdmit
from .lfu import Lfu
from .lnc_ra import LncRa
from .lru import Lru
from .never import Never
from .protocol import Policy
from .random import Random
from .s3fifo import S3Fifo
from .sieve import Sieve
from .size_based import SizeBased

__all__ = ["POLICIES", "Policy", "make_policy", "options_of"]

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
    known = options_of(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"eviction {name!r} has no option {option!r}; its options are: {', '.join(known) or 'none'}"
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
