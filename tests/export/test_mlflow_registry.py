"""Points of a front in the registry of a real MLflow server, loaded from it by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.errors import AutorankError
from autorank.export.base_reference import write_base_reference
from autorank.export.cards.usage_snippets import Form
from autorank.export.export_point import PointExport
from autorank.export.mlflow_model import check_registrable
from autorank.export.mlflow_registry import _default_tracking_uri, aliased_points
from autorank.modeling import heads
from autorank.modeling.adapter_file import Origin
from autorank.spec import TaskSpec, TrainSpec
from autorank.tracking.mlflow_sync import MLflowSync
from autorank.trials.journal.journal import Journal
from autorank.trials.point import Point
from tests import finished_search, tiny_language_models, tiny_models
from tests.cli.commands import invoke
from tests.sockets import free_port
from tests.tracking.server import mlflow_server

IDS = torch.arange(4, 20).view(2, 8)
TEXT = {"text": "w1 w2 w3", "text_pair": "w1 w5"}
SCRIPT = """
import json, sys
from pathlib import Path
import mlflow, torch

outputs = {}
for uri in sys.argv[1:]:
    classify = mlflow.transformers.load_model(uri)
    with torch.no_grad():
        logits = classify.model.eval()(input_ids=torch.arange(4, 20).view(2, 8)).logits
    predictions = classify([{"text": "w1 w2 w3", "text_pair": "w1 w5"}], truncation=True, top_k=None)[0]
    kind, length = type(classify.model).__name__, classify.tokenizer.model_max_length
    weights = [file.name for file in Path(mlflow.artifacts.download_artifacts(uri)).rglob("*.safetensors")]
    scores = {prediction["label"]: prediction["score"] for prediction in predictions}
    outputs[uri] = [logits.tolist(), scores, kind, length, weights]
assert "autorank" not in sys.modules
print(json.dumps(outputs))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running MLflow server."""
    with mlflow_server(tmp_path_factory.mktemp("server"), free_port()) as address:
        yield address


@pytest.mark.long
def test_adapters_and_a_merged_model_from_the_registry(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    folder = finished_search.search(tmp_path / "runs", tmp_path / "model")
    with pytest.raises(AutorankError, match="has no search "):
        invoke("export", "ready", "--register", "small", "--tracking-uri", server)
    journal = Journal.open(folder)
    MLflowSync(server, journal.spec, journal.search_id).push(journal.snapshot(), final=True)

    out = invoke("export", "ready", "--register", "small", "--tracking-uri", server)
    assert "models:/small/1, models:/small@knee" in out and "models:/small@best" in out
    invoke("export", "ready", "--max-params", 10**6, "--merge", "--register", "whole", "--tracking-uri", server)

    client = MlflowClient(server)
    for trial, alias in ((0, "smallest"), (1, "knee"), (2, "best")):
        version = client.get_model_version_by_alias("small", alias)
        point = journal.snapshot().points[trial]
        assert {name: version.tags[f"autorank.{name}"] for name in ("search", "trial", "adapter_params", "score")} == {
            "search": "ready", "trial": str(trial), "adapter_params": str(point.adapter_params),
            "score": str(finished_search.SCORES[trial]),
        }  # fmt: skip
        run: Any = client.get_run(str(version.run_id))
        assert run.info.run_name == f"trial-{trial}" and run.info.status == "FINISHED"
        assert version.source in [f"models:/{output.model_id}" for output in run.outputs.model_outputs]
    assert client.get_registered_model("whole").aliases == {"best": "1"}

    uris = ["models:/small@knee", "models:/small@best", "models:/whole@best"]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *uris], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"MLFLOW_TRACKING_URI": server, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    outputs = json.loads(result.stdout.splitlines()[-1])
    from transformers import AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(tmp_path / "model")(**TEXT, return_tensors="pt")
    for uri, trial in zip(uris, (1, 2, 2), strict=True):
        logits, label_probabilities, kind, length, weights = outputs[uri]
        assert weights == ["model.safetensors" if "whole" in uri else "adapter_model.safetensors"]
        torch.testing.assert_close(
            torch.tensor(logits), finished_search.logits(folder, trial, input_ids=IDS), rtol=0, atol=1e-5
        )
        (probabilities,) = finished_search.logits(folder, trial, **inputs).softmax(-1).tolist()
        assert label_probabilities == pytest.approx(
            dict(zip(finished_search.LABELS, probabilities, strict=True)), abs=1e-5
        )
        assert kind == ("BertForSequenceClassification" if "whole" in uri else "PeftModelForSequenceClassification")
        assert length == 32


def test_the_reference_to_a_base_copies_no_weights(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = tiny_models.model("bert", tmp_path / "model")
    origin = Origin(model, 1, (), 0, problem_type="regression")
    for _ in range(2):
        folder = write_base_reference(origin, tmp_path / "base")
    assert (folder / "model.safetensors").is_symlink()
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config.num_labels == 1 and loaded.config.problem_type == "regression"
    assert torch.equal(
        loaded.bert.embeddings.word_embeddings.weight,
        AutoModelForSequenceClassification.from_pretrained(model).bert.embeddings.word_embeddings.weight,
    )


def point(params: int, score: float, method: str = "lora") -> Point:
    return Point(params, 10, params, score, {}, params, {}, method)


def test_knee_smallest_and_best_points_have_an_alias() -> None:
    front = [point(10, 0.5), point(20, 0.7), point(40, 0.71)]
    assert {alias: p.trial for alias, p in aliased_points(front).items()} == {"knee": 20, "smallest": 10, "best": 40}
    assert {p.trial for p in aliased_points(front[:1]).values()} == {10}


def test_registry_in_a_local_sqlite_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated exports add no version and restore a lost alias."""
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    folder, uri = (
        finished_search.search(tmp_path / "runs", tmp_path / "model"),
        f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}",
    )
    journal = Journal.open(folder)
    MLflowSync(uri, journal.spec, journal.search_id).push(journal.snapshot(), final=True)
    with pytest.raises(AutorankError, match=r"rejects the request: .*a/b"):
        invoke("export", "ready", "--register", "a/b", "--to", "out")
    assert not Path("out").exists()
    with monkeypatch.context() as patch:
        patch.setattr("autorank.export.mlflow_registry.save_model", lambda *_: os.stat("absent"))
        with pytest.raises(FileNotFoundError):  # this machine's doing, not MLflow's
            invoke("export", "ready", "--register", "small")
    first = invoke("export", "ready", "--register", "small", "--to", "out")
    assert "models:/small@knee" in first and Path("out").is_dir()
    client = MlflowClient(uri)
    client.delete_registered_model_alias("small", "best")
    assert invoke("export", "ready", "--register", "small") == first.partition("\n")[2]
    assert len(client.search_model_versions("name = 'small'")) == 3
    assert set(client.get_registered_model("small").aliases) == {"knee", "smallest", "best"}
    assert "models:/small/4" in invoke("export", "ready", "--knee", "--pad", "--register", "small")  # another form
    assert not [name for name in os.environ if name.startswith("MLFLOW_")]


