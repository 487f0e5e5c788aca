"""The command line end to end: subprocesses, real Ray, a real MLflow store, files on disk."""

from __future__ import annotations

import io
import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from autorank.cli import tokenization_log
from autorank.errors import AutorankError
from autorank.trials.journal.journal import Journal
from autorank.trials.record import TrialRecord
from tests import tiny_models
from tests.cli.commands import DATA_OPTIONS, autorank, command, run_in_process, subprocess_environment, users_folder

if TYPE_CHECKING:
    from mlflow.entities import Run


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return users_folder(tmp_path_factory.mktemp("place"))


def test_tokenization_is_logged_above_a_live_table_and_not_with_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tokenization_log.LOGGER, "handlers", [])
    tokenization_log.show()
    stderr = io.StringIO()
    with monkeypatch.context() as context:
        context.setattr(sys, "stderr", stderr)  # as rich does while it draws
        tokenization_log.LOGGER.info("tokenizing %s examples", 7)
    assert stderr.getvalue() == "autorank: tokenizing 7 examples\n"
    tokenization_log.silence()
    tokenization_log.LOGGER.info("tokenizing again")
    tokenization_log.LOGGER.setLevel(logging.NOTSET)
    assert capsys.readouterr().err == ""


def trials_of(cwd: Path, name: str) -> list[TrialRecord]:
    return Journal.open(cwd / "runs" / name).trials()


def mlflow_runs(cwd: Path, name: str) -> list[Run]:
    """All runs of a search in MLflow."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{cwd / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


SEARCH_OPTIONS = ("--space", "space.yaml", "--epochs", 2, "--concurrency", 1)
SEARCH = ("search", "--method", "lora", *DATA_OPTIONS, *SEARCH_OPTIONS, "--name", "tiny")


@pytest.fixture(scope="module")
def searched(workspace: Path) -> Path:
    result = autorank(*SEARCH, "--trials", 4, cwd=workspace)
    assert result.returncode == 0, result.stderr
    assert "[4/4] trial" in result.stdout and "autorank export tiny --knee" in result.stdout
    assert "Traceback" not in result.stderr and "ray" not in result.stdout.lower()
    return workspace


def test_front_as_json(searched: Path) -> None:
    points = json.loads(run_in_process("front", "tiny", "--format", "json", cwd=searched).stdout)
    assert points and {"trial", "step", "adapter_params", "score", "knee", "settings"} <= set(points[0])
    assert sum(point["knee"] for point in points) == 1
    params, scores = [p["adapter_params"] for p in points], [p["score"] for p in points]
    assert params == sorted(params) and scores == sorted(scores)
    for point in points:  # rank · 2 · hidden for query and value of each layer; a slice has fewer components
        full_size = point["settings"]["rank"] * 2 * tiny_models.HIDDEN * 2 * tiny_models.LAYERS
        assert point["adapter_params"] == full_size or point["cut_from"] == full_size
        assert point["adapter_params"] % (2 * tiny_models.HIDDEN) == 0


def test_only_the_fronts_adapters_are_kept(searched: Path) -> None:
    points = json.loads(run_in_process("front", "tiny", "--format", "json", cwd=searched).stdout)
    adapter_files = {
        str(file.relative_to(searched / "runs" / "tiny")) for file in (searched / "runs" / "tiny").rglob("step-*")
    }
    assert adapter_files == {f"trials/{p['trial']}/step-{p['step']}.safetensors" for p in points}


def test_ranks_are_printed_and_written(searched: Path) -> None:
    points = json.loads(run_in_process("front", "tiny", "--format", "json", cwd=searched).stdout)
    knee = next(point for point in points if point["knee"])
    total = knee["adapter_params"] // (2 * tiny_models.HIDDEN)
    result = run_in_process("ranks", "tiny", "--to", "ranks.json", cwd=searched)
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["layer", "query", "value"]
    assert [line[0] for line in lines[1 : 1 + tiny_models.LAYERS]] == ["2", "1", "0"]
    assert sum(int(rank) for line in lines[1 : 1 + tiny_models.LAYERS] for rank in line[1:]) == total
    assert f"Trial {knee['trial']}, step {knee['step']}" in result.stdout and f"total rank {total}" in result.stdout
    rank_map = json.loads((searched / "ranks.json").read_text())
    assert len(rank_map) == 2 * tiny_models.LAYERS and sum(rank_map.values()) == total
    trial = max(set(range(4)) - {point["trial"] for point in points}, default=0)  # not on the front, if there is one
    result = run_in_process("ranks", "tiny", "--trial", trial, "--to", "ranks.png", cwd=searched)
    assert result.exit_code == 0 and f"Trial {trial}," in result.stdout, result.stderr
    assert (searched / "ranks.png").read_bytes().startswith(b"\x89PNG")


def test_exported_adapter_has_the_score_of_its_trial(searched: Path) -> None:
    """The exported adapter, loaded by PEFT alone, on the validation examples, gives the trial's accuracy."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    from autorank.spec import TaskSpec
    from autorank.tasks import load
    from autorank.tasks.data.batches import collate, eval_batches

    points = json.loads(run_in_process("front", "tiny", "--format", "json", cwd=searched).stdout)
    best = max(points, key=lambda p: p["score"])
    result = run_in_process("export", "tiny", "--trial", best["trial"], "--to", "adapter", cwd=searched)
    assert result.exit_code == 0, result.stderr
    base = AutoModelForSequenceClassification.from_pretrained(searched / "model", num_labels=2)
    model = PeftModel.from_pretrained(base, searched / "adapter").eval()
    task = TaskSpec(name="pairs", data=searched / "pairs.jsonl", text=("left", "right"), label="label")
    (validation,) = load(task, str(searched / "model")).validation.values()
    correct = 0
    for examples in eval_batches(validation.lengths, 8):
        batch = collate(validation, examples, 0)
        labels = batch.pop("labels")
        with torch.no_grad():
            correct += int((model(**batch).logits.argmax(-1) == labels).sum())
    assert correct / len(validation) == pytest.approx(best["score"])
    card = (searched / "adapter" / "README.md").read_text()
    assert "autorank train --method lora" in card and f"{best['adapter_params']:,}" in card


