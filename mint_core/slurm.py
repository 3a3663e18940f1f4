"""A batch script for SLURM: one process of mint per GPU, saved before the time limit and put back into the queue.

srun itself starts the processes, with the variables that torchrun would set: its signals reach every one of them and it
ends with their exit code, while torchrun ends with 1 whatever happened, and kills what has not saved after 30 seconds.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mint_core.errors import INTERRUPTED, ConfigError

SAVE_SECONDS = 300
"""So long before the time limit SLURM sends its signal."""
REQUEUED = 85
"""What the job ends with that went back into the queue."""
_LEAST_MINUTES = 10
_SRUN = '--kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c'
_TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class Job:
    """What a job asks of the cluster.

    Raises:
        ConfigError: A value cannot stand in a batch script, or the time is none.
    """

    name: str
    nodes: int = 1
    gpus: int = 1
    """Per node; each has one process."""
    cpus: int = 8
    """Per process."""
    time: str = "08:00:00"
    """As SLURM writes it: minutes, h:mm:ss, days-hours."""
    partition: str | None = None
    account: str | None = None
    mem: str | None = None
    """Per node, for example 64G."""
    further: tuple[str, ...] = ()
    """Options of sbatch, as its manual writes them: `--constraint=a100`."""

    def __post_init__(self) -> None:
        if seconds_of(self.time) < _LEAST_MINUTES * 60:
            raise ConfigError(
                f"--time {self.time} is too short: a job saves {SAVE_SECONDS // 60} minutes before its end; give at "
                f"least {_LEAST_MINUTES} minutes."
            )
        for option, value in (("--partition", self.partition), ("--account", self.account)):
            if value is not None and not re.fullmatch(r"[\w.,@+-]+", value):
                raise ConfigError(f"{option} takes a name of your cluster, not '{value}'.")
        if self.mem is not None and not re.fullmatch(r"\d+[KMGT]?", self.mem):
            raise ConfigError(f"--mem takes a size per node such as 64G, not '{self.mem}'.")
        for line in self.further:
            if not re.fullmatch(r"--[a-z][a-z-]*(=[^\n\r]+)?", line):
                raise ConfigError(f"--sbatch takes an option of sbatch such as --constraint=a100, not '{line}'.")

    @property
    def processes(self) -> int:
        """How many there are in all."""
        return self.nodes * self.gpus


def seconds_of(time: str) -> int:
    """Seconds of a time limit as SLURM writes it: `90`, `30:00`, `8:00:00`, `2-12`, `2-12:30`, `2-12:30:00`.

    Raises:
        ConfigError: It is none.
    """
    found = _TIME.fullmatch(time)
    if not found:
        raise ConfigError(f"--time takes a time limit such as 08:00:00 or 2-12, not '{time}'.")
    days, *clock = found.groups()
    numbers = [int(part) for part in clock if part is not None]
    weights = (3600, 60, 1) if days is not None or len(numbers) == 3 else (60, 1)
    return int(days or 0) * 86400 + sum(number * weight for number, weight in zip(numbers, weights, strict=False))


def batch_script(job: Job, command: Sequence[str], folder: Path, parts: int | None = None) -> str:
    """The script, for `sbatch`.

    Args:
        job: What it asks for.
        command: What every process is: the program and its arguments. Nothing of the environment is written down.
        folder: Where it is carried out.
        parts: Of a comparison: a task of an array makes the part of its number, the job without an array all of them.
    """
    part = f' ${{SLURM_ARRAY_TASK_ID:+--part "$SLURM_ARRAY_TASK_ID/{parts}"}}' if parts else ""
    alone = job.processes == 1
    launched = f"{shlex.join(command)}{part}" if alone else f'srun {_SRUN} "$one" mint {shlex.join(command)}{part}'
    begin = [*_head(job), "", f"cd -- {shlex.quote(str(folder))} || exit", *([] if alone else _ranks(job))]
    return "\n".join([*begin, "", _BODY.replace("COMMAND", launched)])


def _head(job: Job) -> list[str]:
    asked = {
        "job-name": job.name, "nodes": job.nodes, "ntasks-per-node": job.gpus, "gpus-per-node": job.gpus,
        "cpus-per-task": job.cpus, "mem": job.mem, "time": job.time, "partition": job.partition,
        "account": job.account, "signal": f"B:USR1@{SAVE_SECONDS}", "open-mode": "append", "output": "mint-%j.log",
    }  # fmt: skip
    lines = [f"--{option}={value}" for option, value in asked.items() if value is not None]
    return ["#!/bin/bash", *(f"#SBATCH {line}" for line in (*lines, "--requeue", *job.further))]


def _ranks(job: Job) -> list[str]:
    """The processes find each other on the first node."""
    return [
        "",
        'MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        f"export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) WORLD_SIZE={job.processes}",
        'one=\'export RANK="$SLURM_PROCID" LOCAL_RANK="$SLURM_LOCALID"; exec "$@"\'',
    ]


_BODY = f"""\
# SLURM tells this script {SAVE_SECONDS // 60} minutes before the time limit, and where the job is preempted. It passes
# that on as USR1, waits until mint has saved, and goes back into the queue, where the same command then goes on.
told=
trap 'told=1; kill -USR1 "$work" 2> /dev/null' USR1 TERM
COMMAND &
work=$!
wait "$work"
code=$?
while kill -0 "$work" 2> /dev/null; do  # a signal ended the wait, not the work
    wait "$work"
    code=$?
done
case "$told $code" in
    "1 {INTERRUPTED}" | "1 138" | "1 143")  # saved; or the signal came before there was anything to save
        echo "Saved; job $SLURM_JOB_ID goes back into the queue."
        scontrol requeue "$SLURM_JOB_ID" && exit {REQUEUED}
        ;;
esac
exit "$code"
"""


def submit(script: str, *options: str) -> str:
    """Gives a script to sbatch.

    Args:
        script: The script.
        options: Further options of sbatch.

    Returns:
        The number of the job.

    Raises:
        ConfigError: There is no sbatch, or it refuses the job.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise ConfigError("sbatch is not in the PATH; give --now on a cluster, or leave it out to see the script.")
    command = [program, "--parsable", *options]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
        raise ConfigError(f"sbatch refused the job: {said}")
    return done.stdout.strip().partition(";")[0]
