"""EVA against PEFT's on the same batches, and against the exact decomposition of the inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.methods import configure, find
from autorank.modeling import base_model, target_modules
from autorank.tasks.data.batches import collate, eval_batches
from autorank.training import run_loops
from autorank.training.run import TrainingRun
from tests import tiny_language_models, tiny_models
from tests.architectures import architecture
from tests.trainables import conformance_runs, peft_comparison, reference_training
from tests.training.objectives import generation_runs
from trainables import eva

pytestmark = pytest.mark.usefixtures("own_cache")

SETTINGS = {"rank": 2, "alpha": 4.0, "svd_batch_size": 16}


def start_run(folder: Path, **settings: Any) -> TrainingRun:
    """A run with attached updates, before its first step."""
    return conformance_runs.open_run(reference_training.spec(folder, "eva", SETTINGS | settings, steps=6))


def batches(run: TrainingRun) -> list[dict[str, Tensor]]:
    """The batches of one epoch that the decomposition uses, padded."""
    epoch: list[dict[str, Tensor]] = []
    assert run._context is not None
    for examples in eva.batches(run._context, run._method.config):
        if len(epoch) * 16 >= len(run._data.train):
            return epoch
        lengths = run._data.train.lengths[examples]
        ordered = [examples[i] for i in eval_batches(lengths, 64)]
        assert len(ordered) == 1
        batch = collate(run._data.train, ordered[0], run._data.pad_id)
        batch.pop("labels")
        epoch.append(batch)
    raise AssertionError("batches never end")


@pytest.mark.parametrize(("rank", "rho"), [(2, 1.0), (2, 2.0), (3, 1.5), (1, 6.0)])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_start_and_ranks_equal_pefts(architecture: str, rank: int, rho: float, tmp_path: Path) -> None:
    from peft import LoraConfig, initialize_lora_eva_weights
    from peft.tuners.lora.config import EvaConfig

    reference_training.write(tmp_path, architecture)
    run = start_run(tmp_path, rank=rank, rho=rho)
    base = base_model.load(str(tmp_path / "model"), outputs=2)
    base.model.config.pad_token_id = run._data.pad_id
    names = list(target_modules.find(base.model, "all-linear"))
    config = LoraConfig(
        r=rank, lora_alpha=4, target_modules=names, init_lora_weights="eva", eva_config=EvaConfig(rho=rho)
    )
    peft_model = peft_comparison.wrap(base.model, config)
    initialize_lora_eva_weights(peft_model, batches(run), gather_distributed_inputs=False, show_progress_bar=False)
    layers = {name: peft_model.base_model.model.get_submodule(name) for name in names}
    peft_layers = {name: layer for name, layer in layers.items() if hasattr(layer, "lora_A")}
    updates = reference_training.updates(run)
    assert {name: update.rank for name, update in updates.items()} == {
        name: len(layer.lora_A["default"].weight) for name, layer in peft_layers.items()
    }
    assert sum(update.rank for update in updates.values()) == rank * len(names)
    assert (len(updates) < len(names)) == (rank == 1 and architecture == "gpt2")  # layers of rank 0
    for name, update in updates.items():
        torch.testing.assert_close(update.A.detach(), peft_layers[name].lora_A["default"].weight, rtol=1e-3, atol=1e-4)
        assert update.scale == pytest.approx(peft_layers[name].scaling["default"])
        assert not update.B.any() and update.A.dtype == torch.float32
        torch.testing.assert_close(update.A @ update.A.T, torch.eye(update.rank), rtol=0, atol=1e-4)


def test_directions_are_those_of_the_inputs(tmp_path: Path) -> None:
    """The exact decomposition of the inputs of one epoch, without padding."""
    run = start_run(reference_training.write(tmp_path))
    base = base_model.load(str(tmp_path / "model"), outputs=2)
    inputs: dict[str, list[Tensor]] = {name: [] for name in reference_training.updates(run)}
    mask = torch.empty(0)
    for name in inputs:
        layer = base.model.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, args, name=name: inputs[name].append(args[0][mask]))
    base.model.eval()
    with torch.no_grad():
        for batch in batches(run):
            mask = batch["attention_mask"].bool()
            base.model(**batch)
    for name, update in reference_training.updates(run).items():
        x = torch.cat(inputs[name]).double()
        _, values, Vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        if values[0] > 1.1 * values[1]:  # otherwise their order is arbitrary
            assert abs(float(Vh[0] @ update.A[0].detach().double())) > 0.98, name
        coordinates = Vh[: update.rank + 2] @ update.A.double().T
        assert (coordinates.norm(dim=0) > 0.9).all(), name


def test_base_is_clean_and_the_runs_numbers_untouched(tmp_path: Path) -> None:
    run = start_run(reference_training.write(tmp_path))
    assert run._context is not None
    assert torch.equal(run._context.generator.get_state(), torch.Generator().manual_seed(0).get_state())
    assert not [m for m in run._base.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    fresh = base_model.load(str(tmp_path / "model"), outputs=2)
    fresh.reset(seed=0)
    run.release()
    after = run._base.model.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in fresh.model.state_dict().items())


def test_other_runs_reuse_the_decomposition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start_run(reference_training.write(tmp_path))

    def fail(*_: Any) -> None:
        raise AssertionError("decomposed again")

    monkeypatch.setattr(eva, "directions", fail)
    second = start_run(tmp_path, alpha=8.0, learning_rate=1e-3)
    for name, update in reference_training.updates(first).items():
        assert torch.equal(reference_training.updates(second)[name].A, update.A)
    with pytest.raises(AssertionError, match="decomposed again"):
        start_run(tmp_path, rho=1.0)


def test_micro_batches_give_the_same_start(tmp_path: Path) -> None:
    """Micro-batches that save memory do not change the initial updates."""
    full_run = start_run(reference_training.write(tmp_path))
    train_spec = reference_training.spec(
        tmp_path, "eva", SETTINGS, steps=6, accumulate=16
    )  # batches of 4: too few tokens alone
    run = conformance_runs.open_run(train_spec)
    updates, expected = reference_training.updates(run), reference_training.updates(full_run)
    assert list(updates) == list(expected)
    for name, update in updates.items():
        torch.testing.assert_close(update.A, expected[name].A, rtol=1e-4, atol=1e-5)


def test_the_number_of_steps_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions that never converge: after `svd_steps` the ranks follow from the latest ones."""
    steps = []
    original = eva.pass_through
    monkeypatch.setattr(eva, "pass_through", lambda *args: steps.append(1) or original(*args))
    run = start_run(reference_training.write(tmp_path), tau=1.0, svd_steps=4)
    assert len(steps) == 1 + 4  # the first finds layers with the same input
    assert sum(update.rank for update in reference_training.updates(run).values()) == 2 * 18


