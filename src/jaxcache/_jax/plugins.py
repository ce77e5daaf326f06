"""Plug-ins of JAX for GPUs and other platforms. JAX is not imported for it."""

import importlib.metadata
import importlib.util
import pkgutil


def installed_plugins() -> set[str]:
    """Return the names of JAX's plug-ins for other platforms, found in the two ways in which JAX finds them."""
    namespace = importlib.util.find_spec("jax_plugins")
    folders = list(namespace.submodule_search_locations or ()) if namespace else []
    names = {module.name for module in pkgutil.iter_modules(folders)}
    return names | {point.name for point in importlib.metadata.entry_points(group="jax_plugins")}
