"""A SLURM of our own: a controller and two nodes of one core each, as processes of this user on this machine.

Its programs are those on PATH and in ``/usr/sbin`` (Debian: ``apt install slurm-wlm munge``), or those below the folder
that ``NEQUIP_LIKE_SLURM`` names, into which the same packages were unpacked (``dpkg -x``): then nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "slurmstepd", "munged", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
_FOLDER = os.environ.get("NEQUIP_LIKE_SLURM", "")
_PLACES = [f"{_FOLDER}/usr/{room}" for room in ("bin", "sbin")] if _FOLDER else []
_PATH = os.pathsep.join([*_PLACES, os.environ.get("PATH", ""), "/usr/sbin"])
_LIBRARIES = f"{_FOLDER}/usr/lib/x86_64-linux-gnu"

CONFIG = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MpiDefault=none
KillWait=20
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=1 RealMemory=4000
PartitionName=long Nodes=n[1-2] Default=YES MaxTime=20 State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n[1-2] MaxTime=20 State=UP PriorityTier=9 PreemptMode=OFF
"""


def find(program: str) -> str | None:
    """Path of a program of SLURM; None if there is none. Debian's daemons have other names before they are set up."""
    return shutil.which(program, path=_PATH) or shutil.which(f"{program}-wlm", path=_PATH)


def list_missing() -> list[str]:
    """What a cluster needs and this machine lacks."""
    return [program for program in PROGRAMS if find(program) is None]


class Cluster:
    """Two idle nodes, n1 and n2, once :meth:`start` has returned.

    Args:
        folder: A new folder for state and logs, with a short path: sockets are in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "PYTEST", "PL_"))}
        self.environment = own | {"PATH": _PATH, "SLURM_CONF": str(self.config)}
        if _FOLDER:
            paths = [_LIBRARIES, f"{_LIBRARIES}/slurm-wlm", own.get("LD_LIBRARY_PATH", "")]
            self.environment["LD_LIBRARY_PATH"] = os.pathsep.join(path for path in paths if path)
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the daemons, and wait until both nodes are idle.

        Raises:
            RuntimeError: If they are not after half a minute, with the controller's log.
        """
        for name in ("state", "spool/n1", "spool/n2"):
            (self.folder / name).mkdir(parents=True)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        text = CONFIG.format(folder=self.folder, ports=_find_ports(), user=user)
        if _FOLDER:
            text += f"PluginDir={_LIBRARIES}/slurm-wlm\n"
        self.config.write_text(text)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        files["seed-file"] = "munge.seed"
        options = [f"--{option}={self.folder / name}" for option, name in files.items()]
        self._launch("munged", "--foreground", "--force", "--num-threads=1", *options)
        self._launch("slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            self._launch("slurmd", "-D", "-N", node, "-d", str(find("slurmstepd")))
        self.wait_for(lambda: self.ask("sinfo", "-h", "-N", "-p", "long", "-o", "%T").split() == ["idle"] * 2, 30)

    def stop(self) -> None:
        """End the jobs, and then the daemons, the controller first."""
        self.ask("scancel", "--user", self.environment.get("USER", "root"))
        for daemon in self._daemons[1:] + self._daemons[:1]:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, program: str, *arguments: str) -> str:
        """What a program of SLURM prints."""
        command = [str(find(program)), *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def describe(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` tells, by its names."""
        words = self.ask("scontrol", "show", "job", "-o", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, condition: object, seconds: float) -> None:
        """Wait until a function says yes.

        Raises:
            RuntimeError: If it does not in this time, with the ends of all logs.
        """
        end = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            if time.monotonic() > end:
                raise RuntimeError("\n".join(self.ask("tail", "-n", "15", path.name) for path in self.list_logs()))
            time.sleep(0.5)

    def list_logs(self) -> Sequence[Path]:
        """Logs of the daemons."""
        return sorted(self.folder.glob("*.log"))

    def _launch(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("ab") as output:
            command = [str(find(program)), *arguments]
            places = {"cwd": self.folder, "stdout": output, "stderr": output}
            self._daemons.append(subprocess.Popen(command, env=self.environment, **places))  # type: ignore[call-overload]
        time.sleep(0.5)


def _find_ports() -> list[int]:
    """Three free ports, of which the last two follow each other."""
    while True:
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            port = second.getsockname()[1]
            try:
                third.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return [first.getsockname()[1], port, port + 1]
