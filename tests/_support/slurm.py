"""A SLURM of the tests' own: munge, controller and one node of two cores, in a directory, on free ports."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 30.0
DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
KillWait=5
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurmError(Exception):
    """Raised where SLURM is not installed or cannot be started; the message says why."""


@dataclass
class Cluster:
    """SLURM that runs, and its daemons."""

    home: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which SLURM's commands find it."""
        return {"SLURM_CONF": str(self.home / "slurm.conf")}

    def run(self, *words: str) -> str:
        """Run a command of SLURM; return what it prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Return the states of the jobs that have not ended, by id."""
        rows = [line.split() for line in self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()]
        return {row[0]: row[1] for row in rows}

    def start(self, name: str) -> None:
        """Start a daemon."""
        home, log = self.home, (self.home / f"{name}.log").open("ab")
        words = {
            "munged": ["--foreground", "--force", f"--socket={home}/munge.socket", f"--key-file={home}/munge.key",
                       f"--pid-file={home}/munged.pid", f"--seed-file={home}/munge.seed", "--num-threads=2"],
            "slurmctld": ["-D", "-i", "-f", f"{home}/slurm.conf"],
            "slurmd": ["-D", "-f", f"{home}/slurm.conf"],
        }[name]  # fmt: skip
        self.daemons[name] = subprocess.Popen(
            [shutil.which(name) or name, *words], env={**os.environ, **self.environment}, cwd=home,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()

    def kill(self, name: str) -> None:
        """Kill a daemon at once."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def wait_for(self, is_so: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
        """Wait until something is so.

        Raises:
            NoSlurmError: If it is not within the time, or a daemon has ended.
        """
        deadline = time.monotonic() + seconds
        while not is_so():
            ended = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise NoSlurmError(f"{what}: {self._last_words(ended[0] if ended else 'slurmctld')}")
            time.sleep(0.1)

    def _last_words(self, name: str) -> str:
        lines = (self.home / f"{name}.log").read_text(errors="replace").splitlines()
        return f"{name} said {lines[-1]}" if lines else f"{name} said nothing"

    def stop(self) -> None:
        """Cancel all jobs and end the daemons."""
        with contextlib.suppress(NoSlurmError, subprocess.TimeoutExpired):
            self.run("scancel", f"--user={getpass.getuser()}")
            self.wait_for(lambda: not self.jobs(), "jobs do not end")
        for name in reversed(DAEMONS):
            if name in self.daemons:
                self.daemons[name].terminate()
                try:
                    self.daemons[name].wait(timeout=10)
                except subprocess.TimeoutExpired:
                    self.kill(name)


@contextlib.contextmanager
def running_slurm(home: Path) -> Iterator[Cluster]:
    """Run SLURM in a directory, whose path must be short, since one of a socket may have 107 bytes.

    Raises:
        NoSlurmError: If it is not installed, or cannot be started here.
    """
    for name in (*DAEMONS, "sbatch"):
        if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            raise NoSlurmError(f"{name} is not installed (Debian: slurm-wlm)")
    if os.geteuid() != 0:
        raise NoSlurmError("slurmd runs as root alone")
    cluster = Cluster(home)
    _write_files(home)
    try:
        cluster.start("munged")
        cluster.wait_for((home / "munge.socket").exists, "munge does not start")
        cluster.start("slurmctld")
        cluster.start("slurmd")
        cluster.wait_for(lambda: cluster.run("sinfo", "--noheader", "--format=%t").strip() == "idle", "no node is idle")
        yield cluster
    finally:
        cluster.stop()


def _write_files(home: Path) -> None:
    for name in ("state", "spool"):
        (home / name).mkdir()
    key = home / "munge.key"
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o600)
    home.chmod(0o755)
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    host = socket.gethostname().partition(".")[0]
    text = CONFIG.format(host=host, user=getpass.getuser(), home=home, controller_port=ports[0], node_port=ports[1])
    (home / "slurm.conf").write_text(text)
