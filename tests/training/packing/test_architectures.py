"""Lanes of further architectures and tasks, beyond those of test_pack.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.packing.lane import Lane
from autorank.training.packing.pack import Pack, Result
from tests import tiny_language_models, tiny_models
from tests.trainables.conformance_runs import cache
from tests.training.packing.test_pack import assert_equal, finish, train_alone

pytestmark = pytest.mark.usefixtures("own_cache")

DROPOUTS = {"hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop"}


def task(folder: Path, kind: str) -> TaskSpec:
    """A task of this kind with 60 training examples of different lengths."""
    if kind == "spans":
        return TaskSpec(name="squad_v1", data=tiny_models.questions_folder(folder / "data", 60), max_length=32)
    tiny_models.pairs_folder(folder / "data", 60, 20)
    if kind == "generation":
        return TaskSpec(name="x", data=folder / "data", prompt="left", completion="right", metric="likelihood")
    return TaskSpec(name="x", data=folder / "data", text=("left", "right"), label="label")


def specs(
    folder: Path, architecture: str, kind: str, methods: dict[str, dict[str, Any]], **training: Any
) -> list[TrainSpec]:
    """Specs of these methods, on a model without dropout; decoders have no padding token, as on the Hub."""
    write = tiny_language_models.model if kind == "generation" else tiny_models.model
    config = Path(write(architecture, folder / "model")) / "config.json"
    values = json.loads(config.read_text())
    values |= dict.fromkeys(DROPOUTS & values.keys(), 0.0)
    if architecture in ("llama", "gpt2"):
        values["pad_token_id"] = None
    config.write_text(json.dumps(values))
    weights = config.with_name("model.safetensors")
    if kind != "generation":  # attention that is not flat has gradients above rounding
        wider = {name: 8 * w if w.ndim == 2 else w for name, w in load_file(weights).items()}
        save_file(wider, weights, {"format": "pt"})
    defaults = {"steps": 16, "batch_size": 8, "eval_every": 8, "precision": "fp32"}
    task_spec = task(folder, kind)
    return [
        TrainSpec(
            task=task_spec, model=str(folder / "model"), method=method, settings={"learning_rate": 1e-2} | settings,
            training=TrainingSpec(**defaults | training),
        )
        for method, settings in methods.items()
    ]  # fmt: skip


def assert_lanes_equal_runs(train_specs: list[TrainSpec]) -> None:
    """The last lane joins when the others have been evaluated once."""
    pack = Pack(cache())
    for train_spec in train_specs[:-1]:
        pack.join(train_spec)
    results: dict[Lane, list[Result]] = {lane: [result] for lane, result in pack.advance().items()}
    pack.join(train_specs[-1])
    lanes = list(pack.lanes)
    assert all(lane.reason_alone is None for lane in lanes)
    for lane, later_results in finish(pack).items():
        results.setdefault(lane, []).extend(later_results)
    for lane, train_spec in zip(lanes, train_specs, strict=True):
        assert_equal(lane, results[lane], train_alone(train_spec))


METHODS: dict[str, dict[str, Any]] = {
    "prilora": {"targets": "all-linear", "interval": 4, "mean_rank": 2},
    "increlora": {"targets": "attention-qv", "mean_rank": 3, "top_h": 3, "components": 2, "interval": 3},
    "lora": {"targets": "all-linear", "rank": 3},
}


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("roberta", "labels"), ("deberta-v2", "labels"), ("llama", "labels"), ("gpt2", "labels"),
        ("roberta", "spans"), ("llama", "generation"),
    ],
)  # fmt: skip
def test_lanes_equal_runs(architecture: str, kind: str, tmp_path: Path) -> None:
    assert_lanes_equal_runs(specs(tmp_path, architecture, kind, METHODS))


def test_position_queries_without_updates(tmp_path: Path) -> None:
    methods = METHODS | {
        "increlora": METHODS["increlora"] | {"targets": "all-linear", "published": True, "mean_rank": 1.5}
    }
    assert_lanes_equal_runs(specs(tmp_path, "deberta-v2", "labels", methods))


@pytest.mark.parametrize("training", [{"accumulate": 4}, {"gradient_checkpointing": True, "accumulate": 2}])
def test_micro_batches(training: dict[str, Any], tmp_path: Path) -> None:
    assert_lanes_equal_runs(specs(tmp_path, "bert", "labels", METHODS, **training))


def test_dropout_is_sampled_for_each_lane(tmp_path: Path) -> None:
    """With dropout in the base, lanes with equal settings equal each other in distribution only."""
    [train_spec] = specs(tmp_path, "bert", "labels", {"lora": {"dropout": 0.5}})
    pack = Pack(cache())
    lanes = [
        pack.join(train_spec),
        pack.join(train_spec),
        pack.join(train_spec.model_copy(update={"settings": {"dropout": 0.1}})),
    ]
    for _ in range(3):
        pack.step()
    factors = [torch.cat([p.flatten() for n, p in lane.model.named_parameters() if n.endswith("B")]) for lane in lanes]
    assert not torch.equal(factors[0], factors[1])
