"""Activations computed again: training is the same for methods that look into the layers."""

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
from tests import tiny
from tests.trainables.trained import full_state, same, spec, start, write_model


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("checkpointing")
    write_model(folder / "model", dropout=0.1)
    tiny.model("llama", folder / "llama")
    (folder / "data").mkdir()
    tiny.pairs_file(folder / "data" / "train.jsonl", 40, seed=1)
    tiny.pairs_file(folder / "data" / "validation.jsonl", 20, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORANK_CACHE", str(folder / "cache"))
        yield folder


@pytest.mark.parametrize("name", ["lora-drop", "increlora", "prilora"])
def test_training_is_the_same_bit_for_bit(name: str, workspace: Path, tmp_path: Path) -> None:
    given = {"eval_every": 12, "accumulate": 2}
    plain = start(spec(workspace, name, **given), tmp_path / "plain")
    next(plain)
    middle = plain.state_dict()
    expected = next(plain), full_state(plain)
    wanted = spec(workspace, name, gradient_checkpointing=True, **given)
    run = start(wanted, tmp_path / "again")  # a probe of its own
    next(run)
    resumed = start(wanted, tmp_path / "resumed")
    resumed.load_state_dict(middle)
    for other in (run, resumed):
        evaluation, state = next(other), full_state(other)
        assert (evaluation.score, evaluation.ranks) == (expected[0].score, expected[0].ranks)
        assert same(state | {"spec": None}, expected[1] | {"spec": None})


def test_base_model_is_restored_after_a_run_that_did_not_start(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AutorankError("not even one example fits")

    model_cache = ModelCache("cpu")
    monkeypatch.setattr("autorank.training.run_setup.MethodPhases", refuse)
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
    """What is computed before training, in evaluation mode, is computed again too, bit for bit."""
    if not (workspace / architecture).exists():
        tiny.model(architecture, workspace / architecture)
    settings = {"dropout": 0.0} if method == "sparse-adapter" else {"gamma": 1.0}
    passes: list[bool] = []
    loss = OptimizationLoop.loss

    def watched(phase: OptimizationLoop, batch: dict[str, Tensor]) -> Tensor:
        first = next(m for m in phase.model.modules() if isinstance(m, GradientCheckpointingLayer))
        for part in first.modules():
            if "Norm" in type(part).__name__ or isinstance(part, nn.Dropout):
                part.register_forward_pre_hook(see)
        return loss(phase, batch)

    def see(module: nn.Module, _: object) -> None:
        passes.append(gradient_checkpointing.recomputing())
        seen.add(module.training)

    seen: set[bool] = set()
    monkeypatch.setattr(OptimizationLoop, "loss", watched)
    starts = []
    for given in (False, True):
        passes.clear()
        wanted = spec(workspace, method, settings, model=architecture, gradient_checkpointing=given, accumulate=2)
        run = start(wanted, tmp_path / str(given))
        run._open()
        run._start()
        assert any(passes) == given and seen == {False}
        blocks = [m for m in run._base.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        assert blocks and not any(block.training for block in blocks)
        starts.append(adapters.tensors(run._base.model))
    assert all(torch.equal(values, starts[1][name]) for name, values in starts[0].items())
