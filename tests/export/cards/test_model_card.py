"""Model cards, and exports of methods without low-rank updates; test_publish.py covers LoRA."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from autorank.errors import AutorankError
from autorank.export.cards.card_metadata import base_license
from autorank.export.cards.model_card import model_card, train_command
from autorank.export.cards.usage_snippets import Form
from autorank.export.export_point import plan_export
from autorank.modeling.adapter_file import Origin
from autorank.reporting.search_results import SearchResults
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from autorank.trials.point import Point
from tests import tiny_models
from tests.tasks import loopback_hub
from tests.trials.trial_factories import search, snapshot, trial


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def export_run(method: str, folder: Path, merged: bool) -> tuple[str, torch.Tensor]:
    """Trains and exports an adapter to `out`; returns the form of the export and the logits of the run."""
    tiny_models.model("bert", folder / "model")
    tiny_models.pairs_folder(folder / "data", 16, 8)
    spec = TrainSpec(
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / "model"), method=method, settings={"learning_rate": 1e-2},
        training=TrainingSpec(steps=2, batch_size=8, precision="fp32"),
    )  # fmt: skip
    run = TrainingRun(spec, ModelCache("cpu", folder / "probes"))
    (evaluation,) = run
    run.save_adapter(folder / "a.safetensors")
    point = Point(
        0, 2, evaluation.adapter_params, evaluation.score, dict(spec.settings), evaluation.nonzero_params,
        evaluation.metrics,
    )  # fmt: skip
    export = plan_export(folder / "a.safetensors", point, spec, merged)
    export.write(folder / "out")
    run._base.model.eval()
    with torch.no_grad():
        return export.form, run._base.model(input_ids=torch.arange(4, 20).view(2, 8)).logits


def card_logits(folder: Path) -> torch.Tensor:
    """Logits of the model that the card's code loads."""
    card = (folder / "README.md").read_text()
    code = re.sub("path/to/(adapter|model)", str(folder), card.split("```python\n")[1].split("```")[0])
    names: dict[str, object] = {}
    exec(code, names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.arange(4, 20).view(2, 8)).logits
    return logits


@pytest.mark.parametrize("method", ["full", "bitfit", "houlsby", "pfeiffer"])
def test_adapters_that_peft_cannot_store_are_written_in_our_format(method: str, tmp_path: Path) -> None:
    form, expected = export_run(method, tmp_path, merged=False)
    assert form == "autorank adapter"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["README.md", "adapter.safetensors"]
    metadata = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    assert metadata["library_name"] == "autorank" and metadata["tags"] == ["autorank"]
    assert torch.equal(card_logits(tmp_path / "out"), expected)


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_a_merged_export_is_a_transformers_model(method: str, tmp_path: Path) -> None:
    form, expected = export_run(method, tmp_path, merged=True)
    assert form == "merged model"
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=torch.arange(4, 20).view(2, 8)).logits, expected)


def test_bottlenecks_are_not_merged(tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match="cannot be merged"):
        export_run("pfeiffer", tmp_path, merged=True)
    assert not (tmp_path / "out").exists()
    train = TrainSpec(task=TaskSpec(name="demo"), method="pfeiffer", settings={})
    adapter, point = tmp_path / "a.safetensors", Point(0, 2, 9, 0.5, {}, 9, {})
    assert plan_export(adapter, point, train).form == "autorank adapter"
    with pytest.raises(AutorankError, match="cannot be exported as a PEFT LoRA adapter"):
        plan_export(adapter, point, train, pad=True)
    with pytest.raises(AutorankError, match="cannot be merged"):
        plan_export(adapter, point, train, merge=True)
    with pytest.raises(AutorankError, match=r"step 2 does not exist at .*again:\n  autorank train .* --to DIR"):
        plan_export(tmp_path / "absent", point, train)


def test_the_command_has_every_option_of_the_training() -> None:
    training = TrainingSpec(steps=2, warmup_ratio=0.2, weight_decay=0.0, gradient_checkpointing=True, accumulate=4)
    task = TaskSpec(name="gsm8k", tune_split=0.1, chat=False)
    assert train_command(TrainSpec(task=task, method="lora", training=training), {"rank": 2}) == (
        "autorank train --method lora --task gsm8k --no-chat --tune-split 0.1 --steps 2 --accumulate 4 "
        "--warmup-ratio 0.2 --weight-decay 0.0 --gradient-checkpointing --slices off --seed 0 --set rank=2"
    )


