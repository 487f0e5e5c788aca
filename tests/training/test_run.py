"""The loop: resuming, warm reuse, accumulation, evaluations."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.results.records import Evaluation
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from autorank.training.workshop import Workshop
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run")
    tiny.model("bert", made / "model")
    (made / "data").mkdir()
    tiny.pairs_file(made / "data" / "train.jsonl", 90, seed=1)
    tiny.pairs_file(made / "data" / "validation.jsonl", 40, seed=2)
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTORANK_CACHE", str(tmp_path / "cache"))


def spec(folder: Path, method: str = "lora", settings: dict[str, Any] | None = None, **training: Any) -> TrainSpec:
    base = {"rank": 2, "dropout": 0.1, "learning_rate": 1e-2}
    return TrainSpec(
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / "model"),
        method=method,
        settings=base | (settings or {}),
        training=TrainingSpec(**{"epochs": 3, "batch_size": 16} | training),
    )


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in adapters.tensors(run._base.model).items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def untimed(evaluations: list[Evaluation]) -> list[Evaluation]:
    return [replace(evaluation, seconds=0.0) for evaluation in evaluations]


@pytest.mark.parametrize("method", ["lora", "lora-drop"])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_resumed_is_the_run_that_never_stopped(method: str, stop_after: int, folder: Path, tmp_path: Path) -> None:
    wanted = spec(folder, method, eval_every=4)
    whole = TrainingRun(wanted)
    evaluations = list(whole)
    first = TrainingRun(wanted)
    seen = [next(first) for _ in range(stop_after)]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(12345)  # whatever else the process draws
    second = TrainingRun(wanted)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=False))
    seen += list(second)
    assert same(weights(second), weights(whole))
    assert untimed(seen) == untimed(evaluations)


def test_another_specs_state_is_refused(folder: Path) -> None:
    first = TrainingRun(spec(folder))
    next(first)
    with pytest.raises(AutorankError, match="other settings"):
        TrainingRun(spec(folder, settings={"rank": 3})).load_state_dict(first.state_dict())


def test_a_warm_run_equals_a_cold_one(folder: Path) -> None:
    workshop = Workshop("cpu")
    for method in ("lora-drop", "lora"):
        earlier = TrainingRun(spec(folder, method, {"rank": 4}), workshop)
        next(earlier)
        earlier.release()
    warm, cold = TrainingRun(spec(folder), workshop), TrainingRun(spec(folder))
    assert untimed(list(warm)) == untimed(list(cold))
    assert same(weights(warm), weights(cold))


def test_a_run_leaves_the_processes_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(TrainingRun(spec(folder, "lora-drop", epochs=1)))
    assert torch.equal(torch.rand(3), expected)


def test_accumulation_gives_the_whole_batchs_gradient(folder: Path) -> None:
    plain = {"dropout": 0.0}
    model = folder / "plain"
    if not model.exists():  # without dropout, which falls differently on micro-batches
        tiny.model("bert", model)
        import json

        config = json.loads((model / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (model / "config.json").write_text(json.dumps(config))
    runs = []
    for accumulate in (1, 4):
        wanted = spec(folder, settings=plain, accumulate=accumulate, steps=6).model_copy(update={"model": str(model)})
        runs.append(TrainingRun(wanted))
        list(runs[-1])
    for ours, theirs in zip(weights(runs[0]).values(), weights(runs[1]).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_evaluations_fall_at_epochs_and_at_the_end(folder: Path) -> None:
    assert [e.step for e in TrainingRun(spec(folder))] == [6, 12, 18]  # 90 examples, 16 a step
    assert [e.step for e in TrainingRun(spec(folder, steps=8))] == [6, 8]
    assert [e.step for e in TrainingRun(spec(folder, steps=8, eval_every=3))] == [3, 6, 8]


def test_it_learns(folder: Path) -> None:
    wanted = spec(folder, settings={"targets": "all-linear", "rank": 8}, epochs=30)
    evaluations = list(TrainingRun(wanted))
    assert evaluations[-1].train_loss < evaluations[0].train_loss - 0.1
    assert evaluations[-1].score > 0.75  # a head alone stays at chance


def test_what_is_counted(folder: Path) -> None:
    last = list(TrainingRun(spec(folder)))[-1]
    layers, h = 2 * tiny.LAYERS, tiny.HIDDEN
    assert last.adapter_params == last.nonzero_params == layers * 2 * (h + h)
    assert last.head_params == 2 * h + 2
    assert last.trainable_params == last.adapter_params + last.head_params
    assert set(last.ranks.values()) == {2} and len(last.ranks) == layers
    assert last.score == last.metrics["accuracy"]


def test_divergence_says_what_to_do(folder: Path) -> None:
    with pytest.raises(AutorankError, match="lower learning_rate"):
        list(TrainingRun(spec(folder, settings={"learning_rate": 1e30, "rank": 8})))


def test_fp16_needs_a_gpu(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(AutorankError, match="'fp16' needs a GPU"):
        TrainingRun(spec(folder, precision="fp16"))


def test_bf16_trains_on_a_cpu(folder: Path) -> None:
    assert next(TrainingRun(spec(folder, precision="bf16"))).train_loss < 2
