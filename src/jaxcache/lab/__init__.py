"""Experiments on real JAX work. Needs the extra dependencies of ``jaxcache[lab]``."""
