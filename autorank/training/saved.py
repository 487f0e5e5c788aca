"""What a run needs to go on: taken from one, and given to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.spec import TrainSpec

if TYPE_CHECKING:
    from autorank.training.run import TrainingRun


def state_dict(run: TrainingRun) -> dict[str, Any]:
    """See `TrainingRun.state_dict`."""
    return {
        "spec": run.spec.model_dump(mode="json"),
        "step": run.step,
        "layout": adapters.layout(run._base.model),
        "tensors": {name: p.detach().clone() for name, p in adapters.tensors(run._base.model).items()},
        "optimizer": run._phase.optimizer.state_dict(),
        "scaler": run._phase.scaler.state_dict(),
        "method": run._method.state_dict(),
        "generator": run._hooks.run.generator.get_state(),
        "seconds": run._seconds,
        "peak_trainable": run._peak_trainable,
    }


def load_state_dict(run: TrainingRun, state: dict[str, Any]) -> None:
    """See `TrainingRun.load_state_dict`. The run is a fresh one."""
    if _identity(TrainSpec.model_validate(state["spec"])) != _identity(run.spec):
        raise AutorankError("This checkpoint belongs to a run with other settings; resume it with its own spec.")
    run._open()
    context, model = run._hooks.run, run._base.model
    context.step = state["step"]
    adapters.rebuild(model, state["layout"], context.device)
    added = adapters.added(model)
    run._base.unfreeze(name for name in state["tensors"] if name not in added)
    run._method.load_state_dict(state["method"], context)
    adapters.load_tensors(model, state["tensors"])
    run._phase.optimizer.load_state_dict(state["optimizer"], dict(model.named_parameters()))
    run._phase.scaler.load_state_dict(state["scaler"])
    context.generator.set_state(state["generator"])
    run.step, run._seconds = state["step"], state["seconds"]
    run._peak_trainable = state["peak_trainable"]


def _identity(spec: TrainSpec) -> dict[str, Any]:
    """What of a spec a checkpoint is bound to; what a spec did not have yet when it was written, is as by default."""
    return spec.model_dump(mode="json", exclude={"training": {"accumulate", "gradient_checkpointing"}})
