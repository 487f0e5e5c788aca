"""LoRA-drop against plain computations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autorank.errors import AutorankError
from autorank.methods import configure, find
from autorank.modeling import adapters, base_model
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate
from autorank.training.run import TrainingRun
from autorank.training.run_loops import RunLoops
from tests import tiny_models
from tests.architectures import architecture
from tests.trainables.conformance_runs import open_run
from trainables.lora_drop import output_squares, select


@pytest.fixture
def workspace(tmp_path: Path, own_cache: Path) -> Path:
    tiny_models.model("bert", tmp_path / "model")
    tiny_models.pairs_file(tmp_path / "pairs.jsonl", 80)
    return tmp_path


def run(folder: Path, **settings: Any) -> TrainingRun:
    spec = TrainSpec(
        task=TaskSpec(name="pairs", data=folder / "pairs.jsonl", text=("left", "right"), label="label"),
        model=str(folder / "model"),
        method="lora-drop",
        settings={"rank": 2, "learning_rate": 1e-2, "probe_ratio": 0.5} | settings,
        training=TrainingSpec(steps=2, batch_size=8),
    )
    training_run = TrainingRun(spec)
    next(training_run)
    return training_run


def updates(training_run: TrainingRun, kind: str) -> list[int]:
    """For each layer of a kind, the index of the first layer that has the same update."""
    layer_updates = [
        layer.update for name, layer in adapters.adapted(training_run._base.model).items() if name.endswith(kind)
    ]
    return [layer_updates.index(update) for update in layer_updates]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.4, [2]), (0.5, [2]), (0.51, [0, 2]), (0.8, [0, 2]), (0.9, [0, 1, 2]), (0.95, [0, 1, 2, 3]), (1, [0, 1, 2, 3])],
)
def test_layers_are_kept_until_they_reach_the_threshold(threshold: float, expected: list[int]) -> None:
    """Shares of 10: 5, 3, and twice 1, of which the earlier layer is kept first."""
    assert select([3.0, 1.0, 5.0, 1.0], threshold) == expected


def test_the_ablation_keeps_as_many_of_the_least_important_layers() -> None:
    assert select([3.0, 1.0, 5.0, 2.0], 0.7, smallest=True) == [1, 3]


@pytest.mark.parametrize("family", ["bert", "opt", "albert", "deberta-v2"])
def test_importance_equals_a_plain_computation(family: str, workspace: Path) -> None:
    """OPT's layers have inputs without the batch's shape. ALBERT has one block, called several times."""
    if family != "bert":
        architecture(family).save(workspace / "model")
    trained = run(workspace, threshold=1.0, targets="all-linear")
    model, context = trained._base.model, trained._context
    assert context is not None
    examples = np.arange(0, 70, 3)
    for tokens in ("all", "first"):
        importance = output_squares(context, examples, tokens)
        split = trained._data.train
        expected = dict.fromkeys(importance, 0.0)
        for example in examples:  # one at a time, so without padding
            inputs: dict[str, list[torch.Tensor]] = {name: [] for name in expected}
            handles = [
                layer.register_forward_pre_hook(lambda _, args, name=name, inputs=inputs: inputs[name].append(args[0]))
                for name, layer in adapters.adapted(model).items()
            ]
            batch = collate(split, np.array([example]), 0)
            batch.pop("labels")
            with torch.no_grad():
                model.eval()(**batch)
            for handle in handles:
                handle.remove()
            for name, calls in inputs.items():
                delta = adapters.adapted(model)[name].update.delta_weight()
                for x in calls[:1] if family == "deberta-v2" else calls:  # then its relative positions
                    outputs = x.flatten(0, -2) @ delta.T
                    expected[name] += float((outputs if tokens == "all" else outputs[:1]).double().square().sum())
        assert importance == pytest.approx(expected, rel=1e-4)


def test_the_rest_of_a_kind_shares_one_update(workspace: Path) -> None:
    trained = run(workspace, threshold=0.01)
    assert sorted(updates(trained, "query")) in ([0, 0, 2], [0, 1, 1])
    assert trained._base.model is not None
    size = 2 * (tiny_models.HIDDEN + tiny_models.HIDDEN)
    counted = adapters.adapter_params(trained._base.model, trained._base.head)
    assert counted == 2 * 2 * size  # a kept and a shared update for each of two kinds


def test_ablations(workspace: Path) -> None:
    normal, inverse = run(workspace, threshold=0.01), run(workspace, threshold=0.01, ablation="inverse")

    def unshared(trained: TrainingRun) -> int:
        indices = updates(trained, "query")
        return next(i for i, update in enumerate(indices) if indices.count(update) == 1)

    assert unshared(normal) != unshared(inverse)
    assert unshared(run(workspace, threshold=0.01, ablation="top-k")) == tiny_models.LAYERS - 1
    assert len(updates(run(workspace, threshold=0.01, ablation="no-sharing"), "query")) == 1
    assert len(set(updates(run(workspace, threshold=0.01, ablation="random"), "query"))) == 2


def test_one_probe_serves_every_threshold(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(workspace, threshold=0.9)
    probes = list((workspace / "cache" / "probes").iterdir())
    assert len(probes) == 1
    calls: list[int] = []
    monkeypatch.setattr(RunLoops, "train_on", lambda self, *arguments: calls.append(1))
    rerun, inverse = run(workspace, threshold=0.9), run(workspace, threshold=0.01, ablation="inverse")
    assert not calls and inverse is not None
    expected, actual = adapters.tensors(first._base.model), adapters.tensors(rerun._base.model)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)  # as if there had been no cache
    run(workspace, rank=3)  # another rank, another probe
    assert calls


def test_a_final_run_equals_the_searchs_but_for_its_evaluation(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run(workspace).spec
    search, final = (
        spec.model_copy(update={"task": spec.task.model_copy(update={"tune_split": 0.25, "final": final})})
        for final in (False, True)
    )
    first = TrainingRun(search)
    next(first)
    assert len(list((workspace / "cache" / "probes").iterdir())) == 2  # one is of the whole training set
    monkeypatch.setattr(RunLoops, "train_on", None)  # another probe would raise
    second = TrainingRun(final)
    next(second)
    expected, actual = adapters.tensors(first._base.model), adapters.tensors(second._base.model)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert (set(first._data.validation), set(second._data.validation)) == ({"tune"}, {"validation"})

    state = first.state_dict()
    TrainingRun(search).load_state_dict(state)
    with pytest.raises(AutorankError, match="other settings"):
        TrainingRun(final).load_state_dict(state)


def test_warm_start_continues_from_the_probe(workspace: Path) -> None:
    from safetensors.torch import load_file

    spec = run(workspace, threshold=1.0, start="warm").spec
    (file,) = (workspace / "cache" / "probes").iterdir()
    probe = load_file(file)
    warm = open_run(spec)
    for name, layer in adapters.adapted(warm._base.model).items():
        assert torch.equal(layer.update.A, probe[f"{name}.A"]) and torch.equal(layer.update.B, probe[f"{name}.B"])


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("ablation", ["none", "no-sharing"])
def test_parameters_are_within_the_closed_formula(threshold: float, ablation: str, workspace: Path) -> None:
    trained = run(workspace, threshold=threshold, ablation=ablation)
    config = configure("lora-drop", trained.spec.settings).config
    lower, upper = find("lora-drop").adapter_params(config, base_model.meta_model(str(workspace / "model")))
    assert lower <= adapters.adapter_params(trained._base.model, trained._base.head) <= upper
    if threshold == 1:
        assert lower == upper == 2 * tiny_models.LAYERS * 2 * 2 * tiny_models.HIDDEN
