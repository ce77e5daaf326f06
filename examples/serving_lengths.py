"""Serve requests of every length: a program a length under ``jax.jit``; a few with buckets, compiled ahead."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxcache

random = np.random.default_rng(0)
weights = {name: random.normal(scale=0.3, size=(32, 32)).astype(np.float32) for name in ("query", "key", "value")}
yesterday = random.lognormal(3.5, 0.5, size=500).astype(int).clip(5, 120)  # lengths of a log
requests = [random.normal(size=(n, 32)).astype(np.float32) for n in random.choice(yesterday, size=10)]


def encode(weights, tokens, mask):
    """Return the mean of one layer of attention over ``(length, 32)`` tokens, an array of shape ``(32,)``."""
    query, key, value = (tokens @ weights[name] for name in ("query", "key", "value"))
    attention = jax.nn.softmax(jnp.where(mask, query @ key.T / 32**0.5, -jnp.inf))
    return jnp.mean(attention @ value, axis=0, where=mask[:, None])


plain = jax.jit(encode)
with jaxcache.watch() as compiles:
    expected = [plain(weights, tokens, np.ones(len(tokens), bool)) for tokens in requests]
programs = [record for record in compiles.compiles if record.function == "encode"]
size = jaxcache.format_size(sum(record.size_bytes for record in programs))
print(f"jax.jit:  {len(programs)} programs, {size}, each compiled while somebody waits")

# Costs are counted in tokens: one more program pays if it spares 2,000 tokens of padding.
choice = jaxcache.choose_buckets(yesterday, compile_cost=2_000)
cache = jaxcache.JitCache("64MiB")
serve = jaxcache.bucketed(encode, cache=cache, buckets=choice, axes={"tokens": 0})
for shortest in (1, *(bucket + 1 for bucket in choice.buckets[:-1])):
    serve(weights, np.ones((shortest, 32), np.float32))  # compiled, and checked at the most that it will pad

with jaxcache.no_compiles():  # what would compile from here on raises
    results = [serve(weights, tokens) for tokens in requests]
size = jaxcache.format_size(cache.stats().live_bytes)
print(f"jaxcache: {len(choice.buckets)} programs, {size}, compiled and checked before the first request")
print(f"          lengths {choice.buckets}: {choice.padding:.0%} of padding on the log of yesterday")
print("results equal:", all(np.allclose(*pair, atol=1e-5) for pair in zip(results, expected, strict=True)))
