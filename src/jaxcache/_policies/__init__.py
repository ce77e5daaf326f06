"""Eviction policies: who goes when the limit is reached. One short file a policy; nothing here knows JAX.

``POLICIES`` names them all; :func:`make_policy` builds one from its name and options.
"""

import inspect
from collections.abc import Mapping

from ._gdsf import Gdsf
from ._lru import Lru
from ._never import Never
from ._protocol import Policy
from ._random import Random
from ._size_based import SizeBased

__all__ = ["POLICIES", "Policy", "make_policy"]

POLICIES: Mapping[str, type[Policy]] = {
    "none": Never,
    "lru": Lru,
    "random": Random,
    "size_based": SizeBased,
    "gdsf": Gdsf,
}


def make_policy(name: str, **options: object) -> Policy:
    """Return a new policy.

    Args:
        name: A key of ``POLICIES``.
        **options: What that policy's constructor takes, such as ``seed`` for ``random``.

    Raises:
        ValueError: If there is no such policy, or it has no such option.
    """
    policy = POLICIES.get(name)
    if policy is None:
        raise ValueError(f"eviction must be one of {', '.join(POLICIES)}, but is {name!r}")
    known = [] if policy.__init__ is object.__init__ else list(inspect.signature(policy).parameters)
    for option in options:
        if option not in known:
            raise ValueError(
                f"eviction {name!r} has no option {option!r}; its options are: {', '.join(known) or 'none'}"
            )
    return policy(**options)
