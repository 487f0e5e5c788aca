"""Tests that every method has to pass. To add a method, add an entry to cases.py."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from autorank import methods
from autorank.export.peft_export import write_peft
from autorank.modeling import adapter_file, adapters, base_model
from autorank.spec import TrainSpec
from autorank.training.evaluation import Evaluation
from autorank.training.run import TrainingRun
from tests.trainables.cases import LOW_RANK, METHODS, PENALIZED, STEPS, VARIANTS
from tests.trainables.conformance_runs import (
    Trained,
    cache,
    each_method,
    full_state,
    inputs,
    logits,
    same,
    spec,
    start,
    train,
    until,
    with_hooks,
    without_seconds,
)  # fmt: skip

each_low_rank_method = pytest.mark.parametrize("name", LOW_RANK)


_trained: dict[str, Trained] = {}


@pytest.fixture
def trained(name: str, workspace: Path) -> Trained:
    """The method's run, trained once for all tests."""
    if name not in _trained:
        _trained[name] = train(name, workspace)
    return _trained[name]


@pytest.fixture(scope="module", autouse=True)
def clear_runs() -> Iterator[None]:
    yield
    _trained.clear()


def test_every_method_has_a_case() -> None:
    assert sorted(METHODS) == methods.names()


# Counts


def count(file: Path) -> tuple[int, int, dict[str, int]]:
    """Counts of an adapter file: entries after e and u are folded into B, nonzero entries, and ranks."""
    with safe_open(file, framework="pt") as reader:
        layout = json.loads(reader.metadata()["autorank"])["layout"]
        values = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
    factors: dict[int, Tensor] = {}
    for layer, entry in layout["layers"].items():
        for factor in ("A", "B", "e", "u", "m", "A0", "B0"):
            value = values.pop(f"{layer}.update.{factor}", None)
            if value is not None:
                factors[layout["updates"][entry["update"]][factor]] = value
    assert [list(factors[i].shape) for i in range(len(factors))] == [f["shape"] for f in layout["factors"]]
    trained = [factor["trained"] for factor in layout["factors"]]
    users = Counter(update["B"] for update in layout["updates"])
    stored: dict[Any, Tensor] = {name: v for name, v in values.items() if not name.startswith("classifier")}
    for update in layout["updates"]:
        assert update["active"] is None
        A, B, vectors = update["A"], update["B"], [v for v in (update["e"], update["u"]) if v is not None]
        if users[B] == 1 and trained[B]:
            stored[B] = factors[B] * (1 if update["e"] is None else factors[update["e"]])
            stored[B] = stored[B] * (1 if update["u"] is None else factors[update["u"]][:, None])
            vectors = []
        stored |= {number: factors[number] for number in (A, B, *vectors) if trained[number] and number not in stored}
        stored |= {} if update["m"] is None else {update["m"]: factors[update["m"]]}
    ranks = {layer: len(factors[layout["updates"][entry["update"]]["A"]]) for layer, entry in layout["layers"].items()}
    return sum(v.numel() for v in stored.values()), sum(int((v != 0).sum()) for v in stored.values()), ranks


@each_method
def test_parameters_counted_are_those_in_the_file(name: str, trained: Trained) -> None:
    for step, file in trained.adapters.items():
        evaluation = trained.evaluations[step - 1]
        assert evaluation.ranks == count(file)[2], f"after step {step}"
        assert evaluation.adapter_params == count(file)[0], f"after step {step}"
        if step > 1:  # the first step's learning rate is 0, so e is still 0
            assert evaluation.nonzero_params == count(file)[1], f"after step {step}"


@each_method
def test_parameters_are_within_the_closed_formula(name: str, trained: Trained, workspace: Path) -> None:
    config = methods.configure(name, trained.run.spec.settings).config
    lower, upper = methods.find(name).adapter_params(config, base_model.meta_model(str(workspace / "model")))
    params = trained.evaluations[-1].adapter_params
    assert lower <= params <= upper
    assert 0 < trained.evaluations[-1].nonzero_params <= params


@each_low_rank_method
def test_ranks_add_up_to_the_schedule(name: str, trained: Trained) -> None:
    totals = {evaluation.step: sum(evaluation.ranks.values()) for evaluation in trained.evaluations}
    if trained.case.total:
        assert totals == {step: trained.case.total(step) for step in range(1, STEPS + 1)}
    final = trained.evaluations[-1].ranks
    assert (0 in final.values()) == trained.case.emptied


@each_low_rank_method
def test_components_for_training_alone_are_dropped_in_the_end(name: str, trained: Trained) -> None:
    spare = {
        step
        for step, components in trained.components.items()
        if components > sum(count(trained.adapters[step])[2].values())
    }
    assert spare == set(trained.case.spare)


# Saving and exporting


