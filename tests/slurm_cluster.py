"""A Slurm cluster of two nodes on this machine's loopback, of Debian's slurm-wlm."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel", "sinfo")
NODES = ("one", "two")
PATIENCE = 300.0  # seconds
CONF = """\
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={top}/munge.socket
SlurmctldPort={ports[0]}
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool-%n
SlurmctldPidFile={top}/slurmctld.pid
SlurmdPidFile={top}/%n.pid
SlurmctldLogFile={top}/slurmctld.log
SlurmdLogFile={top}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
GresTypes=gpu
NodeName=one NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 Gres=gpu:1
NodeName=two NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 Gres=gpu:1
PartitionName=all Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def program(name: str) -> str | None:
    """Find a program, also among an administrator's, which a user's PATH may lack."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Cluster:
    """Two nodes that run jobs as this user.

    Attributes:
        top: The folder of its state.
        environment: That of whoever gives it jobs.
    """

    def __init__(self, top: Path) -> None:
        """Write its configuration."""
        self.top = top
        self.environment = os.environ | {"SLURM_CONF": str(top / "slurm.conf")}
        words = {"user": getpass.getuser(), "top": top, "ports": _free_ports(3)}
        (top / "slurm.conf").write_text(CONF.format(**words))
        (top / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/null\n")
        (top / "munge.key").write_bytes(secrets.token_bytes(1024))
        (top / "munge.key").chmod(0o600)
        for folder in ("state", *(f"spool-{node}" for node in NODES)):
            (top / folder).mkdir()

    def start(self) -> None:
        """Start its four daemons."""
        top = self.top
        self.call(
            "munged", "--force", f"--key-file={top}/munge.key", f"--socket={top}/munge.socket",
            f"--pid-file={top}/munged.pid", f"--log-file={top}/munged.log",
            f"--seed-file={top}/munge.seed",
        )  # fmt: skip
        self.call("slurmctld", "-c")
        for node in NODES:
            self.call("slurmd", "-N", node)
        self.wait_until(lambda: self.call("sinfo", "-h", "-o", "%T %D") == "idle 2", patience=20)

    def stop(self) -> None:
        """End them, the last one first."""
        for name in (*NODES, "slurmctld", "munged"):
            with suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.kill(int((self.top / f"{name}.pid").read_text()), signal.SIGTERM)

    def call(self, name: str, *words: object) -> str:
        """Run a program; return what it says."""
        command = [program(name) or name, *map(str, words)]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    def wait_until(self, so: Callable[[], object], patience: float = PATIENCE) -> None:
        """Look again and again whether something is so."""
        deadline = time.monotonic() + patience
        while not so():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)

    def kill(self, task: str) -> None:
        """End the processes of an array's task as a lack of memory does, without Slurm's doing."""
        job, _, number = task.partition("_")
        wanted = {
            f"{name}={value}".encode()
            for name, value in (
                ("SLURM_CONF", self.environment["SLURM_CONF"]),
                ("SLURM_ARRAY_JOB_ID", job),
                ("SLURM_ARRAY_TASK_ID", number),
            )
        }
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # of another user, or gone
                if wanted <= set(file.read_bytes().split(b"\0")):
                    os.kill(int(file.parent.name), signal.SIGKILL)

    def state_of(self, job: str) -> str:
        """Return a job's state, such as RUNNING; of an array's, all of them."""
        return self.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def started_cluster(top: Path) -> Iterator[Cluster]:
    """Start a cluster; skip the test where there is no Slurm, or it cannot be started."""
    if not all(program(name) for name in NEEDED):
        pytest.skip("slurm-wlm is not installed")
    cluster = Cluster(top)
    try:
        try:
            cluster.start()
        except (subprocess.SubprocessError, AssertionError):
            pytest.skip("Slurm cannot be started here")
        yield cluster
    finally:
        cluster.stop()