def test_the_command_omits_defaults_and_names_a_file_for_a_metric_that_is_a_python_function() -> None:
    train = TrainSpec(
        task=TaskSpec(name="mrpc", metric="kappa", metric_source="pickle:AAAA"), method="lora",
        training=TrainingSpec(slices="auto"),
    )  # fmt: skip
    command = "autorank train --method lora --task mrpc --metric FILE.py:kappa --seed 0 --set rank=2"
    assert train_command(train, {"rank": 2}) == command


@pytest.mark.parametrize("form", ["PEFT adapter", "padded PEFT adapter", "merged model", "autorank adapter"])
def test_card_metadata_are_valid_for_the_hub(form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base model in the Hub's cache is named by its repository, never by its path."""
    from huggingface_hub import ModelCard

    base = tmp_path / "models--FacebookAI--roberta-base" / "snapshots" / ("e" * 40)
    base.mkdir(parents=True)
    (base / "README.md").write_text("---\nlicense: mit\ntags: [x]\n---\n# RoBERTa\n")
    spec = TrainSpec(task=TaskSpec(name="mrpc", tune_split=0.1), method="increlora", settings={})
    point = Point(1, 4, 1000, 0.5, {"rank": 1}, 900, {"accuracy": 0.5, "f1": 0.6}, "increlora")
    text = model_card(point, spec, Origin(str(base), 2, ("no", "yes"), 1), form)
    assert str(tmp_path) not in text and "License of the base model: mit" in text
    card: Any = ModelCard(text)
    assert card.data.base_model == "FacebookAI/roberta-base" and card.data.pipeline_tag == "text-classification"
    assert card.data.license == ("mit" if form == "merged model" else None)
    (accuracy, f1) = card.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.5) and f1.metric_value == 0.6
    assert (accuracy.dataset_type, accuracy.dataset_config, accuracy.dataset_split) == ("nyu-mll/glue", "mrpc", "train")


def test_a_base_without_a_valid_license(tmp_path: Path) -> None:
    assert base_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("# No front matter\n---\nlicense: mit\n---\n")
    assert base_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: [a: b\n---\n")
    assert base_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\ndate: 2024-13-45\nlicense: mit\n---\n")  # no such day
    assert base_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_bytes(b"---\r\nlicense: mit\r\n---\r\n")
    assert base_license(str(tmp_path)) == "mit"


def test_the_licence_of_a_base_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is downloaded, since loading the model does not download it."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    card = b"---\nlicense: mit\n---\n"
    repositories: loopback_hub.Repositories = {"models/its/base": {"README.md": card}, "models/its/bare": {}}
    snapshot = cache / "models--its--base" / "snapshots" / ("f" * 40)
    snapshot.mkdir(parents=True)
    assert base_license("its/base") is None and base_license(str(snapshot)) is None  # offline
    with loopback_hub.serve(repositories) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        assert base_license("its/bare") is None and base_license("its/absent") is None
        assert base_license(str(snapshot)) == "mit" and base_license("its/base") == "mit"


def test_the_card_shows_the_confirmed_scores_of_the_search() -> None:
    trials = [trial(0, (100, 0.7)), trial(1, (50, 0.65), baseline=True)]
    confirmed = {
        (number, 10, params, seed): {"score": 0.6 + seed / 100 - number / 20}
        for number, params in enumerate((100, 50))
        for seed in (1, 2, 3)
    }
    search_snapshot = replace(snapshot(trials), confirmed=confirmed)
    spec = search(baseline=True)
    text = model_card(
        search_snapshot.points[0], spec.train("lora-drop", {}), Origin("roberta-base", 2, ("no", "yes"), 1),
        "PEFT adapter", SearchResults(spec, search_snapshot),
    )  # fmt: skip
    assert "| score on validation data, 3 runs with new seeds | 0.6200 ± 0.0100 |" in text
    assert "| gain over plain LoRA with at most as many parameters, both with new seeds | +0.0500 |" in text
    assert "(front.png)" in text
    assert "see `roberta-base`" in text
