"""A plain loop of ``concurrent.futures``: a fresh process for each trial.

python -m benchmarks.peer_futures ORDERS
"""

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.peer_trial import PeerOrder, run


def main() -> None:
    """Run the orders of a file, a list of JSON."""
    orders = [PeerOrder(**one) for one in json.loads(Path(sys.argv[1]).read_text())]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(orders[0].cores), mp_context=spawn, max_tasks_per_child=1) as pool:
        for done in [pool.submit(run, one) for one in orders]:
            done.result()


if __name__ == "__main__":
    main()