def test_a_failed_registration_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished_search.search(tmp_path / "runs", tmp_path / "model")
    files_before = sorted(tmp_path.rglob("*"))
    for _ in range(2):  # it can be given again
        with pytest.raises(AutorankError, match=r"cannot be reached or rejects the request: .*refused"):
            invoke("export", "ready", "--register", "small", "--to", "out", "--tracking-uri", "http://127.0.0.1:9")
        assert sorted(tmp_path.rglob("*")) == files_before


def test_tracking_uri_is_restored_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ZeroDivisionError), _default_tracking_uri("sqlite:///other.db"):
        raise ZeroDivisionError
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"


def test_an_incompatible_mlflow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("mlflow.tracking._tracking_service.utils._use_tracking_uri")
    with pytest.raises(AutorankError, match=r"mlflow>=3\.17,<4"), _default_tracking_uri("sqlite:///other.db"):
        raise AssertionError("not reached")


def test_adapters_that_mlflow_cannot_store_are_refused(tmp_path: Path) -> None:
    def check(form: Form, origin: Origin, method: str = "lora") -> None:
        train = TrainSpec(task=TaskSpec(name="demo"), method=method)
        check_registrable(PointExport(tmp_path / "a.safetensors", point(1, 0.5, method), train, form, origin))

    with pytest.raises(AutorankError, match="t5 is an encoder-decoder"):
        check("PEFT adapter", Origin(tiny_language_models.model("t5", tmp_path / "t5"), 0, (), 0, heads.TEXT))
    check("PEFT adapter", Origin(tiny_language_models.model("llama", tmp_path / "llama"), 0, (), 0, heads.TEXT))
    with pytest.raises(AutorankError, match="transformers has no question-answering pipeline"):
        check("PEFT adapter", Origin("m", 2, (), 0, heads.SPAN))
    with pytest.raises(AutorankError, match="houlsby is not a low-rank update"):
        check("autorank adapter", Origin("m", 2, (), 0), "houlsby")
