"""Jobs on a cluster: the file that SLURM would be given, and a job that is ended and goes on, on this machine."""

import os
import re
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_grid as TINY
from accelerate.state import AcceleratorState
from submitit import DebugExecutor, LocalExecutor, SlurmExecutor
from submitit.core.submission import process_job

from astraios_analysis.records.frame import load
from training.grid.bases import pretrain
from training.grid.cluster import JOB_FOLDER, JobSettings, TaskJob, run_queue, submit, tasks_of
from training.grid.run import run
from training.grid.workers import Folders, Task
from training.spec.files import record_path, run_lock, run_state, work_folder

# What SLURM is asked for the array of runs; the rest of the file is submitit's own.
DIRECTIVES = """
--account=lab --array=0-3%2 --cpus-per-task=4 --dependency=afterany:1000 --gpus-per-node=1 --job-name=tiny-runs
--mem=32768MB --nodes=1 --ntasks-per-node=1 --partition=gpu --requeue --signal=USR2@120 --time=90
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A machine on which `sbatch` keeps the files it is given, and numbers jobs from 1000 on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text("#!/bin/sh\nexit 1\n")
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol\n')
    (folder / "sbatch").write_text(
        f'#!/bin/sh\nn=$(ls {tmp_path}/sbatch-* 2>/dev/null | wc -l)\ncp "$1" {tmp_path}/sbatch-$n\n'
        'echo "Submitted batch job $((1000 + n))"\n'
    )
    for path in folder.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_the_file_that_would_be_submitted(cluster, tiny, told):
    runs = cluster / "runs"
    options = ["--partition", "gpu", "--account", "lab", "--minutes", "90", "--at-once", "2", "--setup"]
    command = ["grid", "run", "--preset", "tiny", "--engine", "slurm", *options, "module load cuda"]
    errors = told(*command, "--runs", runs, "--cache", cluster / "cache").err
    # The only base is a job of its own, on which the array of its four runs waits.
    bases, trained = ((cluster / f"sbatch-{number}").read_text() for number in (0, 1))
    asked = set(re.findall(r"^#SBATCH (.+)$", trained, re.MULTILINE))
    assert asked >= set(DIRECTIVES.split()) and "\nmodule load cuda\n" in trained
    assert f"--output={runs}/.jobs/%A_%a_0_log.out" in asked
    assert "--array" not in bases
    assert "--dependency" not in bases
    assert "#SBATCH --job-name=tiny-bases" in bases
    assert "5 jobs are in the queue, 1000 to 1001_3" in errors


def test_without_slurm_the_engine_says_so(monkeypatch, tmp_path, tiny, refused):
    monkeypatch.setattr(SlurmExecutor, "affinity", lambda *_: -1)
    message = refused("grid", "run", "--preset", "tiny", "--engine", "slurm", "--runs", tmp_path)
    assert "this machine has no SLURM" in message


def test_bases_are_shared_and_finished_runs_left_out(tmp_path):
    specs = TINY.tiny_grid(seeds=(0, 1)).runs()
    TINY.write_record(tmp_path, specs[0])
    bases, runs = tasks_of(specs, tmp_path)
    assert [task.kind for task in bases] == ["base", "base"]
    assert [task.spec for task in runs] == list(specs[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0}, "minutes is 0; give a positive number"),
        ({"minutes": 2}, "minutes is 2; a job needs 2 of them to be put back"),
        ({"gpus": -1}, "gpus is -1; give 0 or more"),
        ({"nodes": 2}, "nodes is 2, and this machine is one; choose --engine slurm"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        JobSettings(**changes).local_parameters()


# submitit's executor of this process leaves its logs open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module")
def queued(tmp_path_factory):
    """A run that the queue has trained, by jobs in this process: its specification, folders and what was said."""
    (spec,) = TINY.tiny_grid(methods=("lora",)).runs()
    spec = spec.model_copy(update={"tuning": spec.tuning.model_copy(update={"dropout": 0.0})})
    folders, lines = Folders(tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("cache"), None), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.grid.cluster._submitit", lambda: SimpleNamespace(LocalExecutor=DebugExecutor))
        (outcome,) = run_queue([spec], folders, JobSettings(gpus=0), lines.append)
    assert outcome.status == "done", lines
    return spec, folders, lines


def test_the_queue_trains_bases_and_then_runs(queued):
    spec, folders, lines = queued
    assert [line.partition(":")[0] for line in lines] == ["[1/2] base 16x1, seed 0", f"[2/2] {spec.run_id}"]
    assert run_state(folders.runs, spec.run_id).state == "done"


def work_as_task(rank, spec, folders):
    """One of the two processes that submitit starts for a job."""
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ |= {
        "ACCELERATE_USE_CPU": "true",
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": str(os.getppid()),
    }
    os.environ |= {"SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_GLOBALID": rank, "SUBMITIT_LOCAL_LOCALID": rank}
    status, message = TaskJob(Task("run", spec), folders)()
    assert status == "done", message


def test_the_processes_of_a_job_train_its_run_together(queued, tmp_path):
    """Sharded over two processes that know of each other, the curve is that of one to 1e-4."""
    spec, folders, _ = queued
    together = replace(folders, runs=tmp_path, is_sharded=True)
    assert TINY.in_processes(work_as_task, [(rank, spec, together) for rank in "01"]) == [0, 0]
    alone, record = (load(record_path(runs, spec.run_id)) for runs in (folders.runs, tmp_path))
    assert record.provenance.spec["n_processes"] == 2
    for one, two in zip(alone.val_curve, record.val_curve, strict=True):
        assert two.loss == pytest.approx(one.loss, rel=1e-4)


def test_what_several_processes_ask_of_a_cluster_and_of_this_machine(tmp_path):
    asked = JobSettings(nodes=2, gpus=8).parameters("x")
    assert (asked["nodes"], asked["ntasks_per_node"], asked["gpus_per_node"]) == (2, 8, 8)
    assert JobSettings(gpus=0).parameters("x")["ntasks_per_node"] == 1
    here = LocalExecutor(tmp_path)
    here.update_parameters(**JobSettings(gpus=1, processes=2, minutes=30).local_parameters())
    assert here.parameters == {"tasks_per_node": 2, "timeout_min": 30, "gpus_per_node": 1}


def work_as_job(jobs, is_preempted):
    """What submitit's process does on a node; one that is to go is told so at its seventh step, as SLURM does."""
    os.environ |= {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "1000"}
    patch = pytest.MonkeyPatch()
    patch.setitem(run.__kwdefaults__, "checkpoint_every", 5)
    if is_preempted:
        TINY.stop_at(patch, 7, lambda: os.kill(os.getpid(), signal.SIGUSR2))
    process_job(jobs)


