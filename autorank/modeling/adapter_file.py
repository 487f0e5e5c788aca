"""An adapter on disk: one safetensors file with its tensors, its layout and the base model that it belongs to.

The file holds all that makes the model differ from its base, as tensors by parameter name: low-rank factors
(`LAYER.update.A`, `.B`, `.e`, `.u`), bottlenecks (`PLACE.bottleneck.down.weight`, ...), the head, and whatever else of
the base trained, under its own name. What several layers share is stored once. The metadata entry `autorank` is JSON:

    {"format": "autorank adapter 1", "origin": `Origin`, "layout": as `adapters.layout` gives it}

docs/adapter-format.md tells the same to users.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from autorank import atomic_io
from autorank.errors import AutorankError, disk_full
from autorank.modeling import adapters, base_model
from autorank.modeling.target_modules import features

if TYPE_CHECKING:
    from transformers import PreTrainedModel

M = TypeVar("M", bound="PreTrainedModel")

FORMAT = "autorank adapter 1"
FILE = "adapter.safetensors"  # its name in an exported folder
_SHOWN = 3  # misfits that a message names


@dataclass(frozen=True)
class Origin:
    """What an adapter belongs to: the base model and the head's meaning."""

    model: str  # folder or Hub name
    outputs: int  # width of the head
    label_names: tuple[str, ...]  # empty for regression
    pad_id: int  # the padding token, by which decoders find the last token of a text
    kind: str = "classification"  # of task


