"""Sweeps as jobs of SLURM, which pull trials from the sweep's directory and leave results there.

A sweep is submitted and left: nobody waits for its jobs but who attaches. The sweep's directory, on the file system
that the nodes share, is all that jobs know of each other.
"""
