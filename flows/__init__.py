"""Pipeline that runs experiments: the only package that imports Prefect, Hydra and Dask."""
