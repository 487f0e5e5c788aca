"""`autorank export` to a directory and to a Hub: written files, refused input, and the model card."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autorank.errors import AutorankError
from autorank.export.hub_upload import remove_local_paths
from autorank.modeling import adapter_file
from autorank.spec import TaskSpec, TrainSpec
from autorank.trials.journal.journal import Journal
from tests import finished_search
from tests.cli.commands import invoke
from tests.tasks import loopback_hub

TOKEN = "hf_" + "x" * 34
IDS = torch.arange(4, 20).view(2, 8)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's directory with a search in `runs`."""
    folder = tmp_path_factory.mktemp("place")
    finished_search.search(folder / "runs", folder / "model")
    return folder


@pytest.fixture(autouse=True)
def _workspace_directory(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(workspace / "hf" / "token"))


def test_the_card_s_code_loads_a_padded_adapter(workspace: Path, tmp_path: Path) -> None:
    out = invoke("export", "ready", "--knee", "--pad", "--to", tmp_path / "out")
    assert out.startswith("Padded PEFT adapter of trial 1, step 10 written to ")
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"README.md", "front.png", "adapter_config.json", "tokenizer.json"} <= files
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == 4 and config["rank_pattern"] == {} and set(config["target_modules"]) == {"query", "value"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "one rank and one alpha" in card and "![The front of the search ready;" in card
    names: dict[str, object] = {}
    exec(card.split("```python\n")[1].split("```")[0].replace("path/to/adapter", str(tmp_path / "out")), names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    with torch.no_grad():
        actual = model.eval()(input_ids=IDS).logits
    torch.testing.assert_close(
        actual, finished_search.logits(workspace / "runs" / "ready", 1, input_ids=IDS), rtol=0, atol=1e-5
    )
    assert model.config.id2label == {0: "no", 1: "maybe", 2: "yes"}  # type: ignore[union-attr]


def test_a_merged_model_is_a_pipeline(workspace: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    invoke("export", "ready", "--min-score", "0.82", "--merge", "--to", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert 'pipeline("text-classification", "path/to/model")' in code
    classify = pipeline("text-classification", str(tmp_path / "out"))
    assert classify.tokenizer is not None and classify.tokenizer.model_max_length == 32  # --max-length
    predictions: Any
    (predictions,) = classify([{"text": "w1 w2 " * 40, "text_pair": "w3"}], truncation=True, top_k=None)
    assert {prediction["label"] for prediction in predictions} == set(finished_search.LABELS)
    inputs = classify.tokenizer("w1 w2 " * 40, "w3", truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 32)
    (probabilities,) = finished_search.logits(workspace / "runs" / "ready", 2, **inputs).softmax(-1).tolist()
    expected = dict(zip(finished_search.LABELS, probabilities, strict=True))
    assert {prediction["label"]: prediction["score"] for prediction in predictions} == pytest.approx(expected, abs=1e-4)


def test_invalid_destinations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=r"No destination given\. Use --to DIR, --register MODEL or --push"):
        invoke("export", "ready")
    with pytest.raises(AutorankError, match="cannot be combined"):
        invoke("export", "ready", "--merge", "--pad", "--to", tmp_path / "out")
    with pytest.raises(AutorankError, match="is not a valid repository name"):
        invoke("export", "ready", "--push-to-hub", "a b", "--to", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    existing = tmp_path / "taken"
    existing.mkdir()
    (existing / "file").touch()
    with pytest.raises(AutorankError, match="already exists"):
        invoke("export", "ready", "--to", existing)


def test_pushed_to_a_hub(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repositories: loopback_hub.Repositories = {}
    with loopback_hub.serve(repositories, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(AutorankError, match=r"needs a token with write access\. Set HF_TOKEN"):
            invoke("export", "ready", "--push-to-hub", "me/adapter")
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        with pytest.raises(AutorankError, match="rejects the token"):
            invoke("export", "ready", "--push-to-hub", "me/adapter")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        with pytest.raises(AutorankError, match="no write access to others/adapter"):
            invoke("export", "ready", "--push-to-hub", "others/adapter")
        assert repositories == {}
        out = invoke("export", "ready", "--push-to-hub", "me/adapter", "--to", tmp_path / "out")
        assert f"pushed to {address}/me/adapter: " in out and TOKEN not in out
        invoke("export", "ready", "--push-to-hub", "me/adapter", "--trial", 2)  # again, into the same
    hub_files = repositories["models/me/adapter"]
    assert hub_files.pop(".visibility") == b"private"
    local_files = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert set(hub_files) == set(local_files) and hub_files["tokenizer.json"] == local_files["tokenizer.json"]
    assert hub_files["adapter_model.safetensors"] != local_files["adapter_model.safetensors"]
    assert b"trial 2" in hub_files["README.md"].lower() and b"trial 1" in local_files["README.md"].lower()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://me:hunter2@127.0.0.1:9")  # nobody listens
    for _ in range(2):  # it can be given again
        with pytest.raises(AutorankError, match=r"reach .* \(http://127.*Nothing was pushed .*nothing else was"):
            invoke("export", "ready", "--push-to-hub", "me/adapter", "--to", tmp_path / "later")
        assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_pushing_another_form_replaces_the_first(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leftover adapter files would be loaded instead of the merged model; files of other origin stay."""
    repositories: loopback_hub.Repositories = {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with loopback_hub.serve(repositories, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        invoke("export", "ready", "--push-to-hub", "me/model")
        repositories["models/me/model"]["LICENSE"] = b"theirs"
        invoke("export", "ready", "--merge", "--push-to-hub", "me/model")
        merged = set(repositories["models/me/model"])
        assert {"LICENSE", "model.safetensors", "config.json"} <= merged
        assert not [name for name in merged if name.startswith("adapter")]
        invoke("export", "ready", "--push-to-hub", "me/model")
    adapter = set(repositories["models/me/model"])
    assert "adapter_config.json" in adapter and not adapter & {"model.safetensors", "config.json"}


def test_pushed_files_name_no_directory_of_this_machine(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repositories: loopback_hub.Repositories = {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with loopback_hub.serve(repositories, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        invoke("export", "ready", "--push-to-hub", "me/adapter")
        invoke("export", "ready", "--merge", "--push-to-hub", "me/merged")
    for name, files in repositories.items():
        assert [file for file, content in files.items() if str(workspace).encode() in content] == [], name
    card = repositories["models/me/adapter"]["README.md"].decode()
    assert "--data pairs.jsonl" in card and "--model model" in card and "'model'," in card


def test_pushed_files_in_our_format_name_no_local_directory(tmp_path: Path) -> None:
    """The adapter file names its base model, and settings may name a file with a rank map."""
    model, export = str(tmp_path / "base"), tmp_path / "export"
    finished_search.tiny_models.model("bert", tmp_path / "base")
    export.mkdir()
    origin = adapter_file.Origin(model, 3, finished_search.LABELS, 0)
    adapter_file.save(export / adapter_file.FILE, finished_search.adapted_model(model, 1), origin)
    tensors_before = load_file(export / adapter_file.FILE)
    (export / adapter_file.FILE).chmod(0o644)
    metric = f"{tmp_path / 'my metrics.py'}:kappa"
    (export / "README.md").write_text(
        f"--metric {shlex.quote(metric)} {metric} --set retrain={tmp_path / 'ranks.json'} --model {model}"
    )
    settings = {"retrain": str(tmp_path / "ranks.json")}
    train = TrainSpec(task=TaskSpec(name="demo", metric=metric), method="increlora", settings=settings)
    remove_local_paths(export, train, origin)
    assert [file for file in export.iterdir() if str(tmp_path).encode() in file.read_bytes()] == []
    card = (export / "README.md").read_text()
    assert card == "--metric 'my metrics.py:kappa' my metrics.py:kappa --set retrain=ranks.json --model base"
    assert adapter_file.origin(export / adapter_file.FILE).model == "base"
    assert (export / adapter_file.FILE).stat().st_mode & 0o777 == 0o644
    tensors_after = load_file(export / adapter_file.FILE)
    assert tensors_before.keys() == tensors_after.keys() and all(
        torch.equal(tensors_before[name], tensors_after[name]) for name in tensors_before
    )


def test_models_are_registered_in_the_store_of_the_search(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    finished_search.search(workspace / "runs", workspace / "other", name="elsewhere")
    with Journal.open(workspace / "runs" / "elsewhere", write=True) as journal:
        journal.set_options(trials=3, confirm=0, tracking=f"sqlite:///{workspace / 'elsewhere.db'}")
    assert f"{workspace}/elsewhere.db" in invoke("sync", "elsewhere").replace("\n", "")
    assert "models:/small/3" in invoke("export", "elsewhere", "--register", "small")
    assert (workspace / "elsewhere.db").exists() and not (workspace / "runs" / "mlflow.db").exists()


def test_a_completed_push_is_reported_when_mlflow_fails(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that the push succeeded."""
    from autorank.export import mlflow_registry

    class Broken(mlflow_registry.Registry):
        def open(self) -> None: ...

        def add(self, *_: object) -> int:
            raise AutorankError("MLflow is away.")

    repositories: loopback_hub.Repositories = {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("autorank.export.publish.Registry", Broken)
    with loopback_hub.serve(repositories, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(AutorankError, match=f"^MLflow is away. The push to {address}/me/adapter succeeded"):
            invoke("export", "ready", "--push-to-hub", "me/adapter", "--register", "small")


def test_a_missing_store_is_not_created(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(AutorankError, match="has no search 'ready'"):
        invoke("export", "ready", "--register", "small")
    assert not (workspace / "runs" / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["", " ", "bob's"])
def test_invalid_names_of_registered_models_are_refused(name: str) -> None:
    with pytest.raises(AutorankError, match="expected a name that is not empty"):
        invoke("export", "ready", "--register", name)
