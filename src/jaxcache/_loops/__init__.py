"""Loops, solvers, fits and gradient steps whose programs are compiled by the cache."""
