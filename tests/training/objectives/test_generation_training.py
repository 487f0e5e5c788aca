"""Training on text generation: the loss, methods that read batches, precision, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autorank.tasks.data.batches import collate
from tests import tiny_language_models
from tests.training.objectives.generation_runs import METHODS, objective_and_prompts, spec, start
from trainables.lora_drop import output_squares


@pytest.mark.parametrize("family", ["llama", "gpt2", "bart", "t5"])
def test_the_loss_equals_transformers(family: str, workspace: Path) -> None:
    """Equal to transformers' loss of the same batch, and to the mean over the completion tokens of the batch."""
    run = start(spec(workspace, family))
    next(run)
    split, loop = run._data.train, run._loop
    loop.model.eval()
    batch = collate(split, np.arange(6), run._data.pad_id)
    with torch.no_grad():
        expected = loop.model(**tiny_language_models.library_batch(batch)).loss
        total = sum(float(loop.loss(collate(split, np.array([i]), 0))) * split.weights[i] for i in range(6))
        actual = loop.loss(dict(batch))
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected)
    assert float(actual) == pytest.approx(total / split.weights[:6].sum(), rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_accumulation_gives_the_loss_of_the_whole_batch(family: str, workspace: Path) -> None:
    losses = []
    for accumulate in (1, 2, 8):
        run = start(spec(workspace, family, steps=6, eval_every=1, accumulate=accumulate))
        losses.append([evaluation.train_loss for evaluation in run])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5) and losses[2] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_methods_that_read_batches(method: str, family: str, workspace: Path) -> None:
    run = start(spec(workspace, family, method, eval_every=6), workspace / "probes")
    evaluations = list(run)
    assert [evaluation.step for evaluation in evaluations] == [6, 12]
    assert all(math.isfinite(evaluation.train_loss) for evaluation in evaluations)
    ranks = evaluations[-1].ranks
    assert sum(ranks.values()) == len(ranks) * (4 if method == "lora-drop" else 2)


@pytest.mark.parametrize("tokens", ["all", "first"])
@pytest.mark.parametrize("family", ["llama", "bart", "t5"])
def test_lora_drop_leaves_padding_out(family: str, tokens: Any, workspace: Path) -> None:
    """Layer outputs of a batch equal those of the single examples, which have no padding."""
    run = start(spec(workspace, family, steps=3))
    next(run)
    assert run._context is not None
    examples = np.arange(12)
    together = output_squares(run._context, examples, tokens)
    alone = [output_squares(run._context, examples[i : i + 1], tokens) for i in examples]
    for name, total in together.items():
        assert total == pytest.approx(sum(example[name] for example in alone), rel=1e-4)
        assert total > 0


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_bfloat16(family: str, workspace: Path) -> None:
    run = start(spec(workspace, family, precision="bf16", steps=4))
    assert math.isfinite(next(run).score)
    objective, split = objective_and_prompts(run)
    assert len(objective.write(run._loop, split, 3) or []) == len(split)


def test_a_stopped_run_resumes(workspace: Path) -> None:
    train_spec = spec(workspace, "llama", steps=8, eval_every=4)
    uninterrupted = list(start(train_spec))
    first = start(train_spec)
    next(first)
    resumed = start(train_spec)
    resumed.load_state_dict(first.state_dict())
    (last,) = list(resumed)
    assert (last.metrics, last.train_loss) == (uninterrupted[-1].metrics, uninterrupted[-1].train_loss)


def test_gradient_checkpointing_gives_the_same_metrics(workspace: Path) -> None:
    expected, actual = (
        next(start(spec(workspace, "llama", gradient_checkpointing=checkpointing))) for checkpointing in (False, True)
    )
    assert actual.metrics == expected.metrics and actual.train_loss == pytest.approx(expected.train_loss, rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "bart", "t5"])
def test_prilora_sees_the_input_of_every_layer(family: str, workspace: Path) -> None:
    run = start(spec(workspace, family, "prilora", steps=5, eval_every=5))
    next(run)
    assert float(run._method._norms.min()) > 0  # type: ignore[attr-defined]
