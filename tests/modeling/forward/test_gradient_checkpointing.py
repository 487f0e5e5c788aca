"""Gradient checkpointing does not change training, also for methods that read the layers' activations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.modeling.forward import gradient_checkpointing
from autorank.training.model_cache import ModelCache
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.cache_dirs import cached_in
from tests.trainables.conformance_runs import full_state, open_run, same, spec, start, write_model


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("checkpointing")
    write_model(folder / "model", dropout=0.1)
    tiny_models.model("llama", folder / "llama")
    tiny_models.pairs_folder(folder / "data", 40, 20)
    with cached_in(folder):
        yield folder


@pytest.mark.parametrize("name", ["lora-drop", "increlora", "prilora"])
def test_training_is_the_same_bit_for_bit(name: str, workspace: Path, tmp_path: Path) -> None:
    training = {"eval_every": 12, "accumulate": 2}
    reference = start(spec(workspace, name, **training), tmp_path / "plain")
    next(reference)
    middle = reference.state_dict()
    expected = next(reference), full_state(reference)
    checkpointed = spec(workspace, name, gradient_checkpointing=True, **training)
    run = start(checkpointed, tmp_path / "again")  # with its own probe cache
    next(run)
    resumed = start(checkpointed, tmp_path / "resumed")
    resumed.load_state_dict(middle)
    for candidate in (run, resumed):
        evaluation, state = next(candidate), full_state(candidate)
        assert (evaluation.score, evaluation.ranks) == (expected[0].score, expected[0].ranks)
        assert same(state | {"spec": None}, expected[1] | {"spec": None})


def test_base_model_is_restored_after_a_run_that_did_not_start(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AutorankError("not even one example fits")

    model_cache = ModelCache("cpu")
    monkeypatch.setattr("autorank.training.run_setup.RunLoops", refuse)
    run = TrainingRun(
        spec(workspace, "lora", {"dropout": 0.0}, model="llama", gradient_checkpointing=True), model_cache
    )
    with pytest.raises(AutorankError):
        next(run)
    assert model_cache._base is not None
    model = model_cache._base[1].model
    assert not model.config.use_cache
    run.release()
    assert not model.is_activation_checkpointing and model.config.use_cache


def test_release_turns_gradient_checkpointing_off(workspace: Path) -> None:
    run = start(spec(workspace, "lora", {"dropout": 0.0}, model="llama", steps=1, gradient_checkpointing=True))
    next(run)
    model = run._base.model
    assert model.is_activation_checkpointing and not model.config.use_cache and adapters.adapted(model)
    run.release()
    assert not model.is_activation_checkpointing and model.config.use_cache
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2", "deberta-v2"])
@pytest.mark.parametrize("method", ["gora", "sparse-adapter"])
def test_first_gradients_are_the_same(
    method: str, architecture: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients computed before training, in evaluation mode, are bit-identical with recomputed activations."""
    if not (workspace / architecture).exists():
        tiny_models.model(architecture, workspace / architecture)
    settings = {"dropout": 0.0} if method == "sparse-adapter" else {"gamma": 1.0}
    passes: list[bool] = []
    loss = OptimizationLoop.loss

    def watched_loss(loop: OptimizationLoop, batch: dict[str, Tensor]) -> Tensor:
        first_block = next(m for m in loop.model.modules() if isinstance(m, GradientCheckpointingLayer))
        for module in first_block.modules():
            if "Norm" in type(module).__name__ or isinstance(module, nn.Dropout):
                module.register_forward_pre_hook(record_pass)
        return loss(loop, batch)

    def record_pass(module: nn.Module, _: object) -> None:
        passes.append(gradient_checkpointing.recomputing())
        training_modes.add(module.training)

    training_modes: set[bool] = set()
    monkeypatch.setattr(OptimizationLoop, "loss", watched_loss)
    starts = []
    for checkpointing in (False, True):
        passes.clear()
        train_spec = spec(
            workspace, method, settings, model=architecture, gradient_checkpointing=checkpointing, accumulate=2
        )
        run = open_run(train_spec, tmp_path / str(checkpointing))
        assert any(passes) == checkpointing and training_modes == {False}
        blocks = [m for m in run._base.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        assert blocks and not any(block.training for block in blocks)
        starts.append(adapters.tensors(run._base.model))
    assert all(torch.equal(values, starts[1][name]) for name, values in starts[0].items())
