"""Programs that measure against a peer in the same run; they print ratios and write ``benchmarks/results/``."""
