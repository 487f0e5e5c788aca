"""The weights that PRILoRA prunes in training, compared with sorting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from autorank.errors import AutorankError
from autorank.export.peft_export import write_peft
from autorank.methods import configure
from autorank.modeling import adapters
from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.training.evaluation import Evaluation
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.trainables.prilora_runs import Inputs, norms, open_run


def zeros(run: TrainingRun) -> dict[str, Tensor]:
    return {name: layer.update.A.detach() == 0 for name, layer in adapters.adapted(run._base.model).items()}


def evaluations_with_zeros(run: TrainingRun) -> Iterator[tuple[Evaluation, dict[str, Tensor], dict[str, Tensor]]]:
    """The run's evaluations, each with the zeros of A before and after its step."""
    before = zeros(run)
    for evaluation in run:
        yield evaluation, before, zeros(run)
        before = zeros(run)


def half_pruned(zero: dict[str, Tensor]) -> bool:
    return all((mask.sum(1) == mask.shape[1] // 2).all() for mask in zero.values())


def test_pruned_weights_have_the_smallest_magnitude_times_norm(prilora_workspace: Path) -> None:
    """The values before pruning come from a second run that is not pruned at that step."""
    run, unpruned = open_run(prilora_workspace, {"interval": 4}), open_run(prilora_workspace, {"interval": 5})
    for _ in range(3):
        next(run), next(unpruned)
    assert not any(mask.any() for mask in zeros(run).values())
    next(run), next(unpruned)
    unpruned_layers = adapters.adapted(unpruned._base.model)
    for name, zero in zeros(run).items():
        A = unpruned_layers[name].update.A.detach()
        lowest = (A.abs() * norms(run)[name]).argsort(dim=1)[:, : A.shape[1] // 2]
        assert torch.equal(zero, torch.zeros_like(zero).scatter(1, lowest, True))
        assert torch.equal(adapters.adapted(run._base.model)[name].update.A.detach(), A * ~zero)


def test_pruned_entries_grow_again_until_the_next_pruning(prilora_workspace: Path) -> None:
    run = open_run(prilora_workspace, {"interval": 4, "regrow": True})
    halved = {}
    for evaluation, before, after in evaluations_with_zeros(run):
        halved[evaluation.step] = half_pruned(after)
        if evaluation.step in (5, 9):  # the step after a pruning
            grown = [name for name in after if (before[name] & ~after[name]).any()]
            assert len(grown) == len(after)
        layers = adapters.adapted(run._base.model)
        entries = sum(after[name].numel() for name in layers)
        B = sum(int(layer.update.B.count_nonzero()) for layer in layers.values())
        # regrown entries are used in training only
        assert evaluation.nonzero_params == (entries if evaluation.step < 4 else entries // 2) + B
    assert halved == {step: step in (4, 8) for step in range(1, 11)}


def test_regrown_weights_are_masked_in_evaluations(prilora_workspace: Path) -> None:
    run = open_run(prilora_workspace, {"interval": 4}, steps=6)
    list(run)
    x, y = torch.randn(5, tiny_models.HIDDEN), torch.randn(5, tiny_models.HIDDEN)
    update = next(iter(adapters.adapted(run._base.model).values())).update
    assert update.mask_A is not None and (update.A.detach() != 0)[update.mask_A == 0].any()
    expected = y + x @ (update.scale * update.B @ (update.A * update.mask_A)).T
    torch.testing.assert_close(update.eval()(x, y), expected)
    assert not torch.allclose(update.train()(x, y), expected)


def test_pruned_entries_stay_zero_if_they_may_not_grow(prilora_workspace: Path) -> None:
    run = open_run(prilora_workspace, {"interval": 4, "regrow": False, "ema": 0.0})
    changed = set()
    for evaluation, before, after in evaluations_with_zeros(run):
        assert half_pruned(after) == (evaluation.step >= 4)
        if any(not torch.equal(before[name], after[name]) for name in after):
            changed.add(evaluation.step)
    assert 4 in changed and changed <= {4, 8}


@pytest.mark.parametrize("pruned", ["B", "both"])
def test_b_is_pruned_by_the_norm_of_the_output_of_a(pruned: str, prilora_workspace: Path) -> None:
    """n̄ of B's input comes from the layer's tokens and A; a second run gives the values before pruning."""
    settings = {"mean_rank": 4, "slope": 0, "ema": 0.5, "pruned": pruned}
    run, unpruned = (open_run(prilora_workspace, settings | {"interval": interval}, steps=5) for interval in (3, 4))
    inputs, layers, expected = Inputs(run), adapters.adapted(run._base.model), {}
    for _ in range(3):
        A = {name: layer.update.A.detach().clone() for name, layer in layers.items()}
        next(run), next(unpruned)
        token_inputs, inputs.token_inputs = inputs.token_inputs, defaultdict(list)
        for name in layers:
            current = (torch.stack(token_inputs[name]).double() @ A[name].T.double()).square().mean(0).sqrt()
            expected[name] = 0.5 * expected[name] + 0.5 * current if name in expected else current
    unpruned_layers = adapters.adapted(unpruned._base.model)
    widths = [layer.update.A.shape[1] for layer in layers.values()] * (pruned == "both") + [4] * len(layers)
    norms = run._method.state_dict()["norms"].split(widths)[-len(layers) :]
    for (name, layer), norm in zip(layers.items(), norms, strict=True):
        torch.testing.assert_close(norm.double(), expected[name], rtol=1e-4, atol=1e-6)
        B = unpruned_layers[name].update.B.detach()
        lowest = (B.abs() * norm).argsort(dim=1)[:, :2]
        pruned_B = B.scatter(1, lowest, 0.0)  # layers with hooks round differently
        torch.testing.assert_close(layer.update.B.detach(), pruned_B, rtol=0, atol=1e-6)
        assert torch.equal(layer.update.B == 0, pruned_B == 0) and (B != 0).all()
        assert (layer.update.A.detach() == 0).any() == (pruned == "both")


def test_b_has_its_zeros_in_evaluations_and_exports(prilora_workspace: Path, tmp_path: Path) -> None:
    run = open_run(prilora_workspace, {"mean_rank": 4, "slope": 0, "interval": 4, "pruned": "both"}, steps=6)
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


def test_random_pruning_depends_on_the_seed_and_resumes(prilora_workspace: Path) -> None:
    settings = {"interval": 2, "importance": "random"}
    run, rerun = open_run(prilora_workspace, settings, steps=6), open_run(prilora_workspace, settings, steps=6)
    history = []
    for evaluation in run:
        history.append({name: zero for name, zero in zeros(run).items()})
        if evaluation.step == 3:
            state = run.state_dict()
    resumed = TrainingRun(run.spec, ModelCache("cpu"))
    resumed.load_state_dict(state)
    list(rerun), list(resumed)
    assert half_pruned(history[1]) and half_pruned(history[5])  # after steps 2 and 6
    assert any(not torch.equal(history[1][name], history[5][name]) for name in history[1])
    for repeated in (rerun, resumed):
        assert all(torch.equal(zero, history[5][name]) for name, zero in zeros(repeated).items())
    assert run._method.state_dict()["norms"] is None


def test_without_pruning_nothing_is_masked_or_hooked(prilora_workspace: Path) -> None:
    run = open_run(prilora_workspace, {"pruning": 0.0, "interval": 400})
    evaluations = list(run)
    assert not any(mask.any() for mask in zeros(run).values())
    assert evaluations[-1].nonzero_params == evaluations[-1].adapter_params
    layers = [m for m in run._base.model.modules() if isinstance(m, AdaptedLinear)]
    assert layers and not any(layer._forward_pre_hooks for layer in layers)


def test_the_exported_adapter_has_exactly_the_zeros(prilora_workspace: Path, tmp_path: Path) -> None:
    run = open_run(prilora_workspace, {"slope": 1.0})
    list(run)
    run.save_adapter(tmp_path / "adapter.safetensors")
    write_peft(tmp_path / "adapter.safetensors", tmp_path / "peft")
    stored = load_file(tmp_path / "adapter.safetensors")
    exported = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    final = {
        name: layer.update.mask_A == 0
        for name, layer in adapters.adapted(run._base.model).items()
        if layer.update.mask_A is not None
    }
    assert len(final) == 6 * (tiny_models.LAYERS - 1) and half_pruned(final)  # the first layer has rank 0
    for name, zero in final.items():
        assert torch.equal(stored[f"{name}.update.A"] == 0, zero)
        assert torch.equal(exported[f"base_model.model.{name}.lora_A.weight"] == 0, zero)
    assert sum("lora_A" in name for name in exported) == len(final)


def test_a_run_must_be_long_enough_for_one_pruning() -> None:
    method = configure("prilora", {"interval": 24})
    method.check_length(layers=12, total_steps=24)  # prunes in the last step
    with pytest.raises(AutorankError, match="its interval of 24 steps is longer than the run, 23 steps"):
        method.check_length(layers=12, total_steps=23)
