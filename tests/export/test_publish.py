"""`autorank export` to a folder and to a Hub: what is written, what is refused, and that the card is the Hub's kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from autorank.cli.app import app
from autorank.errors import AutorankError
from autorank.export.hub_upload import remove_local_paths
from autorank.modeling import adapter_file
from autorank.spec import TaskSpec, TrainSpec
from autorank.trials.journal.journal import Journal
from tests import ready
from tests.tasks import loopback_hub

TOKEN = "hf_" + "x" * 34
IDS = torch.arange(4, 20).view(2, 8)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a search in `runs`."""
    folder = tmp_path_factory.mktemp("place")
    ready.search(folder / "runs", folder / "model")
    return folder


@pytest.fixture(autouse=True)
def _here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(workspace / "hf" / "token"))


def autorank(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, AutorankError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_padded_adapter_by_its_card(workspace: Path, tmp_path: Path) -> None:
    out = autorank("export", "ready", "--knee", "--pad", "--to", tmp_path / "out")
    assert out.startswith("Padded PEFT adapter of trial 1, step 10 written to ")
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"README.md", "front.png", "adapter_config.json", "tokenizer.json"} <= files
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == 4 and config["rank_pattern"] == {} and set(config["target_modules"]) == {"query", "value"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "one rank and one alpha" in card and "![The front of the search ready;" in card
    names: dict[str, object] = {}
    exec(card.split("```python\n")[1].split("```")[0].replace("this folder", str(tmp_path / "out")), names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    with torch.no_grad():
        found = model.eval()(input_ids=IDS).logits
    torch.testing.assert_close(found, ready.logits(workspace / "runs" / "ready", 1, input_ids=IDS), rtol=0, atol=1e-5)
    assert model.config.id2label == {0: "no", 1: "maybe", 2: "yes"}  # type: ignore[union-attr]


def test_a_merged_model_is_a_pipeline(workspace: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    autorank("export", "ready", "--min-score", "0.82", "--merge", "--to", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert 'pipeline("text-classification", "this folder")' in code
    classify = pipeline("text-classification", str(tmp_path / "out"))
    assert classify.tokenizer is not None and classify.tokenizer.model_max_length == 32  # --max-length
    found: Any
    (found,) = classify([{"text": "w1 w2 " * 40, "text_pair": "w3"}], truncation=True, top_k=None)
    assert {each["label"] for each in found} == set(ready.LABELS)
    inputs = classify.tokenizer("w1 w2 " * 40, "w3", truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 32)
    (chances,) = ready.logits(workspace / "runs" / "ready", 2, **inputs).softmax(-1).tolist()
    wanted = dict(zip(ready.LABELS, chances, strict=True))
    assert {each["label"]: each["score"] for each in found} == pytest.approx(wanted, abs=1e-4)


def test_invalid_destinations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=r"No destination given\. Use --to DIR, --register MODEL or --push"):
        autorank("export", "ready")
    with pytest.raises(AutorankError, match="cannot be combined"):
        autorank("export", "ready", "--merge", "--pad", "--to", tmp_path / "out")
    with pytest.raises(AutorankError, match="is not a valid repository name"):
        autorank("export", "ready", "--push-to-hub", "a b", "--to", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    with pytest.raises(AutorankError, match="already exists"):
        autorank("export", "ready", "--to", taken)


def test_pushed_to_a_hub(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: loopback_hub.Repositories = {}
    with loopback_hub.serve(there, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(AutorankError, match=r"needs a token with write access\. Set HF_TOKEN"):
            autorank("export", "ready", "--push-to-hub", "me/adapter")
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        with pytest.raises(AutorankError, match="rejects the token"):
            autorank("export", "ready", "--push-to-hub", "me/adapter")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        with pytest.raises(AutorankError, match="no write access to others/adapter"):
            autorank("export", "ready", "--push-to-hub", "others/adapter")
        assert there == {}
        out = autorank("export", "ready", "--push-to-hub", "me/adapter", "--to", tmp_path / "out")
        assert f"pushed to {address}/me/adapter: " in out and TOKEN not in out
        autorank("export", "ready", "--push-to-hub", "me/adapter", "--trial", 2)  # again, into the same
    pushed = there["models/me/adapter"]
    assert pushed.pop(".visibility") == b"private"
    kept = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert set(pushed) == set(kept) and pushed["tokenizer.json"] == kept["tokenizer.json"]
    assert pushed["adapter_model.safetensors"] != kept["adapter_model.safetensors"]
    assert b"trial 2" in pushed["README.md"].lower() and b"trial 1" in kept["README.md"].lower()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://me:hunter2@127.0.0.1:9")  # nobody listens
    for _ in range(2):  # it can be given again
        with pytest.raises(AutorankError, match=r"reach .* \(http://127.*Nothing was pushed .*nothing else was"):
            autorank("export", "ready", "--push-to-hub", "me/adapter", "--to", tmp_path / "later")
        assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_another_form_replaces_the_first(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of an adapter would be loaded in place of the merged model; what others put there stays."""
    there: loopback_hub.Repositories = {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with loopback_hub.serve(there, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        autorank("export", "ready", "--push-to-hub", "me/model")
        there["models/me/model"]["LICENSE"] = b"theirs"
        autorank("export", "ready", "--merge", "--push-to-hub", "me/model")
        merged = set(there["models/me/model"])
        assert {"LICENSE", "model.safetensors", "config.json"} <= merged
        assert not [name for name in merged if name.startswith("adapter")]
        autorank("export", "ready", "--push-to-hub", "me/model")
    adapter = set(there["models/me/model"])
    assert "adapter_config.json" in adapter and not adapter & {"model.safetensors", "config.json"}


def test_pushed_files_name_no_directory_of_this_machine(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: loopback_hub.Repositories = {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with loopback_hub.serve(there, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        autorank("export", "ready", "--push-to-hub", "me/adapter")
        autorank("export", "ready", "--merge", "--push-to-hub", "me/merged")
    for name, files in there.items():
        assert [file for file, content in files.items() if str(workspace).encode() in content] == [], name
    card = there["models/me/adapter"]["README.md"].decode()
    assert "--data pairs.jsonl" in card and "--model model" in card and "'model'," in card


def test_pushed_files_in_our_format_name_no_directory_either(tmp_path: Path) -> None:
    """Its base's name is in the adapter file itself; and a rank map that was given is a file too."""
    model, export = str(tmp_path / "base"), tmp_path / "export"
    ready.tiny.model("bert", tmp_path / "base")
    export.mkdir()
    belongs = adapter_file.Origin(model, 3, ready.LABELS, 0)
    adapter_file.save(export / adapter_file.FILE, ready.adapted(model, 1), belongs)
    before = load_file(export / adapter_file.FILE)
    (export / adapter_file.FILE).chmod(0o644)
    (export / "README.md").write_text(f"--set retrain={tmp_path / 'ranks.json'} --model {model}")
    settings = {"retrain": str(tmp_path / "ranks.json")}
    train = TrainSpec(task=TaskSpec(name="demo"), method="increlora", settings=settings)
    remove_local_paths(export, train, belongs)
    assert [file for file in export.iterdir() if str(tmp_path).encode() in file.read_bytes()] == []
    assert (export / "README.md").read_text() == "--set retrain=ranks.json --model base"
    assert adapter_file.origin(export / adapter_file.FILE).model == "base"
    assert (export / adapter_file.FILE).stat().st_mode & 0o777 == 0o644
    after = load_file(export / adapter_file.FILE)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_the_store_is_the_one_that_the_search_was_tracked_in(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ready.search(workspace / "runs", workspace / "other", name="elsewhere")
    with Journal.open(workspace / "runs" / "elsewhere", write=True) as journal:
        journal.set_options(trials=3, confirm=0, tracking=f"sqlite:///{workspace / 'elsewhere.db'}")
    assert f"{workspace}/elsewhere.db" in autorank("sync", "elsewhere").replace("\n", "")
    assert "models:/small/3" in autorank("export", "elsewhere", "--register", "small")
    assert (workspace / "elsewhere.db").exists() and not (workspace / "runs" / "mlflow.db").exists()


def test_a_completed_push_is_reported_when_mlflow_fails(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the culprit is this machine, MLflow is not blamed."""
    from autorank.export import mlflow_registry

    class Broken(mlflow_registry.Registry):
        def open(self) -> None: ...

        def add(self, *_: object) -> int:
            raise AutorankError("MLflow is away.")

    there: loopback_hub.Repositories = {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("autorank.export.publish.Registry", Broken)
    with loopback_hub.serve(there, TOKEN, writable=True) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(AutorankError, match=f"^MLflow is away. The push to {address}/me/adapter succeeded"):
            autorank("export", "ready", "--push-to-hub", "me/adapter", "--register", "small")


def test_a_missing_store_is_not_created(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(AutorankError, match="has no search 'ready'"):
        autorank("export", "ready", "--register", "small")
    assert not (workspace / "runs" / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["", " ", "bob's"])
def test_names_that_no_registered_model_has(name: str) -> None:
    with pytest.raises(AutorankError, match="expected a name that is not empty"):
        autorank("export", "ready", "--register", name)
