"""Object stores: bytes by name, in a bounded time. Knows nothing of entries or JAX."""
