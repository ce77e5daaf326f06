"""The policies once more, over plain arrays and for whole traces: what numba compiles. Imported only where numba is.

They decide as the objects of ``_policies`` do, which a property test holds them to. A kernel takes a trace's columns
(signatures and events of each row; sizes, mappings and costs of each signature), two limits and the rows between two
samples; it fills in the outcome of each row, the misses of each signature and the bytes held at the samples, and
returns evictions and the peak.
"""
