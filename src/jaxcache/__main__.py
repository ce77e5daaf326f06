"""``python -m jaxcache``: look after a shared directory, or run a program with one."""

import sys

from ._cli.commands import main

sys.exit(main())
