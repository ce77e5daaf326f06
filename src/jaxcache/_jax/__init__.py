"""Every private JAX interface, each with a check at import and a way out."""