def test_merged_export_is_a_plain_model(searched: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    assert run_in_process("export", "tiny", "--merge", "--to", "merged", cwd=searched).exit_code == 0
    assert AutoModelForSequenceClassification.from_pretrained(searched / "merged").config.num_labels == 2


def test_mlflow_has_a_parent_run_and_one_run_per_trial(searched: Path) -> None:
    runs = mlflow_runs(searched, "tiny")
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) == 5 and len(children) == 4
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}  # killed: stopped early
    assert all({"rank", "learning_rate", "method"} <= set(run.data.params) for run in children)
    assert {"score", "adapter_params"} <= set(children[0].data.metrics)


def test_repeated_search_repeats_no_trial_and_more_trials_extend_it(searched: Path) -> None:
    repeated = run_in_process(*SEARCH, "--trials", 4, cwd=searched)
    assert repeated.exit_code == 0 and len(trials_of(searched, "tiny")) == 4, repeated.stderr
    with pytest.raises(AutorankError, match=r"batch_size(.|\n)*--name"):
        run_in_process(*SEARCH, "--trials", 4, "--batch-size", 8, cwd=searched)
    extended = autorank("resume", "tiny", "--trials", "+1", cwd=searched)
    assert extended.returncode == 0, extended.stderr
    assert [trial.state in ("complete", "pruned") for trial in trials_of(searched, "tiny")] == [True] * 5