def test_a_preempted_job_goes_on_from_its_checkpoint(cluster, queued):
    trained, trained_folders, _ = queued
    folders = replace(trained_folders, runs=cluster / "runs")
    schedule = trained.schedule.model_copy(update={"steps": 12})
    # A base that is there needs no job of its own.
    size = trained.size.model_copy(update={"pretrained": str(pretrain(trained, folders.cache))})
    spec = trained.model_copy(update={"size": size, "pretraining": None, "schedule": schedule})
    (job,) = submit([spec], folders, JobSettings())
    assert job.job_id == "1000"
    work = work_folder(folders.runs, spec.run_id)
    assert TINY.in_a_process(work_as_job, folders.runs / JOB_FOLDER, True) == 255
    assert (cluster / "scontrol").read_text() == "requeue 1000\n"
    assert [path.name for path in work.glob("step-*")] == ["step-000005"]
    assert run_state(folders.runs, spec.run_id).state == "partial"
    assert TINY.in_a_process(work_as_job, folders.runs / JOB_FOLDER, False) == 0
    assert job.result()[0] == "done"
    record, undisturbed = load(record_path(folders.runs, spec.run_id)), run(spec, cluster / "alone", folders.cache)
    assert record.val_curve == undisturbed.val_curve
    assert record.val_curve[-1].step == 12
    assert not work.exists()
    assert not run_lock(folders.runs, spec.run_id).exists()


def test_a_failed_task_is_a_failed_job_and_leaves_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("training.grid.cluster.perform", lambda *_: ("failed", "ValueError: no"))
    spec = TINY.tiny_grid().runs()[0]
    job = TaskJob(Task("run", spec), Folders(tmp_path, tmp_path))
    with pytest.raises(RuntimeError, match=f"{spec.run_id}: ValueError: no"):
        job()
    TINY.write_record(tmp_path, spec)
    assert job() == ("skipped", "its record exists")
