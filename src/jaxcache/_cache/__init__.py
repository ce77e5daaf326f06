"""The memory tier: compiled programs under a limit. Start with ``jit_cache``."""
