"""``python -m jaxcache``: look after a shared directory, or run a program with one."""

import sys

from ._commands import main

sys.exit(main())
