"""The training loop. Resuming, model reuse and accumulation are tested per method in trainables/test_conformance.py."""

from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.errors import AutorankError
from autorank.modeling import adapter_file, spectrum
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    tiny_models.model("bert", directory / "model")
    tiny_models.pairs_folder(directory / "data", 90, 40)
    return directory


def spec(folder: Path, method: str = "lora", settings: dict[str, Any] | None = None, **training: Any) -> TrainSpec:
    base = {"rank": 2, "dropout": 0.1, "learning_rate": 1e-2}
    return TrainSpec(
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / "model"),
        method=method,
        settings=base | (settings or {}),
        training=TrainingSpec(**{"epochs": 3, "batch_size": 16} | training),
    )


def test_another_specs_state_is_refused(folder: Path) -> None:
    first = TrainingRun(spec(folder))
    next(first)
    with pytest.raises(AutorankError, match="other settings"):
        TrainingRun(spec(folder, settings={"rank": 3})).load_state_dict(first.state_dict())


def test_a_state_from_before_an_option_was_introduced(folder: Path) -> None:
    """A search that was started by an older version can resume its trials."""
    first = TrainingRun(spec(folder))
    next(first)
    state = first.state_dict()
    for part, later in (("training", ("quantize", "gradient_checkpointing")), ("task", ("prompt", "chat", "metric"))):
        for name in later:
            del state["spec"][part][name]
    resumed = TrainingRun(spec(folder))
    resumed.load_state_dict(state)
    assert next(resumed) and resumed.step == 12


def test_a_run_may_resume_with_smaller_micro_batches(folder: Path) -> None:
    settings = {"dropout": 0.0}
    uninterrupted = TrainingRun(spec(folder, settings=settings))
    next(uninterrupted)
    resumed = TrainingRun(spec(folder, settings=settings, accumulate=4))
    resumed.load_state_dict(uninterrupted.state_dict())
    assert next(resumed).train_loss == pytest.approx(next(uninterrupted).train_loss, rel=0.02)  # the model has dropout


def test_a_run_leaves_the_processes_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(TrainingRun(spec(folder, "lora-drop", epochs=1)))
    assert torch.equal(torch.rand(3), expected)


def test_evaluations_fall_at_epochs_and_at_the_end(folder: Path) -> None:
    assert [e.step for e in TrainingRun(spec(folder))] == [6, 12, 18]  # 90 examples, 16 a step
    assert [e.step for e in TrainingRun(spec(folder, steps=8))] == [6, 8]
    assert [e.step for e in TrainingRun(spec(folder, steps=8, eval_every=3))] == [3, 6, 8]


def test_training_beats_chance(folder: Path) -> None:
    train_spec = spec(folder, settings={"targets": "all-linear", "rank": 8}, epochs=30, seed=5)
    evaluations = list(TrainingRun(train_spec))
    assert evaluations[-1].train_loss < evaluations[0].train_loss - 0.1
    assert evaluations[-1].score > 0.75  # a head alone stays at chance


def test_counts_of_parameters(folder: Path) -> None:
    last = list(TrainingRun(spec(folder)))[-1]
    layers, h = 2 * tiny_models.LAYERS, tiny_models.HIDDEN
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
    with pytest.raises(AutorankError, match="'fp16' needs a CUDA GPU"):
        TrainingRun(spec(folder, precision="fp16"))


def test_a_slice_scores_what_its_adapter_scores_when_it_is_cut(folder: Path, tmp_path: Path) -> None:
    """The slice has as many components as fit; the run continues as if it had not been cut."""
    run, uncut = TrainingRun(spec(folder)), TrainingRun(spec(folder))
    evaluation, _ = next(run), next(uncut)
    component = 2 * tiny_models.HIDDEN
    sizes = [4 * component + 5, component - 1, evaluation.adapter_params]
    slice_, empty, full = run.with_slices(evaluation, sizes).slices
    assert (slice_.adapter_params, sum(slice_.ranks.values())) == (4 * component, 4)
    assert empty.adapter_params == 0 and full.score == evaluation.score
    run.save_adapter(tmp_path / "a.safetensors")
    assert next(run).train_loss == next(uncut).train_loss
    cut, _ = adapter_file.load(tmp_path / "a.safetensors")
    spectrum.cut(cut.model, slice_.component_masks)
    run._base.model, model = cut.model, run._base.model
    run._loop.model = cut.model
    assert run._objective.evaluate(run._loop, run._data.validation) == slice_.metrics
    run._base.model = run._loop.model = model
