"""Addresses of object stores."""

from dataclasses import dataclass
from urllib.parse import urlsplit

_SCHEMES = ("s3", "gs", "az", "https", "file", "memory")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EXAMPLES = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, https://host/path or file:///folder"


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """Address of an object store.

    Attributes:
        text: The address, without a slash at its end.
        scheme: ``s3``, ``gs``, ``az``, ``https``, ``file`` or ``memory``.
    """

    text: str
    scheme: str

    @property
    def is_read_only(self) -> bool:
        """Whether the store can only be read, and not be listed."""
        return self.scheme == "https"


def check_url(text: object, argument: str = "remote") -> RemoteUrl:
    """Return the parts of an address.

    Raises:
        ValueError: If it is no address of an object store, or holds a password.
    """
    if not isinstance(text, str):
        raise ValueError(f"{argument} must be an address such as {_EXAMPLES}, but is {text!r}")
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError as error:
        raise ValueError(f"{argument} must be an address such as {_EXAMPLES}, but is {text!r} ({error})") from error
    scheme = "https" if parts.scheme == "http" and host in _LOOPBACK else parts.scheme
    if scheme == "http":
        raise ValueError(f"{argument} must be encrypted on its way: write https:// instead of {text!r}")
    if scheme not in _SCHEMES:
        raise ValueError(f"{argument} must be an address such as {_EXAMPLES}, but is {text!r}")
    if parts.username or parts.password:
        raise ValueError(f"{argument} must hold no password: credentials come from the provider's own environment")
    if parts.query or parts.fragment:
        raise ValueError(f"{argument} must have neither ? nor #, but is {text!r}")
    if scheme == "file" and (host or len(parts.path) < 2):
        raise ValueError(f"{argument} must name a folder, such as file:///mnt/shared/jax, but is {text!r}")
    if scheme not in ("file", "memory") and not host:
        raise ValueError(f"{argument} must name a bucket or host, as in {_EXAMPLES}, but is {text!r}")
    return RemoteUrl(text.rstrip("/") if scheme != "memory" else text, scheme)
