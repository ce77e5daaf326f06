"""NoEntry: the reasons why an object store gives no entry."""

import enum


class NoEntry(enum.Enum):
    """Reason why an object store gives no entry."""

    ABSENT = "it has none"
    FAULT = "it could not be asked, which was told of"
    LEFT_ALONE = "it is off for a while, and was not asked"
