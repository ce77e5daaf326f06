"""What the import of jaxcache does where environment variables ask for a cache."""

import os
import sys

_COMMAND = "jaxcache_command"  # the module of the installed command


def use_environment() -> None:
    """Do what the variables ask for, unless this is a command of jaxcache, which is told itself."""
    if not _is_own_command(sys.orig_argv):
        from .environment import install_of_environment, use_directory_of_environment  # here: it imports JAX

        use_directory_of_environment(os.environ)
        install_of_environment(os.environ)


def _is_own_command(argv: list[str]) -> bool:
    """Say whether this is ``python -m jaxcache`` or ``jaxcache``, which says itself what it uses."""
    is_module = "-m" in argv[:-1] and argv[argv.index("-m") + 1] == "jaxcache"
    return is_module or _COMMAND in sys.modules
