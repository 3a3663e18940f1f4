"""`mint submit` with a scheduler that runs its scripts here, and the parts of a comparison side by side.

sbatch, srun and scontrol are small stand-ins of the real ones: scripts, signals, exit codes and mint are real.
"""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import mint_core
from mint_core.comparison.compare import plan_compare
from mint_core.comparison.parts import _environments, parse_part
from mint_core.errors import ConfigError
from mint_core.runs.folder import RunFolder
from mint_core.slurm import Job, batch_script, seconds_of
from tests.fork_server import ForkServer
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
WAITS = """
import os, pathlib, time
from mint_core import interrupts
from mint_core.aligners.trainer import Guard

def waits(self, args, state, control, **other):
    on_step_end(self, args, state, control, **other)
    if state.global_step == 2 and os.environ["SLURM_RESTART_COUNT"] == "0":
        pathlib.Path("at-step-2").touch()
        end = time.monotonic() + 60
        while not interrupts.seen() and time.monotonic() < end:
            time.sleep(0.02)

on_step_end, Guard.on_step_end = Guard.on_step_end, waits
"""
"""In a job's first life, training stays in its second step until somebody sends a signal."""
TOOLS = {
    "sbatch": """
        job=$((100 + $(find "$FAKE" -name '*.sh' | wc -l)))
        printf '%s\\n' "$@" > "$FAKE/$job.options"
        cat > "$FAKE/$job.sh"
        echo "$job;cluster" """,
    "scontrol": """
        case $1 in
            requeue) echo "$2" >> "$FAKE/requeued" ;;
            show) echo localhost ;;
        esac""",
    "srun": """
        while [[ $1 == --* ]]; do shift; done
        trap 'kill -USR1 "${tasks[@]}"' USR1
        trap 'kill -KILL "${tasks[@]}"; exit 137' TERM  # as the real one does
        for ((i = 0; i < WORLD_SIZE; i++)); do
            SLURM_PROCID=$i SLURM_LOCALID=$i "$@" &
            tasks+=($!)
        done
        worst=0
        for task in "${tasks[@]}"; do
            wait "$task"; code=$?
            while kill -0 "$task" 2> /dev/null; do wait "$task"; code=$?; done
            ((code > worst)) && worst=$code
        done
        exit $worst""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path_factory.mktemp("f"))
    gc.freeze()  # runs in this process collect often, and all that is imported stays
    yield server
    gc.unfreeze()
    server.close()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("student") / "llama")


@pytest.fixture
def toy(install_plugin, tmp_path: Path, student: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> dict:
    """A config of the toy, in an empty folder; what starts mint starts it in a fork."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(server.python))
    config = {
        "task": {"name": "toy", "count": 18},
        "metrics": ["top-n"],
        "student": {"model": str(student)},
        "aligner": {"epochs": 1, "warmup": 0, "lora_rank": 4, "batch_size": 4, "learning_rate": 0.05},
        "predict": {"decode": "constrained", "base": False},
        "evaluate": {"bootstrap": 100},
    }
    Path("mint.yaml").write_text(yaml.safe_dump(config))
    return config


class Cluster:
    """Runs what was given to sbatch, as SLURM would."""

    def __init__(self, root: Path) -> None:
        self.root = root / "cluster"
        tools = root / "bin"
        for folder in (self.root, tools):
            folder.mkdir()
        for name, script in TOOLS.items():
            (tools / name).write_text(f"#!/bin/bash{script}\n")
            (tools / name).chmod(0o755)
        self.path = f"{tools}:{os.environ['PATH']}"

    @property
    def jobs(self) -> list[str]:
        return sorted(path.stem for path in self.root.glob("*.sh"))

    def start(self, job: str, restarts: int = 0, **variables: object) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "PATH": self.path, "FAKE": str(self.root), "SLURM_JOB_ID": job, "SLURM_CPUS_PER_TASK": "1",
            "SLURM_RESTART_COUNT": str(restarts), "SLURM_JOB_NODELIST": "localhost",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **{name: str(one) for name, one in variables.items()},
        }  # fmt: skip
        with Path(f"mint-{job}.log").open("a") as log:
            return subprocess.Popen(["bash", self.root / f"{job}.sh"], env=environment, stdout=log, stderr=log)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(tmp_path)
    monkeypatch.setenv("PATH", made.path)
    monkeypatch.setenv("FAKE", str(made.root))
    return made


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_job_saves_before_its_time_limit_and_goes_on(toy, cluster: Cluster, mint, gpus: int) -> None:
    """Told by USR1 in the middle of `align`; two processes are started by srun, whose own SIGTERM would kill them."""
    until = "report" if gpus == 1 else "align"
    plain = mint_core.run(toy, name="plain", out="elsewhere", until="align") if gpus == 1 else None
    said = mint("submit", "run", "-c", "mint.yaml", "--name", "job", "--gpus", gpus, "--until", until, "--now")
    assert (said.code, said.out.splitlines()[0]) == (0, "Submitted: job 100."), said.err
    Path("site/toy_plugin_under_test.py").write_text(TOY + WAITS)  # for the jobs alone
    first = cluster.start("100")
    while not Path("at-step-2").exists() and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGUSR1)
    log = Path("mint-100.log")
    assert first.wait(120) == 85, log.read_text()
    assert (cluster.root / "requeued").read_text() == "100\n"
    assert json.loads(Path("runs/job/run.json").read_text())["status"] == "interrupted"
    assert cluster.start("100", restarts=1).wait(120) == 0, log.read_text()
    assert log.read_text().count("Resuming from step 2") == 1
    if plain:
        weights = Path("adapter/adapter_model.safetensors")
        assert Path("runs/job/report.html").exists()
        assert (Path("runs/job") / weights).read_bytes() == (plain.path / weights).read_bytes()
    else:
        assert json.loads(Path("runs/job/training/history.json").read_text())["settings"]["processes"] == 2


