"""The sweep's flow, from its first reference to its report."""
