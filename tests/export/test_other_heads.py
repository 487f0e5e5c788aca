"""Base models that already have a head, of another width or for another kind of task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

from autorank.export.base_reference import write_base_reference
from autorank.export.cards.usage_snippets import base_code
from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from autorank.modeling import adapter_file, base_model
from tests import finished_search, tiny_models

IDS = torch.arange(4, 20).view(2, 8)
# the class of the checkpoint, its number of outputs, and the problem type in its config
CHECKPOINTS = {
    "other width": (t.BertForSequenceClassification, 5, None),
    "several labels": (t.BertForSequenceClassification, 5, "multi_label_classification"),
    "same width, several labels": (t.BertForSequenceClassification, 3, "multi_label_classification"),
    "regression": (t.BertForSequenceClassification, 1, "regression"),
    "two classes": (t.BertForSequenceClassification, 2, "single_label_classification"),
    "tokens": (t.BertForTokenClassification, 7, None),
}


def checkpoint(case: str, folder: Path) -> str:
    """Writes a model with a trained head."""
    cls, outputs, problem_type = CHECKPOINTS[case]
    config = t.BertConfig(
        vocab_size=tiny_models.tokenizer(folder), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, pad_token_id=0, num_labels=outputs, problem_type=problem_type,
    )  # fmt: skip
    torch.manual_seed(0)
    cls(config).save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    values: torch.Tensor = model.eval()(input_ids=IDS).logits
    return values


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_every_export_loads_and_gives_the_same_logits(case: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = checkpoint(case, tmp_path / "model")
    trained = finished_search.adapted_model(model, seed=1)
    expected = logits(trained.model)
    file = tmp_path / "adapter.safetensors"
    adapter_file.save(file, trained, adapter_file.Origin(model, 3, finished_search.LABELS, 0))
    origin = adapter_file.origin(file)
    assert origin.replaces_head == (CHECKPOINTS[case][1] != 3)

    write_peft(file, tmp_path / "peft")
    names: dict[str, Any] = {"torch": torch, "AutoModelForSequenceClassification": t.AutoModelForSequenceClassification}
    exec(base_code(origin), names)  # the code of the model card
    references = {"card": names["base"]}
    folder = write_base_reference(origin, tmp_path / "reference")  # the base model in MLflow's registry
    references["registry"] = t.AutoModelForSequenceClassification.from_pretrained(folder)
    for base in references.values():
        assert base.config.problem_type == "single_label_classification"
        adapted_model = PeftModel.from_pretrained(base, tmp_path / "peft")
        torch.testing.assert_close(logits(adapted_model), expected, rtol=0, atol=1e-5)

    write_merged(file, tmp_path / "merged")
    merged = t.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.config.problem_type == "single_label_classification"
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)


def test_regression_on_a_classifier(tmp_path: Path) -> None:
    model = checkpoint("two classes", tmp_path / "model")  # transformers refuses it with num_labels=1
    loaded = base_model.load(model, 1)
    origin = adapter_file.Origin(model, 1, (), 0, problem_type="regression", replaces_head=loaded.replaces_head)
    names: dict[str, Any] = {"torch": torch, "AutoModelForSequenceClassification": t.AutoModelForSequenceClassification}
    exec(base_code(origin), names)
    folder = write_base_reference(origin, tmp_path / "reference")
    for base in (names["base"], t.AutoModelForSequenceClassification.from_pretrained(folder)):
        assert base.config.problem_type == "regression" and logits(base).shape == (2, 1)


def test_weights_are_copied_only_for_another_head(tmp_path: Path) -> None:
    for case, copied in (("other width", True), ("same width, several labels", False)):
        model = checkpoint(case, tmp_path / case)
        origin = adapter_file.Origin(model, 3, finished_search.LABELS, 0, replaces_head=copied)
        folder = write_base_reference(origin, tmp_path / f"{case} reference")
        assert (folder / "model.safetensors").is_symlink() == (not copied)


def test_a_new_head_is_drawn_for_each_seed(tmp_path: Path) -> None:
    loaded = base_model.load(checkpoint("other width", tmp_path), 3)
    first_weight = loaded.model.get_parameter("classifier.weight").clone()
    loaded.reset(seed=1)
    assert first_weight.shape[0] == 3 and not torch.equal(loaded.model.get_parameter("classifier.weight"), first_weight)
