"""`shrink` on an adapter that plain PEFT trained: the sizes, their scores, the choice, and the written adapter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file

import autorank
from autorank.errors import AutorankError
from autorank.modeling import adapter_file, base_model, peft_adapter
from autorank.shrinking.scoring import ScoredAdapter
from autorank.spec import TaskSpec, TrainingSpec
from autorank.tasks.named import demo


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier of the demo task, trained with plain PEFT for some steps."""
    folder, name = tmp_path_factory.mktemp("adapter"), demo.DEMO.model
    tokenizer = t.AutoTokenizer.from_pretrained(name)
    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", r=4, lora_alpha=16)
    model = peft.get_peft_model(t.AutoModelForSequenceClassification.from_pretrained(name, num_labels=2), config)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 3e-3)
    rows = demo.pairs("train")
    for start in range(0, 640, 16):
        texts = [column[start : start + 16] for column in (rows["sentence1"], rows["sentence2"])]
        labels = torch.tensor([int(label in (1, "1", "same")) for label in rows["label"][start : start + 16]])
        loss = model(**tokenizer(*texts, padding=True, return_tensors="pt"), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    return str(folder)


def test_without_data_sizes_are_listed_and_chosen_by_energy(adapter: str, tmp_path: Path) -> None:
    unscored = autorank.shrink(adapter)
    assert [size.energy for size in unscored.sizes] == sorted(size.energy for size in unscored.sizes)
    assert unscored.sizes[-1].energy == pytest.approx(1.0) and unscored.chosen is None
    by_energy = autorank.shrink(adapter, energy=0.9, to=tmp_path / "smaller")
    chosen = by_energy.chosen
    assert chosen in by_energy.sizes and by_energy.sizes[-1] == unscored.sizes[-1]
    assert chosen is not None and 0.9 <= chosen.energy < 0.95 and chosen.score is None
    config = peft.LoraConfig.from_pretrained(tmp_path / "smaller")
    assert config.rank_pattern and config.base_model_name_or_path == demo.DEMO.model
    by_size = autorank.shrink(adapter, max_params="2k").chosen
    assert by_size is not None and 1_800 < by_size.adapter_params <= 2_000


def test_sizes_are_scored_chosen_and_written(adapter: str, tmp_path: Path) -> None:
    data: dict[str, Any] = {"task": "demo", "max_eval_examples": 60}
    files = {"to": tmp_path / "smaller", "figure": tmp_path / "f.png"}
    result = autorank.shrink(adapter, **data, **files, sizes=4, max_score_drop=0.05)
    assert result.data_notes == ["label: 2 classes: different 50%, same 50%"]  # as `autorank train` prints it
    sizes, chosen = result.sizes, result.chosen
    assert len(sizes) == 5 and chosen is not None and chosen.score is not None and sizes[-1].score is not None
    assert chosen.score >= sizes[-1].score - 0.05
    assert all(size.adapter_params >= chosen.adapter_params for size in sizes if size.score >= sizes[-1].score - 0.05)
    rescored = autorank.shrink(tmp_path / "smaller", **data, sizes=1).sizes[-1]
    assert (rescored.adapter_params, rescored.score) == (chosen.adapter_params, chosen.score)
    autorank.shrink(adapter, max_params=chosen.adapter_params, pad=True, to=tmp_path / "padded")
    written = peft.LoraConfig.from_pretrained(tmp_path / "padded")
    assert not written.rank_pattern and written.target_modules == set(peft_adapter.read(adapter).updates)
    padded = autorank.shrink(tmp_path / "padded", **data, sizes=1).sizes[-1]
    assert padded.score == chosen.score and padded.adapter_params > chosen.adapter_params
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_the_largest_size_within_the_limit_is_scored_too(adapter: str) -> None:
    data: dict[str, Any] = {"task": "demo", "max_eval_examples": 60, "sizes": 1}
    (scored, full_size), limit = autorank.shrink(adapter, **data).sizes, 20_000
    assert scored.adapter_params < 15_000 and limit < full_size.adapter_params  # the limit is between the two sizes
    largest, chosen = (autorank.shrink(adapter, **options, max_params=limit).chosen for options in ({}, data))
    assert largest is not None and chosen is not None and chosen.score is not None and scored.score is not None
    if chosen.adapter_params == scored.adapter_params:
        assert chosen.score == scored.score
    else:
        assert chosen.adapter_params == largest.adapter_params and chosen.score > scored.score


def test_steps_train_at_the_chosen_size(adapter: str, tmp_path: Path) -> None:
    data: dict[str, Any] = {"task": "demo", "max_eval_examples": 60, "max_train_examples": 64, "max_params": 4_000}
    untrained = autorank.shrink(adapter, **data, sizes=4).chosen
    trained = autorank.shrink(adapter, **data, sizes=4, steps=8, to=tmp_path / "trained")
    assert untrained is not None and trained.chosen is not None
    assert trained.chosen.adapter_params == untrained.adapter_params
    assert "8 steps of training: score" in trained.notes[0] and trained.chosen.score >= untrained.score  # type: ignore[operator]
    rescored = autorank.shrink(tmp_path / "trained", task="demo", max_eval_examples=60, sizes=1).sizes[-1]
    assert rescored.score == trained.chosen.score


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knee": True, "energy": 0.9}, "Several options choose a size: --knee, --energy"),
        ({"min_score": 0.5}, "--min-score needs data to score sizes on"),
        ({"energy": 1.5}, "--energy 1.5: expected a number above 0, at most 1"),
        ({"max_params": 10}, "No size has at most 10 parameters; the smallest has"),
        ({"task": "demo", "figure": "f.xyz"}, r"--figure f.xyz has no known format.*\.png, \.svg or \.pdf"),
        ({"task": "demo", "figure": "/dev/null/f.png"}, "--figure /dev/null/f.png cannot be written: Not a directory"),
        ({"pad": True}, "--pad has no effect without --to"),
        ({"sizes": 3}, "--sizes has no effect without data"),
        ({"text": "a", "energy": 0.9}, "--text has no effect without data"),
        ({"task": "demo", "seed": 0, "learning_rate": 1e-3}, "--learning-rate has no effect without --steps"),
        ({"task": "stsb", "data": "."}, "the number of labels differs|has no"),
        ({"task": "squad_v1", "data": "."}, "was trained for SEQ_CLS, but 'squad_v1' is a task of kind span"),
    ],
)
def test_invalid_options_are_refused(adapter: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(AutorankError, match=message):
        autorank.shrink(adapter, **options)


def test_a_file_of_an_adapter_is_refused_with_its_directory(adapter: str) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        with pytest.raises(AutorankError, match=rf"is a file of a PEFT adapter\. Give its directory, {adapter}\."):
            autorank.shrink(Path(adapter) / name)


def test_the_adapter_is_written_even_if_drawing_fails(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("autorank.display.shrink_display.draw", fail)
    with pytest.raises(OSError, match="disk full"):
        autorank.shrink(
            adapter, task="demo", max_eval_examples=40, sizes=1, figure=tmp_path / "f.png", to=tmp_path / "to"
        )
    assert (tmp_path / "to" / "adapter_config.json").exists()


def test_an_adapter_in_autoranks_own_format(adapter: str, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    base = base_model.load(demo.DEMO.model, outputs=2)
    peft_adapter.attach(peft_adapter.read(adapter), base)
    adapter_file.save(folder / adapter_file.FILE, base, adapter_file.Origin(demo.DEMO.model, 2, ("no", "yes"), 0))
    from_autorank, from_peft = (
        autorank.shrink(folder, energy=0.9, to=tmp_path / "to"),
        autorank.shrink(adapter, energy=0.9),
    )
    assert from_autorank.chosen is not None and from_peft.chosen is not None
    assert from_autorank.chosen.adapter_params == from_peft.chosen.adapter_params
    assert peft.LoraConfig.from_pretrained(tmp_path / "to").rank_pattern


def test_shrinking_imports_no_package_of_the_search(adapter: str, tmp_path: Path) -> None:
    missing = ("ray", "optuna", "mlflow", "moocore", "plotly", "upath")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({missing!r}))
sys.argv = ["autorank", "shrink", {adapter!r}, "--task", "demo", "--max-eval-examples", "40", "--sizes", "2",
            "--to", {str(tmp_path / "to")!r}]
from autorank.cli.app import main
main()
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert completed.returncode == 0, completed.stderr
    assert "PEFT adapter of" in completed.stdout


def test_the_command_prints_json(adapter: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from autorank.cli.app import app

    app(["shrink", adapter, "--energy", "0.5", "--format", "json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert rows[-1]["energy"] == pytest.approx(1.0) and {"adapter_params", "ranks", "chosen"} <= set(rows[0])
    assert [row["chosen"] for row in rows].count(True) == 1
    app(["shrink", adapter, "--max-params", "3k"], standalone_mode=False)
    assert "chosen" in capsys.readouterr().out
    app(["shrink", adapter, "--format", "csv"], standalone_mode=False)
    assert capsys.readouterr().out.startswith("adapter_params,energy,chosen\n")


@pytest.mark.parametrize(("value", "message"), [(0.0, "All updates of .* are zero"), (float("nan"), "are not finite")])
def test_untrained_and_diverged_adapters_are_refused(adapter: str, value: float, message: str, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "copy")
    file = tmp_path / "copy" / "adapter_model.safetensors"
    tensors = {name: tensor.fill_(value) if "lora_B" in name else tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    for options in ({}, {"energy": 0.9}, {"task": "demo", "max_eval_examples": 60, "max_params": 100}):
        with pytest.raises(AutorankError, match=message):
            autorank.shrink(tmp_path / "copy", **options)


def test_training_that_lowers_the_score_is_undone(adapter: str, tmp_path: Path) -> None:
    task = TaskSpec(name="demo", max_train_examples=64, max_eval_examples=60)
    scored_adapter = ScoredAdapter(adapter, task, None, TrainingSpec())
    full_size = scored_adapter.scored(1)[-1]
    trained = scored_adapter.train(full_size, steps=4, learning_rate=10.0)
    assert full_size.score is not None and trained.score is not None and trained.score < full_size.score
    (tmp_path / "whole").mkdir()
    scored_adapter.write(full_size, tmp_path / "whole")
    assert ScoredAdapter(str(tmp_path / "whole"), task, None, TrainingSpec()).scored(1)[-1].score == full_size.score
