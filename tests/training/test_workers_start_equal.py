"""Two workers (gloo on the loopback) whose devices round differently still start with the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from autorank.errors import AutorankError
from autorank.training.model_cache import ModelCache
from autorank.training.optimization import distributed
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.cache_dirs import cached_in
from tests.trainables.conformance_runs import on_workers, results, spec, write_model

CPU = torch.device("cpu")
# case -> module and function of its computation before training
COMPUTED = {
    "eva": ("trainables.eva", "directions"),
    "pissa": ("trainables.pissa", "principal"),
    "gora": ("trainables.gora", "importances"),
    "gora-start": ("trainables.gora", "compressed"),
    "lora-drop": ("trainables.lora_drop", "output_squares"),
}


def with_other_rounding(compute: Callable[..., Any]) -> Callable[..., Any]:
    """The computation as on a device that rounds differently: half of each value, layers in reverse order."""

    def halved(*args: Any) -> Any:
        result = compute(*args)
        if isinstance(result, Tensor):
            return result / 2
        return dict(zip(result, [values / 2 for values in reversed(result.values())], strict=True))

    return halved


def train(folder: Path, name: str, cached: bool = False) -> dict[str, Any]:
    """A run on workers of which the second computes `with_other_rounding`, and each has its own cache.

    cached: the cache of the second worker contains its own result.
    """
    module, function = COMPUTED[name]
    method, rank = name.removesuffix("-start"), distributed.rank()
    train_spec = spec(folder, method, {"targets": "attention"}, steps=4)
    probes = folder / f"{name}-{cached}-{rank}"
    with pytest.MonkeyPatch.context() as patch:
        if rank:
            patch.setattr(
                f"{module}.{function}", with_other_rounding(getattr(__import__(module, fromlist="x"), function))
            )
        if rank and cached:
            with single_worker():
                next(TrainingRun(train_spec, ModelCache(CPU, probes)))
        run = TrainingRun(train_spec, ModelCache(CPU, probes))
        evaluations = list(run)
    tensors = {name: p.detach().clone() for name, p in run._base.model.named_parameters() if p.requires_grad}
    return {"ranks": evaluations[-1].ranks, "tensors": tensors}


def single_worker() -> Any:
    """A context without other workers."""
    patch = pytest.MonkeyPatch()
    patch.setattr(dist, "is_initialized", lambda: False)
    return _Undo(patch)


class _Undo:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self._patch.undo()


def second_worker(folder: Path) -> dict[str, Any]:
    """The values of the first worker as received by each worker, and errors raised in it."""
    value = float(distributed.rank() + 1)
    tensors = {"a": torch.full((2, 3), value), "b": torch.tensor(value, dtype=torch.float64), "none": torch.zeros(0, 4)}
    calls: list[int] = []
    received = distributed.once(lambda: calls.append(1) or tensors, CPU)

    def fail() -> dict[str, Tensor]:
        raise AutorankError("too few tokens")

    with pytest.raises(AutorankError, match="too few tokens"):
        distributed.once(fail, CPU)

    class LocalError(Exception):
        """A class that other processes cannot import."""

    def refuse() -> dict[str, Tensor]:
        raise LocalError("out of handles")

    for make, message in ((refuse, "LocalError: out of handles"), (nothing_left, "TwoArgumentError: 3 of 4 left")):
        with pytest.raises(RuntimeError, match=message):
            distributed.once(make, CPU)
    return {"found": received, "calls": len(calls)}


class TwoArgumentError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, remaining: int, total: int) -> None:
        super().__init__(f"{remaining} of {total} left")


def nothing_left() -> dict[str, Tensor]:
    raise TwoArgumentError(3, 4)


def jobs(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    named_jobs = {name: partial(train, folder, name) for name in COMPUTED}
    named_jobs |= {f"{name}-cached": partial(train, folder, name, True) for name in ("eva", "pissa", "lora-drop")}
    return named_jobs | {"told": partial(second_worker, folder)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("once")
    write_model(directory / "model", dropout=0.0)
    tiny_models.pairs_folder(directory / "data", 32)
    with cached_in(directory):
        on_workers(jobs, directory, seconds=300)
        yield directory


@pytest.mark.parametrize("name", [*COMPUTED, "eva-cached", "pissa-cached", "lora-drop-cached"])
def test_workers_start_and_stay_identical(name: str, folder: Path) -> None:
    first, second = results(folder, name)
    assert first["ranks"] == second["ranks"] and list(first["tensors"]) == list(second["tensors"])
    assert all(torch.equal(values, second["tensors"][name]) for name, values in first["tensors"].items())


def test_workers_receive_the_first_workers_values(folder: Path) -> None:
    first, second = results(folder, "told")
    assert (first["calls"], second["calls"]) == (1, 0)
    for name, values in first["found"].items():
        assert torch.equal(values, second["found"][name]) and values.dtype == second["found"][name].dtype
    assert first["found"]["a"].eq(1).all() and first["found"]["none"].shape == (0, 4)


def test_a_single_worker_returns_its_own_values() -> None:
    values = {"a": torch.ones(1)}
    assert distributed.once(lambda: values, CPU) is values
