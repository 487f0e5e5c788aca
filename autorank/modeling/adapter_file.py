"""An adapter on disk: one safetensors file with its tensors, its layout and the base model it belongs to.

The file contains all tensors that differ from the base model, by parameter name: low-rank factors (`LAYER.update.A`,
`.B`, `.e`, `.u`), bottlenecks (`MODULE.bottleneck.down.weight`, ...), the head, and other trained parameters of the
base under their own names. Shared tensors are stored once. The metadata entry `autorank` is JSON:

    {"format": "autorank adapter 1", "origin": `Origin`, "layout": the result of `adapters.layout`}

docs/adapter-format.md describes the format for users.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from autorank import atomic_io
from autorank.errors import AutorankError, disk_full, listed
from autorank.modeling import adapters, base_model, heads
from autorank.modeling.heads import Head, ProblemType
from autorank.modeling.loading.auto_model import set_pad_token
from autorank.modeling.loading.hub_access import public_name
from autorank.modeling.target_modules import features

if TYPE_CHECKING:
    from transformers import PreTrainedModel

M = TypeVar("M", bound="PreTrainedModel")

FORMAT = "autorank adapter 1"
FILE = "adapter.safetensors"  # file name in an exported directory
_MAX_LISTED = 3  # mismatches that a message lists


@dataclass(frozen=True)
class Origin:
    """The base model of an adapter and the meaning of its head.

    Attributes:
        model: Directory or Hub name of the base model.
        outputs: Width of the head.
        label_names: Names of the classes; empty for regression.
        pad_id: Padding token; decoders use it to find the last token of a text.
        head: Form of the model.
        problem_type: Meaning of a sequence classifier's outputs; None: one of several classes.
        replaces_head: Whether the base model's checkpoint has a head of another width; `save` sets it.
    """

    model: str
    outputs: int
    label_names: tuple[str, ...]
    pad_id: int
    head: Head = heads.SEQUENCE
    problem_type: ProblemType | None = None
    replaces_head: bool = False

    @property
    def public_model(self) -> str:
        """The base model's name on the Hub if it is known, also for a directory of the Hub's cache, else `model`."""
        return public_name(self.model) or self.model


def save(path: Path, trained: base_model.BaseModel, origin: Origin) -> None:
    """Write all tensors that differ from the base model to a file, atomically.

    Components that exist only in training are left out.

    Args:
        path: The file to write.
        trained: The base model with the trained adapter.
        origin: The base model and the head.

    Raises:
        AutorankError: The disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = adapters.tensors(trained.model, active_only=True)
    values = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    origin = replace(origin, replaces_head=trained.replaces_head)
    metadata = {"format": FORMAT, "origin": asdict(origin), "layout": adapters.layout(trained.model, active_only=True)}
    try:
        with atomic_io.writing(path) as partial:
            partial.touch()
            mode = partial.stat().st_mode  # by the umask; safetensors creates files readable by the owner only
            save_file(values, partial, {"autorank": json.dumps(metadata)})
            partial.chmod(mode)
    except (OSError, SafetensorError) as error:
        if disk_full(error):
            raise AutorankError(
                f"No space left on the disk of {path.parent}. Free some space, then run again."
            ) from error
        raise


