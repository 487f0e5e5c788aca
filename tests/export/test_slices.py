"""Exported slices, loaded by PEFT and transformers, compared with the cut model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autorank.errors import AutorankError
from autorank.export.export_point import PointExport, plan_export
from autorank.modeling import adapter_file, adapters, base_model, spectrum, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.spec import TaskSpec, TrainSpec
from autorank.trials.journal.journal import Journal
from autorank.trials.point import Point
from tests import finished_search, tiny_models
from tests.cli.commands import invoke

IDS = torch.arange(4, 20).view(2, 8)


def plan_slice(architecture: str, folder: Path, count: int, **form: bool) -> tuple[PointExport, torch.Tensor]:
    """The export of the best `count` components of an adapter on all linear layers, and the cut model's logits."""
    loaded = base_model.load(tiny_models.model(architecture, folder / "model"), outputs=2)
    loaded.model.config.pad_token_id = 0
    loaded.model.eval()
    generator = torch.Generator().manual_seed(0)
    for i, name in enumerate(target_modules.find(loaded.model, "all-linear")):
        shape = target_modules.features(loaded.model.get_submodule(name))
        update = LowRankUpdate.lora(*shape, rank=2 + i % 3, alpha=8, generator=generator)
        torch.nn.init.normal_(update.B, std=0.1 + i % 2, generator=generator)
        adapters.attach(loaded.model, name, update)
    file = folder / "adapter.safetensors"
    adapter_file.save(file, loaded, adapter_file.Origin(str(folder / "model"), 2, ("no", "yes"), 0))
    full_size = adapters.adapter_params(loaded.model, loaded.head)
    with spectrum.factorized(loaded.model) as factorization, torch.no_grad():
        masks = factorization.keep(count)
        factorization.cut(masks)
        params, logits = adapters.adapter_params(loaded.model, loaded.head), loaded.model(input_ids=IDS).logits
    point = Point(3, 10, params, 0.5, {}, params, {"accuracy": 0.5}, "lora", component_masks=masks, cut_from=full_size)
    return plan_export(file, point, TrainSpec(task=TaskSpec(name="demo"), method="lora"), **form), logits


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_peft_gives_the_logits_of_the_cut_model(architecture: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    export, expected = plan_slice(architecture, tmp_path, count=9)
    bytes_before = export.adapter.read_bytes()
    export.write(tmp_path / "out")
    assert export.form == "PEFT adapter" and export.adapter.read_bytes() == bytes_before
    assert not [file for file in (tmp_path / "out").iterdir() if file.is_dir()]
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=2, pad_token_id=0)
    model = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, rtol=0, atol=1e-5)
    assert sum(p.numel() for name, p in model.named_parameters() if "lora_" in name) == export.point.adapter_params
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"cut from an adapter of {export.point.cut_from:,} parameters (trial 3, step 10)" in card


@pytest.mark.parametrize("form", ["pad", "merge"])
def test_padded_and_merged(form: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    export, expected = plan_slice("bert", tmp_path, count=9, **{form: True})
    export.write(tmp_path / "out")
    source = tmp_path / ("out" if form == "merge" else "model")
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2, pad_token_id=0)
    model = model.eval() if form == "merge" else PeftModel.from_pretrained(model, tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, rtol=0, atol=1e-5)


def test_a_slice_without_components_is_the_head_alone(tmp_path: Path) -> None:
    export, expected = plan_slice("bert", tmp_path, count=0)
    assert export.form == "autorank adapter" and export.point.adapter_params == 0
    export.write(tmp_path / "out")
    restored, _ = adapter_file.load(tmp_path / "out" / adapter_file.FILE)
    with torch.no_grad():
        torch.testing.assert_close(restored.model(input_ids=IDS).logits, expected, rtol=0, atol=0)
    with pytest.raises(AutorankError, match=r"to 0 parameters has no low-rank updates.*Omit --pad"):
        plan_slice("bert", tmp_path / "padded", count=0, pad=True)


@pytest.fixture
def _search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return finished_search.search(tmp_path / "runs", tmp_path / "model", slices=(2, 5))


def test_a_slice_from_the_command_line(_search: Path) -> None:
    points = Journal.open(_search).snapshot().points
    assert [point.trial for point in points] == [2, 2, 0, 1, 2]
    small_slice, large_slice = points[:2]
    out = invoke("export", "ready", "--trial", 2, "--step", finished_search.STEP, "--max-params", 200, "--to", "out")
    assert f"PEFT adapter of {large_slice.label} written to out" in out
    assert f"{large_slice.cut_from:,} to {large_slice.adapter_params:,} parameters" in large_slice.label
    ranks = invoke("ranks", "ready", "--max-params", small_slice.adapter_params)
    assert f"{small_slice.label.capitalize()}: total rank 2" in ranks


def test_slices_of_one_trial_are_separate_versions(_search: Path) -> None:
    invoke("sync", "ready")
    first = invoke("export", "ready", "--register", "small", "--max-params", 100)
    second = invoke("export", "ready", "--register", "small", "--trial", 2)
    assert "models:/small/1" in first and "models:/small/2" in second
    assert invoke("export", "ready", "--register", "small", "--max-params", 100) == first
