"""A Hydra application whose trials each run in a fresh process; its launcher runs several at a time.

    python -m benchmarks.peer_hydra -m hydra/launcher=joblib hydra.launcher.n_jobs=2 eviction=lru,gdsf …

Joblib keeps its processes from trial to trial, so each trial is a process that its own starts.
"""

import json
import os
import subprocess
import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from benchmarks.peer_trial import PeerOrder

CONF = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "conf")


@hydra.main(config_path=CONF, config_name="sweep", version_base="1.3")
def main(config: DictConfig) -> None:
    """Run one trial."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    home, cores = os.environ["PEER_HOME"], json.loads(os.environ["PEER_CORES"])
    order = PeerOrder({str(key): value for key, value in plain.items()}, str(plain["costs"]), home, cores)
    subprocess.run([sys.executable, "-m", "benchmarks.peer_trial"], input=order.to_json(), text=True, check=True)


if __name__ == "__main__":
    main()