def load(path: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[base_model.BaseModel, Origin]:
    """Load the base model of an adapter and attach the adapter.

    Args:
        path: The adapter file.
        dtype: Data type of the frozen weights.
        device: Device of the model.

    Returns:
        The base model with the adapter, in evaluation mode, and the adapter's origin.

    Raises:
        AutorankError: The file is missing or not an adapter, or its base model cannot be loaded.
    """
    from safetensors.torch import load_file

    source = origin(path)
    restored = base_model.load(source.model, source.outputs, dtype, device, source.head)
    set_pad_token(restored.model.config, source.pad_id)
    values = load_file(path, device=device)
    adapters.rebuild(restored.model, _metadata(path)["layout"], device)
    added = adapters.added_parameters(restored.model)
    restored.unfreeze(name for name in values if name not in added)
    adapters.load_tensors(restored.model, values)
    restored.model.eval()
    return restored, source


def load_adapter(model: M, folder: str | Path) -> M:
    """Attach an adapter written by autorank, including its head, to a transformers model.

    Args:
        model: The base model as loaded by `from_pretrained`, with as many outputs as the adapter's head.
        folder: A directory written by `autorank export`, or an adapter file.

    Returns:
        The same model, in evaluation mode.

    Raises:
        AutorankError: The file is missing or not an adapter, does not fit the model, or the model already has an
            adapter.
    """
    from safetensors.torch import load_file

    file = Path(folder)
    file = file / FILE if file.is_dir() else file
    layout, source = _metadata(file)["layout"], origin(file)
    if adapters.added_parameters(model):
        raise AutorankError("The model already has an adapter. Load the base model again to use another adapter.")
    if len({parameter.device for parameter in model.parameters()}) > 1:
        raise AutorankError(
            "The model is on several devices (device_map). Load it on one, or merge the adapter with `autorank export "
            "--merge`."
        )
    values = load_file(file, device=str(model.device))
    mismatches = _missing_layers(model, layout)
    if not mismatches:
        adapters.rebuild(model, layout, model.device)
        mismatches = _wrong_shapes(dict(model.named_parameters()), values)
    if mismatches:
        adapters.detach_all(model)
        raise AutorankError(
            f"The adapter in {file} does not fit this model: {listed(mismatches, _MAX_LISTED, '; ')}. Load "
            f"its base model {source.model!r} with num_labels={source.outputs}."
        )
    adapters.load_tensors(model, values)
    set_pad_token(model.config, source.pad_id)
    model.eval()
    return model


def _missing_layers(model: nn.Module, layout: dict[str, Any]) -> list[str]:
    """The layers and bottlenecks of a layout that the model lacks or that have another width."""
    modules: dict[str, Any] = dict(model.named_modules())
    problems = []
    for name, layer in layout["layers"].items():
        update = layout["updates"][layer["update"]]
        shape = tuple(layout["factors"][update[factor]]["shape"][dim] for factor, dim in (("A", 1), ("B", 0)))
        if name not in modules:
            problems.append(f"layer {name} is missing")
        elif features(modules[name]) != shape:
            problems.append(f"{name} is {features(modules[name])} (in, out), expected {shape}")
    for name, bottleneck in layout.get("bottlenecks", {}).items():
        if name not in modules:
            problems.append(f"module {name} is missing")
        elif (width := features(getattr(modules[name], "dense", modules[name]))[1]) != bottleneck["width"]:
            problems.append(f"{name} has {width} output features, expected {bottleneck['width']}")
    return problems


def _wrong_shapes(parameters: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> list[str]:
    """The values without a parameter of the same name and shape."""
    missing = [f"parameter {name} is missing" for name in values if name not in parameters]
    shapes = ((name, tuple(parameters[name].shape), tuple(v.shape)) for name, v in values.items() if name in parameters)
    return missing + [f"{name} is {shape}, expected {stored}" for name, shape, stored in shapes if shape != stored]


def low_rank(path: Path) -> bool:
    """Whether this adapter consists of low-rank updates of whole layers, so that PEFT's LoRA can represent it.

    Raises:
        AutorankError: The file is missing or not an adapter.
    """
    layout = _metadata(path)["layout"]
    ranks = (layout["factors"][update["A"]]["shape"][0] for update in layout["updates"])
    return any(ranks) and not layout.get("bottlenecks") and not leaves_position_queries(path)


def bottlenecked(path: Path) -> bool:
    """Whether this adapter has bottlenecks, which cannot be merged into weights of the base.

    Raises:
        AutorankError: The file is missing or not an adapter.
    """
    return bool(_metadata(path)["layout"].get("bottlenecks"))


def leaves_position_queries(path: Path) -> bool:
    """Whether DeBERTa's position queries are left unadapted, so that the update cannot be merged into the base.

    Raises:
        AutorankError: The file is missing or not an adapter.
    """
    layers = _metadata(path)["layout"]["layers"].values()
    return not all(layer.get("position_queries", True) for layer in layers)


def update_indices(path: Path) -> dict[str, int]:
    """The index of each layer's update, by layer name; layers that share an update have the same index.

    Raises:
        AutorankError: The file is missing or not an adapter.
    """
    return {name: layer["update"] for name, layer in _metadata(path)["layout"]["layers"].items()}


def origin(path: Path) -> Origin:
    """The base model and the head of the adapter in this file.

    Raises:
        AutorankError: The file is missing or not an adapter.
    """
    stored = _metadata(path)["origin"]
    return Origin(**stored | {"label_names": tuple(stored["label_names"]), "head": Head(**stored["head"])})


def rename_base(path: Path, model: str) -> None:
    """Change the stored name of an adapter's base model.

    Args:
        path: The adapter file.
        model: The new directory or Hub name.

    Raises:
        AutorankError: The file is missing or not an adapter.
    """
    from safetensors.torch import load, save

    metadata = _metadata(path)
    metadata["origin"]["model"] = model
    content = save(load(path.read_bytes()), {"autorank": json.dumps(metadata)})
    with atomic_io.writing(path) as partial:  # not in place: another process may have the file mapped
        partial.write_bytes(content)


def _metadata(path: Path) -> dict[str, Any]:
    """The metadata of an adapter file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {}).get("autorank", "{}"))
    except (OSError, SafetensorError) as error:
        if (path.parent / "adapter_config.json").is_file():
            raise AutorankError(
                f"{path.parent} contains a PEFT adapter. Load it with `PeftModel.from_pretrained` of the package peft."
            ) from error
        raise AutorankError(
            f"Cannot read an adapter from {path}: {error}. Restore the file from a copy. If there is none, remove it: "
            "then `autorank export` shows the command that trains it again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise AutorankError(f"{path} is not an adapter written by autorank (format {metadata.get('format')!r}).")
    return metadata