def test_positions_are_no_inputs(tmp_path: Path) -> None:
    """DeBERTa calls its key and query layers twice, with tokens and then with positions; only tokens count."""
    run = start_run(reference_training.write(tmp_path, "deberta-v2"))
    assert run._context is not None
    token_counts: dict[str, int] = {}
    run.release()
    examples = next(eva.batches(run._context, run._method.config))
    observers = {
        name: lambda x, name=name: token_counts.update({name: token_counts.get(name, 0) + len(x)})
        for name in run._context.layers
    }
    eva.pass_through(run._context, examples, observers)
    assert len(token_counts) == 18 and set(token_counts.values()) == {int(run._data.train.lengths[examples].sum())}


def test_too_few_tokens_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eva, "batches", lambda run, config: iter([np.arange(1)]))
    with pytest.raises(AutorankError, match=r"32 directions for .*query: batches of 1 .*Raise svd_batch_size"):
        start_run(reference_training.write(tmp_path), rank=8, rho=4, svd_batch_size=1)


def test_tokens_of_several_batches_count_together(tmp_path: Path) -> None:
    """A text-to-text batch may have few tokens with labels; PEFT would ignore it."""
    run = start_run(reference_training.write(tmp_path), rank=8, rho=4, svd_batch_size=1, svd_steps=32)
    assert sum(update.rank for update in reference_training.updates(run).values()) == 8 * len(run._context.layers)  # type: ignore[union-attr]