def save(path: Path, trained: base_model.BaseModel, belongs: Origin) -> None:
    """Write all that differs from the base: factors, head, whatever else trained. Appears whole or not at all.

    Components that were there for training alone are left out.

    Raises:
        AutorankError: the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    values = {name: p.detach().cpu().contiguous() for name, p in adapters.tensors(trained.model, counting=True).items()}
    about = {"format": FORMAT, "origin": asdict(belongs), "layout": adapters.layout(trained.model, counting=True)}
    try:
        with atomic_io.writing(path) as partial:
            partial.touch()
            mode = partial.stat().st_mode  # as the umask has it; safetensors writes for the owner alone
            save_file(values, partial, {"autorank": json.dumps(about)})
            partial.chmod(mode)
    except (OSError, SafetensorError) as error:
        if disk_full(error):
            raise AutorankError(f"No space left on the disk of {path.parent}; free some, then go on.") from error
        raise


def load(path: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[base_model.BaseModel, Origin]:
    """The base model with this adapter on it, in evaluation mode.

    Raises:
        AutorankError: the file is missing or not an adapter, or its base model cannot be loaded.
    """
    from safetensors.torch import load_file

    belongs = origin(path)
    restored = base_model.load(belongs.model, belongs.outputs, dtype, device, belongs.kind)
    restored.model.config.pad_token_id = belongs.pad_id
    values = load_file(path, device=device)
    adapters.rebuild(restored.model, _about(path)["layout"], device)
    added = adapters.added(restored.model)
    restored.unfreeze(name for name in values if name not in added)
    adapters.load_tensors(restored.model, values)
    restored.model.eval()
    return restored, belongs


def load_adapter(model: M, folder: str | Path) -> M:
    """Put an adapter that autorank wrote on a transformers model of the same base, its head included.

    Args:
        model: fresh from `from_pretrained`, with as many outputs as the adapter's head has.
        folder: what `autorank export` wrote, or an adapter file itself.

    Returns:
        The same model, in evaluation mode.

    Raises:
        AutorankError: the file is missing or not an adapter, it does not fit the model, or the model has one already.
    """
    from safetensors.torch import load_file

    file = Path(folder)
    file = file / FILE if file.is_dir() else file
    layout, belongs = _about(file)["layout"], origin(file)
    if adapters.added(model):
        raise AutorankError("The model carries an adapter already. Load the base anew for another one.")
    values = load_file(file, device=str(model.device))
    misfits = _misplaced(model, layout)
    if not misfits:
        adapters.rebuild(model, layout, model.device)
        misfits = _misshapen(dict(model.named_parameters()), values)
    if misfits:
        adapters.detach_all(model)
        more = f" and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        raise AutorankError(
            f"The adapter in {file} does not fit this model: {'; '.join(misfits[:_SHOWN])}{more}. It belongs to "
            f"{belongs.model!r} with {belongs.outputs} outputs: load that."
        )
    adapters.load_tensors(model, values)
    model.config.pad_token_id = belongs.pad_id
    model.eval()
    return model


def _misplaced(model: nn.Module, layout: dict[str, Any]) -> list[str]:
    """What of a layout has no place in the model: layers that are not there or have other widths."""
    modules: dict[str, Any] = dict(model.named_modules())
    found = []
    for name, held in layout["layers"].items():
        update = layout["updates"][held["update"]]
        wanted = tuple(layout["factors"][update[factor]]["shape"][dim] for factor, dim in (("A", 1), ("B", 0)))
        if name not in modules:
            found.append(f"there is no layer {name}")
        elif features(modules[name]) != wanted:
            found.append(f"{name} is {features(modules[name])} (in, out), not {wanted}")
    for name, bottleneck in layout.get("bottlenecks", {}).items():
        if name not in modules:
            found.append(f"there is no module {name}")
        elif (width := features(getattr(modules[name], "dense", modules[name]))[1]) != bottleneck["width"]:
            found.append(f"{name} gives {width} features, not {bottleneck['width']}")
    return found


def _misshapen(parameters: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> list[str]:
    """Values that no parameter can take."""
    missing = [f"there is no parameter {name}" for name in values if name not in parameters]
    shapes = ((name, tuple(parameters[name].shape), tuple(v.shape)) for name, v in values.items() if name in parameters)
    return missing + [f"{name} is {here}, not {stored}" for name, here, stored in shapes if here != stored]


def low_rank(path: Path) -> bool:
    """Whether low-rank updates of whole layers are all that this adapter adds to its base, as PEFT's LoRA has them.

    Raises:
        AutorankError: the file is missing or not an adapter.
    """
    layout = _about(path)["layout"]
    ranks = (layout["factors"][update["A"]]["shape"][0] for update in layout["updates"])
    return any(ranks) and not layout.get("bottlenecks") and not leaves_position_queries(path)


def bottlenecked(path: Path) -> bool:
    """Whether there are bottlenecks in this adapter, which no weight of the base can take.

    Raises:
        AutorankError: the file is missing or not an adapter.
    """
    return bool(_about(path)["layout"].get("bottlenecks"))


def leaves_position_queries(path: Path) -> bool:
    """Whether DeBERTa's position queries are left unadapted, so that no weight of the base can take the update.

    Raises:
        AutorankError: the file is missing or not an adapter.
    """
    layers = _about(path)["layout"]["layers"].values()
    return not all(layer.get("position_queries", True) for layer in layers)


def held(path: Path) -> dict[str, int]:
    """Layer -> the number of the update that it holds; layers that share one have its number in common.

    Raises:
        AutorankError: the file is missing or not an adapter.
    """
    return {name: layer["update"] for name, layer in _about(path)["layout"]["layers"].items()}


def origin(path: Path) -> Origin:
    """What the adapter in this file belongs to.

    Raises:
        AutorankError: the file is missing or not an adapter.
    """
    stored = _about(path)["origin"]
    return Origin(**stored | {"label_names": tuple(stored["label_names"])})


def rename_base(path: Path, model: str) -> None:
    """Give the base model that an adapter belongs to another name.

    Raises:
        AutorankError: the file is missing or not an adapter.
    """
    from safetensors.torch import load, save

    about = _about(path)
    about["origin"]["model"] = model
    content = save(load(path.read_bytes()), {"autorank": json.dumps(about)})
    with atomic_io.writing(path) as partial:  # not in place: somebody may have the file mapped
        partial.write_bytes(content)


def _about(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {}).get("autorank", "{}"))
    except (OSError, SafetensorError) as error:
        if (path.parent / "adapter_config.json").is_file():
            raise AutorankError(
                f"{path.parent} holds a PEFT adapter. Load it with `PeftModel.from_pretrained` of the package peft."
            ) from error
        raise AutorankError(f"No adapter can be read from {path}: {error}.") from error
    if about.get("format") != FORMAT:
        raise AutorankError(f"{path} is not an adapter that autorank wrote (format {about.get('format')!r}).")
    return about