def test_parts_make_the_same_comparison(toy, cluster: Cluster, mint) -> None:
    """As an array of four tasks at once with a job behind it, and in two processes of this machine.

    A task whose run starts from another task's adapter makes that run itself, or waits for it.
    """
    plain = mint_core.compare(toy, aligners=["sft", "dpo"], seeds=2, name="c", out="plain")
    options = ("-c", "mint.yaml", "--aligners", "sft,dpo", "--seeds", 2, "--name", "c", "--out", "array")
    assert mint("submit", "compare", *options, "--now").code == 0
    array, table = cluster.jobs
    asked = [(cluster.root / f"{job}.options").read_text().split() for job in (array, table)]
    assert asked[0] == ["--parsable", "--array=1-4"]
    assert asked[1] == ["--parsable", f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes"]
    tasks = [cluster.start(array, SLURM_ARRAY_TASK_ID=number) for number in range(1, 5)]
    assert [task.wait(120) for task in tasks] == [0] * 4, Path(f"mint-{array}.log").read_text()
    made = {"label": 1, "prefer": 1, "align": 4, "predict": 4, "evaluate": 4, "report": 4}
    assert stages(Path("array/c")) == made
    assert not Path("array/c/compare.json").exists()
    assert cluster.start(table).wait(120) == 0, Path(f"mint-{table}.log").read_text()
    assert stages(Path("array/c")) == made
    content = json.loads(Path("array/c/compare.json").read_text())
    assert without_config(content) == without_config(plain.content)

    jobs = mint_core.compare(toy, aligners=["sft", "dpo"], seeds=1, name="c", out="jobs", jobs=2)
    assert stages(jobs.path) == {"label": 1, "prefer": 1, "align": 2, "predict": 2, "evaluate": 2, "report": 2}
    for name in ("sft-seed0", "dpo-seed0"):
        for file in ("adapter/adapter_model.safetensors", "predictions.jsonl"):
            assert (jobs.path / name / file).read_bytes() == (plain.path / name / file).read_bytes()
    assert (jobs.path / "compare.json").exists() and not list(jobs.path.glob(".jobs*"))


def stages(comparison: Path) -> Counter[str]:
    """How often each stage was made in all runs together."""
    lines = (line for log in comparison.glob("*/log.jsonl") for line in log.read_text().splitlines())
    return Counter(one["stage"] for one in map(json.loads, lines) if one["event"] == "stage begins")


def without_config(content: dict) -> dict:
    """It names folders."""
    return json.loads(json.dumps({key: value for key, value in content.items() if key != "config"}))


def test_side_by_side_an_error_is_the_rows_own(toy, mint) -> None:
    rows = ("--row", "bad=base:teacher.fail=true", "--row", "good=base:teacher.sharpness=1")
    answer = mint("compare", "-c", "mint.yaml", *rows, "--name", "c", "--jobs", 2)
    assert answer.code == 5
    assert re.search(r"^mint: The teacher 'oracle' of mint-toy returned shape .*\.$", answer.err, re.M), answer.err
    assert not Path("runs/c/compare.json").exists()


def test_each_process_has_a_gpu_and_its_share_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan_compare({"task": "tissue-type", "teacher": "plip"}, aligners=["base"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # there is none here
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    given = [(one["CUDA_VISIBLE_DEVICES"], one["OMP_NUM_THREADS"]) for one in _environments(3, made)]
    assert given == [("3", "2"), ("5", "2"), ("3", "2")]
    fixed = plan_compare({"task": "tissue-type", "student": {"device": "cpu"}}, aligners=["base"])
    assert [one["CUDA_VISIBLE_DEVICES"] for one in _environments(2, fixed)] == ["3,5"] * 2


def test_ctrl_c_ends_all_processes(toy) -> None:
    class Stop(mint_core.Observer):
        def message(self, text: str) -> None:
            if text.startswith(("sft, seed 0: align", "orpo, seed 0: align")):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mint_core.compare(toy, aligners=["sft", "orpo"], seeds=1, name="c", jobs=2, observer=Stop())
    states = []
    for record in Path("runs/c").glob("*/run.json"):
        with RunFolder(record.parent):  # no process has it any longer
            states.append(json.loads(record.read_text())["status"])
    assert "interrupted" in states and "running" not in states


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["run", "--teachr", "plip"], "No such option '--teachr'"),
        (["run", "--teacher", "plp"], "There is no teacher 'plp'; did you mean 'plip'?"),
        (["run", "--teacher", "plip", "--gpus", "0"], "Invalid value for '--gpus': 0"),
        (["run", "--teacher", "plip", "--time", "soon"], "--time takes a time limit such as 08:00:00"),
        (["run", "--teacher", "plip", "--time", "5"], "--time 5 is too short"),
        (["run", "--teacher", "plip", "--mem", "much"], "--mem takes a size"),
        (["run", "--teacher", "plip", "--partition", "a b"], "--partition takes a name"),
        (["run", "--teacher", "plip", "--sbatch", "constraint=a100"], "--sbatch takes an option of sbatch"),
        (["run", "--teacher", "plip", "--now"], "sbatch is not in the PATH"),
        (["compare", "--teacher", "plip"], "A comparison needs rows"),
        (["compare", "--teacher", "plip", "--aligners", "base", "--jobs", "2"], "leave --part and --jobs out"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_submitted(mint, tmp_path, monkeypatch, options, sentence) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    answer = mint("submit", *options)
    assert (answer.code, answer.out, sentence in answer.err) == (2, "", True), answer.err
    assert not list(tmp_path.iterdir())


def test_what_sbatch_refuses_is_said(mint, cluster: Cluster) -> None:
    sbatch = cluster.root.parent / "bin" / "sbatch"
    sbatch.write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    answer = mint("submit", "run", "--teacher", "plip", "--partition", "none", "--now")
    assert (answer.code, answer.err) == (2, "mint: sbatch refused the job: sbatch: error: invalid partition\n")


def test_a_script_quotes_everything_and_holds_nothing_of_the_environment(mint, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINT_API_KEY", "a-secret")
    folder = tmp_path / "it's; touch here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    options = ("--teacher", "plip", "--out", "$(touch there)", "--sbatch", "--constraint=a100")
    answer = mint("submit", "run", *options, "--script", "job.sh")
    assert answer.err == "Nothing was submitted; give --now, or sbatch job.sh.\n"
    text = Path("job.sh").read_text()
    assert "#SBATCH --constraint=a100" in text and "a-secret" not in text and "srun" not in text
    asked = text.replace(f"{sys.executable} -m mint_core", "printf '%s\\n'")
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["run", "--teacher", "plip", "--out", "$(touch there)"]
    assert [path.name for path in folder.iterdir()] == ["job.sh"]


def test_a_job_without_an_array_makes_the_whole_comparison() -> None:
    text = batch_script(Job("mint"), ["printf", "%s "], Path("/"), parts=6)
    for task, said in (("", ""), ("2", "--part 2/6 ")):
        environment = {"SLURM_ARRAY_TASK_ID": task, "PATH": os.environ["PATH"]}
        done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said.strip()


def test_times_are_read_as_slurm_reads_them() -> None:
    times = {"90": 5400, "30:00": 1800, "8:00:00": 28800, "2-12": 216000, "2-12:30": 217800, "2-12:30:10": 217810}
    assert {time: seconds_of(time) for time in times} == times
    for wrong in ("", "x", "1:2:3:4", "-5", "08:00:00\n#SBATCH --x"):
        with pytest.raises(ConfigError, match="--time"):
            seconds_of(wrong)


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1", "1/0", "-1/3", "a/b"])
def test_a_part_is_one_of_so_many(text: str) -> None:
    with pytest.raises(ConfigError, match="--part takes I/N"):
        parse_part(text)