@each_method
def test_a_saved_adapter_gives_the_same_logits(name: str, trained: Trained) -> None:
    for step, file in trained.adapters.items():
        restored, _ = adapter_file.load(file)
        with torch.no_grad():
            restored_logits = restored.model(**inputs(trained.run)).logits
        torch.testing.assert_close(restored_logits, trained.logits[step], rtol=0, atol=1e-5)
    assert not torch.equal(trained.logits[min(trained.logits)], trained.logits[STEPS])


@each_low_rank_method
def test_plain_peft_gives_the_same_logits(name: str, trained: Trained, workspace: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    middle = trained.case.stops[len(trained.case.stops) // 2]
    for step in (middle, STEPS):
        write_peft(trained.adapters[step], tmp_path / f"peft-{step}")
        config = json.loads((tmp_path / f"peft-{step}" / "adapter_config.json").read_text())
        ranks = {layer: config["rank_pattern"].get(layer, config["r"]) for layer in config["target_modules"]}
        trained_ranks = trained.evaluations[step - 1].ranks
        assert ranks == {layer: trained.case.exported * rank for layer, rank in trained_ranks.items() if rank}
        assert set(config["rank_pattern"]) | set(config["alpha_pattern"]) <= set(ranks)
        base = AutoModelForSequenceClassification.from_pretrained(workspace / "model", num_labels=2)
        peft_model = PeftModel.from_pretrained(base, tmp_path / f"peft-{step}").eval()
        with torch.no_grad():
            peft_logits = peft_model(**inputs(trained.run)).logits
        torch.testing.assert_close(peft_logits, trained.logits[step], rtol=0, atol=1e-5)


# Resuming, seeds, cached models


def check_resumed(
    train_spec: TrainSpec, state: Path, uninterrupted: TrainingRun, evaluations: list[Evaluation]
) -> None:
    """A run resumed from `state` equals the uninterrupted one, bit for bit."""
    torch.manual_seed(12345)  # the process's random state must not matter
    run = start(train_spec)
    run.load_state_dict(torch.load(state, weights_only=False))
    stopped = run.step
    assert without_seconds(list(run)) == without_seconds(evaluations[stopped:])
    assert same(full_state(run), full_state(uninterrupted))


@pytest.mark.parametrize(("name", "stop"), [(name, stop) for name, case in METHODS.items() for stop in case.stops])
def test_resumed_run_equals_an_uninterrupted_one(name: str, stop: int, trained: Trained) -> None:
    check_resumed(trained.run.spec, trained.states[stop], trained.run, trained.evaluations)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_resume(variant: str, workspace: Path) -> None:
    name, settings = VARIANTS[variant]
    train_spec = spec(workspace, name, settings)
    uninterrupted, state = start(train_spec), workspace / "variant.pt"
    evaluations = until(uninterrupted, 12)
    torch.save(uninterrupted.state_dict(), state)
    evaluations += list(uninterrupted)
    total = METHODS[name].total
    assert total is None or [sum(e.ranks.values()) for e in evaluations] == [total(e.step) for e in evaluations]
    check_resumed(train_spec, state, uninterrupted, evaluations)


@each_method
def test_the_same_seed_gives_the_same_run(name: str, trained: Trained, tmp_path: Path) -> None:
    rerun = start(trained.run.spec, probes=tmp_path)
    assert without_seconds(list(rerun)) == without_seconds(trained.evaluations)
    assert same(full_state(rerun), full_state(trained.run))


@each_method
def test_run_with_a_cached_base_equals_a_fresh_one(
    name: str, trained: Trained, workspace: Path, tmp_path: Path
) -> None:
    """The cached base comes from a run with another seed that was released halfway."""
    model_cache = cache(tmp_path)
    earlier = TrainingRun(spec(workspace, name, seed=1), model_cache)
    earlier_evaluations = until(earlier, 12)
    model = earlier._base.model
    modules = list(model.modules())
    earlier.release()
    assert not adapters.added_parameters(model) and not with_hooks(modules)
    fresh = base_model.load(str(workspace / "model"), outputs=2)
    fresh.reset(seed=1)
    assert same(dict(model.state_dict()), dict(fresh.model.state_dict()))
    assert [e.train_loss for e in earlier_evaluations] != [e.train_loss for e in trained.evaluations[:12]]
    warm = TrainingRun(trained.run.spec, model_cache)
    assert without_seconds(list(warm)) == without_seconds(trained.evaluations)
    assert same(full_state(warm), full_state(trained.run))


# The penalty


@each_method
def test_the_penalty_is_computed_once_per_step(name: str, trained: Trained) -> None:
    assert trained.penalties == list(range(STEPS))  # at every step, and in no evaluation


@pytest.mark.parametrize("name", PENALIZED)
def test_evaluations_leave_out_the_penalty(name: str, trained: Trained) -> None:
    run = trained.run
    config = run._method.config
    run._method.config = config.model_copy(update={PENALIZED[name]: 100.0})
    assert torch.equal(logits(run), trained.logits[STEPS])
    assert run._objective.evaluate(run._loop, run._data.validation) == trained.evaluations[-1].metrics
    run._method.config = config
