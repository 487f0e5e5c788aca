"""PRILoRA against plain computations: ranks by hand, n̄ from hidden states, pruning by sorting."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.export.peft_export import write_peft
from autorank.methods import configure
from autorank.modeling import adapters
from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.optimization import distributed
from autorank.training.run import TrainingRun
from tests import tiny
from trainables.prilora import PRILoRAConfig, linear, masks, ranks

# Ranks


@pytest.mark.parametrize(
    ("layers", "mean", "slope", "expected"),
    [
        (12, 8, 0.5, [4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11, 12]),
        (12, 8, -0.5, [12, 11, 11, 10, 9, 8, 8, 7, 6, 5, 5, 4]),
        (12, 8, 0, [8] * 12),
        (5, 2, 1, [0, 1, 2, 3, 4]),
        (5, 2, -1, [4, 3, 2, 1, 0]),
        (1, 3, 0.5, [3]),
        (3, 3, 0.5, [1, 3, 5]),  # 1.5, 3, 4.5 are rounded to 2, 3, 5, of which the earlier gives one back
        (4, 0.5, 0, [0, 0, 1, 1]),  # all rounded up to 1
        (4, 0.25, 1, [0, 0, 0, 1]),  # 0, 1/6, 1/3, 1/2
    ],
)
def test_ranks_by_hand(layers: int, mean: float, slope: float, expected: list[int]) -> None:
    assert linear(layers, mean, slope) == expected


def test_the_total_is_exact_and_ranks_stay_near_the_line() -> None:
    for layers in (1, 2, 3, 6, 7, 12, 24, 25):
        for mean in (0.3, 0.5, 1, 1.25, 2, 2.5, 3.7, 8, 17.3):
            for slope in (-1, -0.7, -0.5, -0.1, 0, 0.2, 0.5, 0.99, 1):
                made = linear(layers, mean, slope)
                about = f"{layers} layers, mean {mean}, slope {slope}: {made}"
                assert sum(made) == int(layers * mean + 0.5), about
                rises = 2 * slope * mean / (layers - 1) if layers > 1 else 0
                line = [mean - (slope * mean if layers > 1 else 0) + i * rises for i in range(layers)]
                assert all(abs(r - exact) < 1 and r >= 0 for r, exact in zip(made, line, strict=True)), about
                assert made == sorted(made, reverse=slope < 0) or slope == 0, about


def config(**settings: Any) -> PRILoRAConfig:
    made = configure("prilora", settings).config
    assert isinstance(made, PRILoRAConfig)
    return made


def test_all_matrices_of_a_layer_have_its_rank() -> None:
    names = [f"bert.encoder.layer.{i}.{kind}" for i in range(3) for kind in ("attention.query", "output.dense")]
    assert list(ranks(names, config(mean_rank=2, slope=1)).values()) == [0, 0, 2, 2, 4, 4]
    with pytest.raises(AutorankError, match=r"with mean_rank 0\.1 all ranks are 0"):
        ranks(names, config(mean_rank=0.1))


def test_the_whole_budget_in_the_last_layers() -> None:
    names = [f"bert.encoder.layer.{i}.output.dense" for i in range(12)]
    assert list(ranks(names, config(last_layers=3, slope=0)).values()) == [0] * 9 + [32] * 3
    assert list(ranks(names, config(last_layers=2, slope=0.5)).values()) == [0] * 10 + [24, 72]
    assert ranks(names, config(last_layers=20)) == ranks(names, config())


# What is kept


@pytest.mark.parametrize("scope", ["row", "matrix", "global"])
@pytest.mark.parametrize("pruning", [0.0, 0.25, 0.3, 0.5, 0.99])
def test_kept_is_what_sorting_keeps(scope: str, pruning: float) -> None:
    draw = torch.Generator().manual_seed(0)
    importance = [torch.rand(rank, width, generator=draw) * (1 + rank) for rank, width in ((3, 10), (1, 7), (4, 10))]
    found = masks(importance, config(scope=scope, pruning=pruning))
    assert [mask.shape for mask in found] == [values.shape for values in importance]
    groups: dict[Any, list[tuple[float, bool]]] = defaultdict(list)
    for m, (values, mask) in enumerate(zip(importance, found, strict=True)):
        for row in range(len(values)):
            group = {"row": (m, row), "matrix": m, "global": 0}[scope]
            groups[group] += zip(values[row].tolist(), mask[row].tolist(), strict=True)
    for members in groups.values():
        lowest = int(pruning * len(members) + 1e-9)
        assert [keep for _, keep in sorted(members)] == [False] * lowest + [True] * (len(members) - lowest)


def test_equal_importances_lose_the_share_exactly() -> None:
    (mask,) = masks([torch.zeros(3, 8)], config(scope="row", pruning=0.5))
    assert mask.sum(1).tolist() == [4, 4, 4]


# In training


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("prilora")
    for architecture in ("bert", "deberta-v2"):
        tiny.model(architecture, folder / architecture)
        config = json.loads((folder / architecture / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (folder / architecture / "config.json").write_text(json.dumps(config))
    (folder / "data").mkdir()
    tiny.pairs_file(folder / "data" / "train.jsonl", 22, seed=1)  # 8, 8 and 6 a step
    tiny.pairs_file(folder / "data" / "validation.jsonl", 8, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORANK_CACHE", str(folder / "cache"))
        yield folder


def opened(
    made: Path, settings: dict[str, Any], architecture: str = "bert", data: str = "data", **training: Any
) -> TrainingRun:
    """A run before its first step, its updates attached; it evaluates after every step."""
    wanted = TrainSpec(
        task=TaskSpec(name="pairs", data=made / data, text=("left", "right"), label="label"),
        model=str(made / architecture),
        method="prilora",
        settings={"mean_rank": 2, "interval": 4, "learning_rate": 1e-2} | settings,
        training=TrainingSpec(**{"steps": 10, "batch_size": 8, "eval_every": 1, "precision": "fp32"} | training),
    )
    run = TrainingRun(wanted, ModelCache("cpu"))
    run._open(), run._start()
    return run


class Inputs:
    """Mean squares of every layer's input features over a step's tokens, from hooks of its own."""

    def __init__(self, run: TrainingRun) -> None:
        self.layers = adapters.adapted(run._base.model)
        self.taken: dict[str, list[Tensor]] = defaultdict(list)
        run._base.model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for name, layer in self.layers.items():
            layer.base.register_forward_pre_hook(lambda module, args, name=name: self._take(name, args[0]))

    def _begin(self, model: nn.Module, args: Any, kwargs: dict[str, Tensor]) -> None:
        self.mask, self.open = kwargs["attention_mask"].bool(), set(self.layers) if model.training else set()

    def _take(self, name: str, x: Tensor) -> None:
        if name in self.open:  # DeBERTa puts its positions through as well, after the tokens
            self.open.remove(name)
            self.taken[name] += [x[i, j].detach() for i, j in self.mask.nonzero().tolist()]

    def norms(self) -> dict[str, Tensor]:
        taken, self.taken = self.taken, defaultdict(list)
        return {name: torch.stack(taken[name]).double().square().mean(0).sqrt() for name in self.layers}


def norms(run: TrainingRun) -> dict[str, Tensor]:
    """n̄ of every layer."""
    layers = adapters.adapted(run._base.model)
    parts = run._method.state_dict()["norms"].split([layer.update.A.shape[1] for layer in layers.values()])
    return dict(zip(layers, parts, strict=True))


def check_norms(run: TrainingRun, ema: float) -> None:
    inputs, expected = Inputs(run), {}
    for evaluation in run:
        for name, now in inputs.norms().items():
            expected[name] = ema * expected[name] + (1 - ema) * now if name in expected else now
        for name, norm in norms(run).items():
            close = torch.allclose(norm.double(), expected[name], rtol=1e-4, atol=1e-6)
            assert close, f"{name}, step {evaluation.step}: {norm} is not {expected[name]}"
    assert evaluation.step == run.total_steps


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
def test_the_inputs_norms(architecture: str, accumulate: int, made: Path) -> None:
    """Padding is left out, dropout of the update's input too; the last step of an epoch is smaller."""
    run = opened(made, {"ema": 0.7, "dropout": 0.5}, architecture, steps=5, accumulate=accumulate)
    check_norms(run, 0.7)


