"""A model's own code runs only with the user's consent, and a pickle never."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch

from autorank import api, tasks
from autorank.errors import AutorankError
from autorank.modeling import base_model
from autorank.modeling.loading.remote_code import trusting
from autorank.options.run import RunOptions
from autorank.searching.space.param_bounds import ParamBounds
from autorank.spec import SearchSpec, TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.tokenization import load_tokenizer
from autorank.training.run import TrainingRun
from autorank.trials.journal.journal import Journal
from autorank.trials.retention import adapter_path
from tests import tiny_models
from tests.trials.trial_factories import search

CODE = """
import os, pathlib
from transformers import BertConfig, BertForSequenceClassification

pathlib.Path(os.environ["RAN"]).touch()

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig
"""


@pytest.fixture
def code_marker(tmp_path, monkeypatch):
    """The file that the model's code creates when it runs; remote modules are cached in the test's directory."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "ran"


@pytest.fixture
def model_with_code(tmp_path):
    """A model with code of its own."""
    folder = Path(tiny_models.model("bert", tmp_path / "own"))
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "code.OwnConfig", "AutoModelForSequenceClassification": "code.OwnModel"}
    classes = {name: f"own_{class_name}" for name, class_name in classes.items()}
    (folder / "own_code.py").write_text(CODE)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": classes}))
    return str(folder)


REFUSED = r"comes with Python code \(auto_map.*--trust-remote-code"


def test_a_model_s_own_code_is_not_run_without_consent(model_with_code, code_marker):
    task = TaskSpec(name="demo", max_train_examples=8, max_eval_examples=8)
    for load in (
        lambda: base_model.load(model_with_code, 2),
        lambda: base_model.meta_model(model_with_code),
        lambda: ParamBounds(task, model_with_code)("lora", {}),
        lambda: next(TrainingRun(TrainSpec(task=task, model=model_with_code, method="lora"))),
        lambda: tasks.load(task, model_with_code),  # texts are cut at the length that the model's code accepts
    ):
        with pytest.raises(AutorankError, match=REFUSED):
            load()
    load_tokenizer(model_with_code)  # has no code
    assert not code_marker.exists()


def test_trusted_remote_code_trains(model_with_code, code_marker):
    task = TaskSpec(name="demo", max_train_examples=8, max_eval_examples=8, trust_remote_code=True)
    run = TrainingRun(
        TrainSpec(task=task, model=model_with_code, method="lora", settings={"rank": 2}, training={"steps": 1})
    )
    (evaluation,) = run
    assert code_marker.exists() and type(run._base.model).__name__ == "OwnModel"
    lower, upper = ParamBounds(task, model_with_code)("lora", {"rank": 2})
    assert lower == upper == evaluation.adapter_params


@pytest.mark.parametrize("merge", [False, True])
def test_trusted_models_are_exported(model_with_code, code_marker, tmp_path, monkeypatch, merge):
    """By `train --to` and from a search; the card's code loads it with trust_remote_code. MLflow is refused."""
    monkeypatch.chdir(tmp_path)
    demo = {"max_train_examples": 8, "max_eval_examples": 8, "trust_remote_code": True}
    settings = {"method": "lora", "set": {"rank": 2}, "steps": 1, "precision": "fp32", "quiet": True}
    trained = api.train(task="demo", model=model_with_code, to=tmp_path / "trained", **demo, **settings)
    cards = [tmp_path / "trained" / "README.md"]

    space = {"rank": {"type": "int", "low": 1, "high": 8}}
    task, methods = TaskSpec(name="demo", **demo), ({"method": "lora", "space": space},)
    spec = SearchSpec(name="own", task=task, model=model_with_code, methods=methods)
    with Journal.create(tmp_path / "runs" / "own", spec, (10_000.0, 0.3)) as journal:
        adapter_file = adapter_path(journal.folder, 0, trained.best.step)
        adapter_file.parent.mkdir(parents=True)
        run = TrainingRun(spec.train("lora", {"rank": 2}).model_copy(update={"training": TrainingSpec(steps=1)}))
        list(run)
        run.save_adapter(adapter_file)
        number = journal.begin("lora", {"rank": 2}, {}).number
        journal.record(number, trained.evaluations[-1], last=True)
        journal.finish(number, "complete")
    searched = api.open_search("own")
    with pytest.raises(
        AutorankError, match=r"--register cannot be used: this search ran code that comes with its model"
    ):
        searched.export(to=tmp_path / "out", merge=merge, register="own")
    assert not (tmp_path / "out").exists()
    searched.export(to=tmp_path / "out", merge=merge)
    cards.append(tmp_path / "out" / "README.md")
    for card in cards:
        code = card.read_text().split("```python\n")[1].split("```")[0]
        assert "trust_remote_code=True" in code
        names = {}
        exec(re.sub("path/to/(adapter|model)", str(card.parent), code), names)
        inner = names["model"].get_base_model() if hasattr(names["model"], "get_base_model") else names["model"]
        assert type(inner).__name__ == "OwnModel"


def test_trust_ends_with_the_context(model_with_code, code_marker):
    with pytest.raises(ZeroDivisionError), trusting(True):
        raise ZeroDivisionError
    with pytest.raises(AutorankError, match=REFUSED):
        base_model.load(model_with_code, 2)
    assert not code_marker.exists()


def test_a_known_architecture_uses_the_class_of_transformers(tmp_path, code_marker):
    folder = Path(tiny_models.model("bert", tmp_path / "known"))
    (folder / "own_code.py").write_text(CODE)
    tiny_models.update_config(folder, auto_map={"AutoModelForSequenceClassification": "own_code.OwnModel"})
    assert type(base_model.load(str(folder), 2).model).__name__ == "BertForSequenceClassification"
    assert not code_marker.exists()


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_pickle_is_not_run(tmp_path, code_marker, form):
    folder = Path(tiny_models.model("bert", tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    content = {"bert.pooler.dense.bias": torch.zeros(2), "and": Touch(code_marker)}
    if form == "torch":
        torch.save(content, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    with pytest.raises(AutorankError, match=r"pickle file that contains more than tensors.*model\.safetensors"):
        base_model.load(str(folder), 2)
    with trusting(True), pytest.raises(AutorankError, match="pickle"):
        base_model.load(str(folder), 2)
    assert not code_marker.exists()


def test_tensors_in_a_pickle_load(tmp_path):
    from safetensors.torch import load_file

    folder = Path(tiny_models.model("bert", tmp_path / "binary"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    os.unlink(folder / "model.safetensors")
    assert base_model.load(str(folder), 2).model.config.model_type == "bert"


def test_the_option_is_in_the_spec_and_older_journals_lack_it():
    assert RunOptions(task="demo", trust_remote_code=True).task_spec().trust_remote_code
    old = search().model_dump(mode="json")
    del old["task"]["trust_remote_code"]
    assert SearchSpec.model_validate(old).task.trust_remote_code is False
