"""The commands of ``python -m jaxcache``."""