def test_positions_are_no_tokens(made: Path) -> None:
    """An example as long as DeBERTa's table of relative positions, alone: both pass as 1 x 16 x hidden."""
    from transformers import DebertaV2Config, DebertaV2Model

    folder = made / "buckets"
    tiny.model("deberta-v2", folder)
    config = DebertaV2Config.from_pretrained(folder)
    config.position_buckets = 8
    DebertaV2Model(config).save_pretrained(folder)
    (made / "long").mkdir()
    for split in ("train", "validation"):
        rows = [{"left": "w1 w2 w3 w4 w5 w6", "right": "w1 w2 w3 w4 w5 w6 w7", "label": i % 2} for i in range(8)]
        (made / "long" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = opened(made, {"interval": 1}, "buckets", "long", steps=2, batch_size=2, accumulate=2)
    assert set(run._data.train.lengths) == {16}
    check_norms(run, 0.9)


def test_an_example_that_only_goes_along_is_not_counted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers on a batch of two: the third runs the first example again, so as not to keep the others waiting."""
    added: list[Tensor] = []

    def first_step(count: int, rank: int) -> TrainingRun:
        monkeypatch.setattr(distributed, "count", lambda: count)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "sum_gradients", lambda parameters: None)
        monkeypatch.setattr(distributed, "sum_", lambda values: values)
        run = opened(made, {"interval": 2}, steps=3, batch_size=2)
        assert run._context is not None
        run._context.sum = lambda values: added.append(values.clone()) or values  # type: ignore[func-returns-value]
        next(run)
        return run

    run = first_step(1, 0)
    added.clear()
    for rank in range(3):
        first_step(3, rank)
    together = sum(added)
    ours = (together[:-1] / together[-1]).sqrt()
    torch.testing.assert_close(ours, run._method.state_dict()["norms"], rtol=1e-4, atol=1e-6)


def zeros(run: TrainingRun) -> dict[str, Tensor]:
    return {name: layer.update.A.detach() == 0 for name, layer in adapters.adapted(run._base.model).items()}


def follow(run: TrainingRun) -> Iterator[tuple[Evaluation, dict[str, Tensor], dict[str, Tensor]]]:
    """The run's evaluations, with where A was zero before the step and where it is after."""
    before = zeros(run)
    for evaluation in run:
        yield evaluation, before, zeros(run)
        before = zeros(run)


def half(zero: dict[str, Tensor]) -> bool:
    return all((mask.sum(1) == mask.shape[1] // 2).all() for mask in zero.values())


def test_what_is_pruned_is_least_in_magnitude_times_norm(made: Path) -> None:
    """Of the values that the optimizer leaves, as seen by a second run that is not pruned at that step."""
    run, unpruned = opened(made, {"interval": 4}), opened(made, {"interval": 5})
    for _ in range(3):
        next(run), next(unpruned)
    assert not any(mask.any() for mask in zeros(run).values())
    next(run), next(unpruned)
    free = adapters.adapted(unpruned._base.model)
    for name, zero in zeros(run).items():
        A = free[name].update.A.detach()
        lowest = (A.abs() * norms(run)[name]).argsort(dim=1)[:, : A.shape[1] // 2]
        assert torch.equal(zero, torch.zeros_like(zero).scatter(1, lowest, True))
        assert torch.equal(adapters.adapted(run._base.model)[name].update.A.detach(), A * ~zero)


def test_pruned_entries_grow_again_until_the_next_pruning(made: Path) -> None:
    run = opened(made, {"interval": 4, "regrow": True})
    found = {}
    for evaluation, before, after in follow(run):
        found[evaluation.step] = half(after)
        if evaluation.step in (5, 9):  # the step after a pruning
            grown = [name for name in after if (before[name] & ~after[name]).any()]
            assert len(grown) == len(after)
        layers = adapters.adapted(run._base.model)
        held = sum(after[name].numel() for name in layers)
        B = sum(int(layer.update.B.count_nonzero()) for layer in layers.values())
        # what has grown again takes part in training alone
        assert evaluation.nonzero_params == (held if evaluation.step < 4 else held // 2) + B
    assert found == {step: step in (4, 8) for step in range(1, 11)}


def test_what_has_grown_again_takes_no_part_in_evaluations(made: Path) -> None:
    run = opened(made, {"interval": 4}, steps=6)
    list(run)
    x, y = torch.randn(5, tiny.HIDDEN), torch.randn(5, tiny.HIDDEN)
    update = next(iter(adapters.adapted(run._base.model).values())).update
    assert update.mask_A is not None and (update.A.detach() != 0)[update.mask_A == 0].any()
    expected = y + x @ (update.scale * update.B @ (update.A * update.mask_A)).T
    torch.testing.assert_close(update.eval()(x, y), expected)
    assert not torch.allclose(update.train()(x, y), expected)


def test_pruned_entries_stay_zero_if_they_may_not_grow(made: Path) -> None:
    run = opened(made, {"interval": 4, "regrow": False, "ema": 0.0})
    changed = set()
    for evaluation, before, after in follow(run):
        assert half(after) == (evaluation.step >= 4)
        if any(not torch.equal(before[name], after[name]) for name in after):
            changed.add(evaluation.step)
    assert 4 in changed and changed <= {4, 8}


@pytest.mark.parametrize("pruned", ["B", "both"])
def test_b_is_pruned_by_the_norm_of_what_a_gives(pruned: str, made: Path) -> None:
    """n̄ of B's input from the layer's tokens and A; the values that are pruned are those of a run that is not."""
    settings = {"mean_rank": 4, "slope": 0, "ema": 0.5, "pruned": pruned}
    run, unpruned = (opened(made, settings | {"interval": interval}, steps=5) for interval in (3, 4))
    inputs, layers, expected = Inputs(run), adapters.adapted(run._base.model), {}
    for _ in range(3):
        A = {name: layer.update.A.detach().clone() for name, layer in layers.items()}
        next(run), next(unpruned)
        taken, inputs.taken = inputs.taken, defaultdict(list)
        for name in layers:
            now = (torch.stack(taken[name]).double() @ A[name].T.double()).square().mean(0).sqrt()
            expected[name] = 0.5 * expected[name] + 0.5 * now if name in expected else now
    free = adapters.adapted(unpruned._base.model)
    widths = [layer.update.A.shape[1] for layer in layers.values()] * (pruned == "both") + [4] * len(layers)
    norms = run._method.state_dict()["norms"].split(widths)[-len(layers) :]
    for (name, layer), norm in zip(layers.items(), norms, strict=True):
        torch.testing.assert_close(norm.double(), expected[name], rtol=1e-4, atol=1e-6)
        B = free[name].update.B.detach()
        lowest = (B.abs() * norm).argsort(dim=1)[:, :2]
        pruned_B = B.scatter(1, lowest, 0.0)  # layers with hooks round differently
        torch.testing.assert_close(layer.update.B.detach(), pruned_B, rtol=0, atol=1e-6)
        assert torch.equal(layer.update.B == 0, pruned_B == 0) and (B != 0).all()
        assert (layer.update.A.detach() == 0).any() == (pruned == "both")


def test_b_has_its_zeros_in_evaluations_and_exports(made: Path, tmp_path: Path) -> None:
    run = opened(made, {"mean_rank": 4, "slope": 0, "interval": 4, "pruned": "both"}, steps=6)
    evaluations = list(run)
    for update in (layer.update for layer in adapters.adapted(run._base.model).values()):
        assert update.mask_B is not None and (update.B.detach() != 0)[update.mask_B == 0].any()
        x, y = torch.randn(5, update.A.shape[1]), torch.randn(5, update.B.shape[0])
        expected = y + update.scale * (x @ (update.A * update.mask_A).T @ (update.B * update.mask_B).T)
        torch.testing.assert_close(update.eval()(x, y), expected)
    assert evaluations[-1].nonzero_params == evaluations[-1].adapter_params // 2
    run.save_adapter(tmp_path / "adapter.safetensors")
    stored = load_file(tmp_path / "adapter.safetensors")
    zeros = sum(int((values == 0).sum()) for name, values in stored.items() if ".update." in name)
    assert zeros == evaluations[-1].adapter_params // 2


def test_random_pruning_is_the_same_for_a_seed_and_goes_on_from_a_checkpoint(made: Path) -> None:
    settings = {"interval": 2, "importance": "random"}
    run, again = opened(made, settings, steps=6), opened(made, settings, steps=6)
    found = []
    for evaluation in run:
        found.append({name: zero for name, zero in zeros(run).items()})
        if evaluation.step == 3:
            state = run.state_dict()
    resumed = TrainingRun(run.spec, ModelCache("cpu"))
    resumed.load_state_dict(state)
    list(again), list(resumed)
    assert half(found[1]) and half(found[5])  # after steps 2 and 6
    assert any(not torch.equal(found[1][name], found[5][name]) for name in found[1])
    for other in (again, resumed):
        assert all(torch.equal(zero, found[5][name]) for name, zero in zeros(other).items())
    assert run._method.state_dict()["norms"] is None


def test_no_pruning_leaves_the_run_alone(made: Path) -> None:
    run = opened(made, {"pruning": 0.0, "interval": 400})
    evaluations = list(run)
    assert not any(mask.any() for mask in zeros(run).values())
    assert evaluations[-1].nonzero_params == evaluations[-1].adapter_params
    layers = [m for m in run._base.model.modules() if isinstance(m, AdaptedLinear)]
    assert layers and not any(layer._forward_pre_hooks for layer in layers)


def test_the_exported_adapter_has_exactly_the_zeros(made: Path, tmp_path: Path) -> None:
    run = opened(made, {"slope": 1.0})
    list(run)
    run.save_adapter(tmp_path / "adapter.safetensors")
    write_peft(tmp_path / "adapter.safetensors", tmp_path / "peft")
    ours = load_file(tmp_path / "adapter.safetensors")
    theirs = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    final = {
        name: layer.update.mask_A == 0
        for name, layer in adapters.adapted(run._base.model).items()
        if layer.update.mask_A is not None
    }
    assert len(final) == 6 * (tiny.LAYERS - 1) and half(final)  # the first layer has rank 0
    for name, zero in final.items():
        assert torch.equal(ours[f"{name}.update.A"] == 0, zero)
        assert torch.equal(theirs[f"base_model.model.{name}.lora_A.weight"] == 0, zero)
    assert sum("lora_A" in name for name in theirs) == len(final)