@pytest.mark.parametrize("batch", [64, 8])
def test_every_call_of_a_layer_counts(batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALBERT has one block, called twice in a forward pass; inputs of split batches are joined."""
    tiny_models.pairs_folder(tmp_path / "data", 16)
    architecture("albert").save(tmp_path / "model")
    run = start_run(tmp_path, rank=1, rho=1.0)
    assert run._context is not None
    monkeypatch.setattr(run_loops, "EVAL_BATCH", batch)
    seen: list[Tensor] = []
    (name,) = [name for name in run._context.layers if name.endswith("query")]
    eva.pass_through(run._context, np.arange(16), {name: seen.append})
    tokens = int(run._data.train.lengths[:16].sum())
    assert [len(x) for x in seen] == [tokens, tokens] and not torch.allclose(*seen)


def test_only_completions_count(tmp_path: Path) -> None:
    """Tokens without a label, those of prompts, are left out as in PEFT (`use_label_mask`)."""
    tiny_language_models.data(tmp_path / "data")
    run = generation_runs.start(generation_runs.spec(tmp_path, "llama", "eva", {"rank": 1, "svd_batch_size": 64}))
    run.start()
    assert run._context is not None
    seen: list[Tensor] = []
    eva.pass_through(run._context, np.arange(32), {next(iter(run._context.layers)): seen.append})
    assert [len(x) for x in seen] == [run._data.train.weights[:32].sum()]


def test_ties_go_to_the_earlier_layer() -> None:
    shares = {"a": torch.tensor([0.5, 0.2]), "b": torch.tensor([0.5, 0.2]), "c": torch.tensor([0.4, 0.3])}
    assert eva.distribute(shares, 5) == {"a": 2, "b": 1, "c": 2}
    assert eva.distribute(shares, 1) == {"a": 1, "b": 0, "c": 0}


def brute_force(sizes: list[tuple[int, int]], rank: int, rho: float) -> tuple[int, int]:
    """Smallest and largest number of parameters of all distributions of the ranks."""
    from itertools import product

    highest = [min(round(rank * rho), inputs) for inputs, _ in sizes]
    totals = [
        sum(r * sum(size) for r, size in zip(ranks, sizes, strict=True))
        for ranks in product(*(range(high + 1) for high in highest))
        if sum(ranks) == rank * len(sizes)
    ]
    return min(totals), max(totals)


@pytest.mark.parametrize(("rank", "rho"), [(2, 1.0), (2, 2.0), (1, 2.6), (3, 1.5)])
def test_bounds_equal_those_of_all_distributions(rank: int, rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(16, 16), (16, 32), (32, 16), (16, 16), (16, 8)]
    monkeypatch.setattr(eva, "shapes", lambda *_: dict(enumerate(sizes)))
    config = configure("eva", {"rank": rank, "rho": rho}).config
    assert find("eva").adapter_params(config, nn.Module()) == brute_force(sizes, rank, rho)


def test_bounds_at_rho_1_are_loras_count(tmp_path: Path) -> None:
    """At rho 1 every layer has the same rank, as in LoRA."""
    model = base_model.meta_model(tiny_models.model("bert", tmp_path / "model"))
    config = configure("eva", {"rank": 3, "rho": 1, "targets": "all-linear"}).config
    lora = configure("lora", {"rank": 3, "targets": "all-linear"}).config
    assert find("eva").adapter_params(config, model) == find("lora").adapter_params(lora, model)
