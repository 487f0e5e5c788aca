"""Text generation: training, scores and decoding, which do not depend on the batch size."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from autorank.modeling import adapters
from autorank.spec import TaskSpec
from autorank.tasks.data.batches import collate
from autorank.tasks.metrics.outcomes import unpack
from autorank.tasks.metrics.resampling import resampled
from autorank.tasks.metrics.text import compute
from autorank.training.objectives.generation import GenerationObjective, NaNDetector
from tests import tiny_language_models
from tests.training.objectives.generation_runs import objective_and_prompts, spec, start

LEARNS = {"llama": 40, "gpt2": 90, "qwen2": 90, "bart": 60, "t5": 60}  # steps


@pytest.mark.parametrize("family", LEARNS)
def test_training_learns_completions(family: str, workspace: Path) -> None:
    """There are three answers, so a constant answer is right a third of the time."""
    first, *_, last = start(spec(workspace, family, steps=LEARNS[family], eval_every=10))
    assert list(last.metrics) == ["rougeL", "exact_match", "bleu"] and last.score == last.metrics["rougeL"]
    assert last.train_loss < 0.75 * first.train_loss
    assert last.metrics["exact_match"] > 0.45 and last.score > 0.45


@pytest.mark.parametrize("family", LEARNS)
def test_scores_without_generation(family: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to transformers' loss and most likely tokens of each completion alone; nothing is generated."""
    monkeypatch.delattr(GenerationObjective, "write")
    run = start(spec(workspace, family, metric=None, steps=30))
    evaluation = next(run)
    assert list(evaluation.metrics) == ["likelihood", "token_accuracy"]
    assert evaluation.score == evaluation.metrics["likelihood"]
    split = run._data.validation["validation"]
    loss = correct = 0.0
    run._base.model.eval()
    for i in range(len(split)):
        batch = tiny_language_models.library_batch(collate(split, np.array([i]), 0))
        with torch.no_grad():
            outputs = run._base.model(**batch)
        labels, predicted = batch["labels"][0], outputs.logits[0].argmax(-1)
        if family not in tiny_language_models.ENCODED:
            labels, predicted = labels[1:], predicted[:-1]
        loss += float(outputs.loss) * split.weights[i]
        correct += int((predicted == labels)[labels >= 0].sum())
    tokens = split.weights.sum()
    assert evaluation.metrics["likelihood"] == pytest.approx(math.exp(-loss / tokens), rel=1e-4)
    assert evaluation.metrics["token_accuracy"] == pytest.approx(correct / tokens)
    assert 0 < evaluation.score < 1


def test_all_completions_of_a_prompt_count(workspace: Path, tmp_path: Path) -> None:
    rows = [{"q": f"w{i // 2} k0", "a": ["green", "a blue bird sings"][i % 2]} for i in range(40)]
    task = TaskSpec(name="x", data=tiny_language_models.write(tmp_path / "x.jsonl", rows), prompt="q", completion="a")
    run = start(spec(workspace, "llama").model_copy(update={"task": task}))
    next(run)
    objective, splits = run._objective, run._data.validation
    assert isinstance(objective, GenerationObjective)
    assert [len(split) for split in splits.values()] == [4]  # 2 of 20 prompts, each with both completions
    together = math.log(objective._forward(run._loop, splits)["likelihood"])
    alone = [math.log(objective._forward(run._loop, {"": splits["validation"].take(np.array([i]))})["likelihood"])
             for i in range(4)]  # fmt: skip
    assert together == pytest.approx(np.average(alone, weights=splits["validation"].weights), rel=1e-5)