def test_sync_writes_all_runs_to_an_empty_store(searched: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{searched / 'elsewhere.db'}"
    for _ in range(2):
        assert run_in_process("sync", "tiny", "--tracking-uri", uri, cwd=searched).exit_code == 0
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None and len(client.search_runs([experiment.experiment_id])) >= 5


@pytest.mark.long
def test_several_methods_with_a_baseline_and_a_confirmed_front(workspace: Path) -> None:
    run = (
        "search",
        "--method",
        "lora-drop,prilora",
        *DATA_OPTIONS,
        "--name",
        "honest",
        "--epochs",
        3,
        "--set",
        "interval=5",
    )
    result = autorank(*run, "--trials", 8, "--tune-split", 0.3, "--confirm-seeds", 2, cwd=workspace)
    assert result.returncode == 0, result.stderr
    trials = trials_of(workspace, "honest")
    assert [trial.method for trial in trials] == ["lora-drop", "prilora"] * 1 + ["lora-drop", "lora"] + [
        "prilora", "lora-drop", "prilora", "lora"]  # fmt: skip
    assert "gain: over plain LoRA" in result.stdout and "confirmed" in result.stdout
    points = json.loads(run_in_process("front", "honest", "--format", "json", cwd=workspace).stdout)
    for point in points:
        assert point["method"] in ("lora-drop", "prilora") and "gain_over_baseline" in point
        assert point["confirmed"]["seeds"] == 2 and 0 <= point["confirmed"]["on_front"] <= 1
    assert not list((workspace / "runs" / "honest").glob("confirm/trials/*"))


@pytest.mark.long
def test_ctrl_c_keeps_ended_trials_and_prints_how_to_continue(workspace: Path) -> None:
    run = (
        "search",
        "--method",
        "lora",
        *DATA_OPTIONS,
        "--space",
        "space.yaml",
        "--epochs",
        400,
        "--name",
        "cut",
        "--trials",
        3,
        "--concurrency",
        1,
    )
    process = subprocess.Popen(
        command(run),
        cwd=workspace,
        env=subprocess_environment(workspace),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = workspace / "runs" / "cut" / "journal.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and "evaluation:" in journal.read_text()):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "autorank resume cut" in out and "Traceback" not in err
    trials = trials_of(workspace, "cut")
    assert trials and {trial.state for trial in trials} == {"running"} and any(trial.evaluations for trial in trials)
    assert "unfinished" in run_in_process("front", "cut", cwd=workspace).stdout
    assert {run.info.status for run in mlflow_runs(workspace, "cut")} == {
        "KILLED",
        "FINISHED",
    }  # and none that seems at work


def test_train_needs_no_ray(workspace: Path) -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(['ray', 'mlflow', 'datasets', 'optuna']))"
    run = ("train", "--method", "lora-drop", *DATA_OPTIONS, "--epochs", "1", "--to", "trained")
    result = subprocess.run(
        [sys.executable, "-c", f"{blocked}; import autorank.cli.app as c; c.main()", *run],
        cwd=workspace, env=subprocess_environment(workspace), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "best: step 7" in result.stdout and (workspace / "trained" / "adapter_config.json").exists()


def test_the_list_of_tasks_fits_a_terminal(workspace: Path) -> None:
    result = run_in_process("tasks", cwd=workspace, columns=80)
    assert result.exit_code == 0 and "microsoft/deberta-v3-base" in result.stdout and "…" not in result.stdout


def test_dry_run_runs_nothing(workspace: Path) -> None:
    result = run_in_process(*SEARCH[:-1], "dry", "--trials", 4, "--dry-run", cwd=workspace)
    size = 2 * tiny_models.HIDDEN * 2 * tiny_models.LAYERS
    assert result.exit_code == 0, result.stderr
    assert f"{size:,} to {8 * size:,}" in result.stdout and not (workspace / "runs" / "dry").exists()


def test_characters_that_the_console_lacks_are_replaced(tmp_path: Path) -> None:
    encoding = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "LC_ALL": "C"}
    result = subprocess.run(
        command(("methods",)), cwd=tmp_path, env=subprocess_environment(tmp_path, **encoding), capture_output=True
    )
    assert result.returncode == 0 and b"Traceback" not in result.stderr, result.stderr
    text = run_in_process("methods", cwd=tmp_path).stdout
    assert result.stdout.decode("latin-1") == text.encode("latin-1", "replace").decode("latin-1")
    assert text.encode("latin-1", "replace").decode("latin-1") != text
