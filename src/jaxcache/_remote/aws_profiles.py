"""ProfileCredentials: what files say of AWS, such as ``AWS_PROFILE`` names; obstore reads the environment alone.

Needs boto3, which is used where it is installed: it knows profiles, their endpoints, single sign-on, and roles to be
assumed.
"""

import asyncio
import contextlib
import importlib.util
import os
import threading
from pathlib import Path
from typing import Any

# Where one of these is set, obstore's own chain has what boto3's would take first.
_IN_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
_PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}


class ProfileCredentials:
    """Credentials of the profile that files and the environment name, as obstore asks for them.

    Attributes:
        config: Region and endpoint of the profile, as far as it has them, as obstore takes them.
    """

    def __init__(self) -> None:
        """Read the files; nobody is asked for a token yet.

        Raises:
            ValueError: If there is no such profile, or a file makes no sense.
        """
        import boto3  # here, where no request waits for it: it takes long
        from botocore.exceptions import BotoCoreError

        try:
            self._session: Any = boto3.Session()
            region = os.environ.get("AWS_REGION") or self._session.region_name  # boto3 does not know the variable
            endpoint = _endpoint_of(self._session) if names_endpoint() else None
        except (BotoCoreError, ValueError) as error:
            raise ValueError(str(error)) from error
        settings = {"region": region, "endpoint": endpoint}
        self.config = {name: value for name, value in settings.items() if value}
        self._provider: Any = None

    async def __call__(self) -> Any:
        """Return credentials that are valid now.

        They may have to be asked for, which takes as long as it takes: in a thread that ends with the interpreter, as
        those of obstore do not.
        """
        loop, credentials = asyncio.get_running_loop(), asyncio.Future[Any]()

        def ask() -> None:
            try:
                settle, outcome = credentials.set_result, self._ask()
            except Exception as error:
                settle, outcome = credentials.set_exception, error
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(lambda: credentials.done() or settle(outcome))

        threading.Thread(target=ask, name="jaxcache credentials", daemon=True).start()
        return await credentials

    def _ask(self) -> Any:
        if self._provider is None:
            from obstore.auth.boto3 import Boto3CredentialProvider

            self._provider = Boto3CredentialProvider(self._session)
        return self._provider()


def _endpoint_of(session: Any) -> str | None:
    """Return the endpoint that is configured for S3, or None where it is Amazon's own.

    Told by two clients of S3, which ask nobody for anything, since only they look at all the keys that name one.
    """
    from botocore.config import Config

    unused = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}  # else a client would look for credentials
    configured = session.client("s3", **unused).meta.endpoint_url
    own = session.client("s3", **unused, config=Config(ignore_configured_endpoint_urls=True)).meta.endpoint_url
    return None if configured == own else configured


def credentials_are_in_files() -> bool:
    """Return whether credentials may be in files, and none is in the environment."""
    if any(os.environ.get(name) for name in _IN_ENVIRONMENT):
        return False
    return any(os.environ.get(name) for name in _PROFILES) or any(path.is_file() for path in _files())


def names_endpoint() -> bool:
    """Return whether files may name an endpoint, and the environment names none in a way that obstore alone knows."""
    if os.environ.get("AWS_ENDPOINT"):
        return False
    for path in _files():
        with contextlib.suppress(OSError):  # there is none, or it is another user's
            if b"endpoint_url" in path.read_bytes():
                return True
    return False


def _files() -> list[Path]:
    return [Path(os.environ.get(name, default)).expanduser() for name, default in _FILES.items()]


def can_read_profiles() -> bool:
    """Return whether boto3 is installed."""
    return importlib.util.find_spec("boto3") is not None
