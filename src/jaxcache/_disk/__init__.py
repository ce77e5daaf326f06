"""The shared directory: a persistent compile cache of many processes. Start with ``disk_cache``."""
