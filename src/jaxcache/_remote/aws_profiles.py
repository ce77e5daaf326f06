"""ProfileCredentials: what files say of AWS, such as ``AWS_PROFILE`` names; obstore reads the environment alone.

Needs boto3, which is used where it is installed: it knows profiles, single sign-on, and roles to be assumed.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

# Where one of these is set, obstore's own chain has what boto3's would take first.
_IN_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
_PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}


class ProfileCredentials:
    """Credentials of the profile that files and the environment name, as obstore asks for them.

    Attributes:
        config: Region of the profile, if it has one, as obstore takes it.
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
            region = self._session.region_name
        except BotoCoreError as error:
            raise ValueError(str(error)) from error
        self.config = {} if region is None else {"region": region}
        self._provider: Any = None

    def __call__(self) -> Any:
        """Return credentials that are valid now; called in a thread of obstore's, since it may ask for a token."""
        if self._provider is None:
            from obstore.auth.boto3 import Boto3CredentialProvider

            self._provider = Boto3CredentialProvider(self._session)
        return self._provider()


def has_profile() -> bool:
    """Return whether credentials may be in files, and none is in the environment."""
    if any(os.environ.get(name) for name in _IN_ENVIRONMENT):
        return False
    files = (os.environ.get(name, default) for name, default in _FILES.items())
    return any(os.environ.get(name) for name in _PROFILES) or any(Path(file).expanduser().is_file() for file in files)


def can_read_profiles() -> bool:
    """Return whether boto3 is installed."""
    return importlib.util.find_spec("boto3") is not None