def test_a_final_evaluation_also_generates(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score stays the same; texts are generated for a part of the prompts."""
    monkeypatch.setattr("autorank.training.objectives.generation.COMPLETED", 7)
    train_spec = spec(workspace, "llama", metric=None)
    run = start(train_spec.model_copy(update={"task": train_spec.task.model_copy(update={"final": True})}))
    evaluation = next(run)
    assert list(evaluation.metrics) == ["likelihood", "token_accuracy", "rougeL", "exact_match", "bleu"]
    assert evaluation.score == next(start(train_spec)).score
    objective = run._objective
    assert isinstance(objective, GenerationObjective)
    assert [len(split) for split in objective._prompts(run._data.validation).values()] == [7]


def test_an_evaluation_costs_a_forward_pass(workspace: Path) -> None:
    costs = {}
    for metric in ("likelihood", "rougeL"):
        run = start(spec(workspace, "llama", metric=metric))
        run.start()
        objective, splits = run._objective, run._data.validation
        costs[metric] = objective.evaluation_cost(splits)
        assert objective.forward_cost(splits) == splits["validation"].lengths.sum()
    assert costs["likelihood"] == splits["validation"].lengths.sum()
    assert costs["rougeL"] > 3 * costs["likelihood"]


@pytest.mark.parametrize("family", LEARNS)
def test_generated_texts_do_not_depend_on_the_batch(family: str, workspace: Path) -> None:
    run = start(spec(workspace, family, steps=40))
    evaluation = next(run)
    objective, split = objective_and_prompts(run)
    longest = int(split.weights.max())
    assert len(set(split.prompt_lengths)) > 3
    completions = {size: objective.write(run._loop, split, longest, size) for size in (1, 8, 24)}
    assert completions[1] == completions[8] == completions[24] and len(set(completions[1])) > 1
    assert evaluation.metrics == compute(run._data.task.metrics, completions[1], split.references)


@pytest.mark.parametrize("family", LEARNS)
def test_generation_is_greedy(family: str, workspace: Path) -> None:
    """Token by token, without cache, padding or the library's generation."""
    run = start(spec(workspace, family))
    next(run)
    objective, split = objective_and_prompts(run)
    longest = int(split.weights.max())
    completions = objective.write(run._loop, split, longest) or []
    for i in range(6):
        prompt = torch.from_numpy(split.ids[split.offsets[i] : split.offsets[i + 1]].astype(np.int64))[None]
        tokens = [int(split.target_ids[0])] if objective.encoder_decoder else []
        with torch.no_grad():
            for _ in range(longest):
                if objective.encoder_decoder:
                    inputs = {"input_ids": prompt, "decoder_input_ids": torch.tensor([tokens])}
                else:
                    inputs = {"input_ids": torch.cat([prompt, torch.tensor([tokens], dtype=torch.long)], dim=1)}
                tokens.append(int(run._base.model(**inputs).logits[0, -1].argmax()))
                if tokens[-1] == objective.tokenizer.eos_token_id:
                    break
        assert objective.tokenizer.decode(tokens, skip_special_tokens=True).strip() == completions[i]


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_the_checkpoints_generation_config_is_ignored(family: str, workspace: Path, tmp_path: Path) -> None:
    """Sampling and repetition penalties of a checkpoint do not change the generated texts, and cause no warnings."""
    folder = Path(tiny_language_models.model(family, tmp_path / family))
    generation_config = {
        "do_sample": True, "temperature": 5.0, "top_p": 0.5, "repetition_penalty": 3.0, "min_length": 9, "num_beams": 3,
        "no_repeat_ngram_size": 2, "eos_token_id": 7, "forced_bos_token_id": 9,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation_config))
    train_spec = spec(workspace, family)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*(temperature|top_p|do_sample|generation).*")
        run = start(train_spec.model_copy(update={"model": str(folder)}))
        evaluation = next(run)
    expected = next(start(train_spec))
    assert evaluation.metrics == expected.metrics
    assert run._base.model.generation_config.repetition_penalty == 3.0  # unchanged


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("metric", ["likelihood", "token_accuracy", "rougeL", "bleu"])
def test_predictions_give_the_score(family: str, metric: str, workspace: Path) -> None:
    run = start(spec(workspace, family, metric=metric))
    evaluation = next(run)
    models = unpack(evaluation.predictions)
    scores = [evaluation.score, *(slice_.score for slice_ in evaluation.slices)]
    prompts = len(next(iter(run._data.validation.values())).grouped())
    assert resampled(models, np.ones((1, prompts), np.float32))[0] == pytest.approx(scores, rel=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_diverged_model_has_no_score(family: str, workspace: Path) -> None:
    run = start(spec(workspace, family))
    next(run)
    with torch.no_grad():
        next(iter(adapters.adapted(run._base.model).values())).update.B.fill_(math.nan)
    objective, _ = objective_and_prompts(run)
    scores = objective.evaluate(run._loop, run._data.validation)
    assert list(scores) == ["rougeL", "exact_match", "bleu"] and all(map(math.isnan, scores.values()))
    forward = start(spec(workspace, family, metric="likelihood"))
    forward.start()
    scores = forward._objective.evaluate(run._loop, run._data.validation)
    assert list(scores) == ["likelihood", "token_accuracy"] and all(map(math.isnan, scores.values()))


def test_the_detector_sees_one_nan() -> None:
    detector = NaNDetector()
    assert not detector.detected
    for value in (0.0, -math.inf, math.nan, 1.0):
        scores = torch.tensor([[0.0, value]])
        assert detector(torch.zeros(1, 1), scores) is scores
    assert detector.detected
