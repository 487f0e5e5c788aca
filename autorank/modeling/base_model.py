"""Base models: loaded with a new head for a task and restored between runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

from autorank.errors import AutorankError
from autorank.modeling import adapters, heads
from autorank.modeling.forward import dry_pass
from autorank.modeling.forward.attention_masks import Form
from autorank.modeling.heads import Head
from autorank.modeling.loading import pretrained_checks
from autorank.modeling.loading.auto_model import auto_class, load_config, quiet
from autorank.modeling.loading.hub_access import hub_access
from autorank.modeling.loading.quantization import four_bit
from autorank.modeling.loading.remote_code import trusted

# Names of heads in transformers: of sequence classifiers (DistilBERT has two) and of question answering.
HEADS = ("classifier", "score", "pre_classifier", "classification_head", "qa_outputs")
UNQUANTIZED = (
    *HEADS,
    "pooler",
    "pooler.dense",
    "head.dense",
    "lm_head",
)  # layers that are new, or trained with the head


@dataclass
class BaseModel:
    """A frozen base model with a trainable head, which can be restored after any training.

    Attributes:
        model: The transformers model.
        new: Names of parameters that the checkpoint lacks (classifier, DeBERTa's pooler); initialized for each seed.
        head: Names of parameters that are always trained: the new ones and the classifier.
        std: Standard deviation of new weights, the architecture's `initializer_range`.
        replaces_head: Whether the checkpoint has a head of another width, in place of which there is a new one.
        mask_form: Form in which the model takes attention masks, see `attention_masks`; None: not known yet.
    """

    model: PreTrainedModel
    new: frozenset[str]
    head: tuple[str, ...]
    std: float
    replaces_head: bool = False
    mask_form: Form | None = None
    _clean: dict[nn.Parameter, torch.Tensor] = field(default_factory=dict)  # loaded values of unfrozen parameters

    @property
    def head_params(self) -> int:
        """Number of parameters of the head."""
        return sum(self.model.get_parameter(name).numel() for name in self.head)

    @property
    def head_modules(self) -> list[str]:
        """Names of the modules of the head: PEFT's `modules_to_save`."""
        return sorted({module_of(name) for name in self.head})

    def reset(self, seed: int) -> None:
        """Restore the loaded model with a head initialized from `seed`; equal to loading it in a new process."""
        adapters.detach_all(self.model)
        self.model.requires_grad_(False)
        for parameter, values in self._clean.items():
            parameter.data, parameter.grad = values, None
        self._clean.clear()
        self.unfreeze(self.head)
        self.draw_head(seed)

    def unfreeze(self, names: Iterable[str]) -> None:
        """Make parameters trainable, in float32.

        Args:
            names: Names of the parameters.

        Raises:
            AutorankError: A parameter is quantized.
        """
        for name in names:
            parameter = self.model.get_parameter(name)
            if not parameter.is_floating_point():
                raise AutorankError(
                    f"{name} is quantized and cannot be trained. Use another method or unquantized weights."
                )
            module = self.model.get_submodule(name.rpartition(".")[0])
            # weight and bias of a normalization layer must have one data type, even if one of them is frozen
            for vector in (p for p in module.parameters(recurse=False) if p.ndim == 1):
                self._widen(vector)
            self._widen(parameter)
            parameter.requires_grad_(True)

    def _widen(self, parameter: nn.Parameter) -> None:
        """Convert to float32 and remember the loaded values."""
        self._clean.setdefault(parameter, parameter.data.clone())
        parameter.data = parameter.data.float()

    def check_unfrozen(self) -> None:
        """Check that all trainable parameters of the base were unfrozen here, since only those are restored."""
        added = adapters.added_parameters(self.model)
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and parameter not in self._clean and name not in added:
                raise RuntimeError(f"{name} is trainable but was not unfrozen by BaseModel.unfreeze")

    @torch.no_grad()
    def draw_head(self, seed: int) -> None:
        """Initialize the head: new parameters from `seed` (weights normal, biases zero), others as loaded.

        Values are drawn on the CPU, so a seed gives the same values on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        for name in self.head:
            parameter = self.model.get_parameter(name)
            if name not in self.new:
                parameter.copy_(self._clean[parameter])
            elif name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:  # weight of a normalization layer
                parameter.fill_(1.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * self.std)


def load(
    model: str,
    outputs: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    head: Head = heads.SEQUENCE,
    quantize: str | None = None,
) -> BaseModel:
    """Load a model with a head.

    Args:
        model: Directory or name on the Hub.
        outputs: Width of the head; 0 for models without a head of their own.
        dtype: Data type of the frozen weights; trained parameters are float32.
        device: Device of the model.
        head: Form of the model.
        quantize: "4bit" to quantize the frozen weights.

    Returns:
        The model, frozen except for its head.

    Raises:
        AutorankError: There is no such model, the Hub cannot be reached, or the model does not support such tasks.
    """
    # transformers initializes the head before `reset` does; this must not change the process's random state
    with hub_access("model", model), quiet(), torch.random.fork_rng(devices=[]):
        config = load_config(model, outputs)
        packed = pretrained_checks.quantized_loading(model, config, device)
        if quantize and pretrained_checks.stored_quantization(config):
            raise AutorankError(f"The weights of model {model!r} are already quantized. Omit --quantize.")
        if quantize:
            packed = {"quantization_config": four_bit(dtype, UNQUANTIZED), "device_map": {"": device}}
        loaded, info = auto_class(head, config).from_pretrained(
            model, config=config, **packed, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True,
            trust_remote_code=trusted(),
        )  # fmt: skip
    names = dict(loaded.named_parameters())
    new = {name for name in info["missing_keys"] if name in names}
    pretrained_checks.refuse_other_sizes(model, loaded.base_model_prefix, info["mismatched_keys"])
    new |= {key[0] for key in info["mismatched_keys"]}
    trained = tuple(name for name in names if name in new or name.split(".")[0] in HEADS)
    pretrained_checks.refuse_missing_layers(model, {name for name in new if names[name].requires_grad})  # not tables
    if head.generates and new:
        raise AutorankError(
            f"Model {model!r} lacks weights that are needed to generate text ({min(new)}). Use a language model with "
            "its output layer, not a backbone."
        )
    placed = loaded if "device_map" in packed else loaded.to(device)
    std = getattr(loaded.config, "initializer_range", 0.02)
    base = BaseModel(placed, frozenset(new), trained, std, replaces_head=bool(info["mismatched_keys"]))
    base.reset(seed=0)
    return base


def meta_model(model: str, outputs: int = 2, head: Head = heads.SEQUENCE) -> nn.Module:
    """Build a model without weights; see `dry_pass`.

    Args:
        model: Directory or name on the Hub.
        outputs: Width of the head; 0 for models without a head of their own.
        head: Form of the model.

    Returns:
        The transformers model.

    Raises:
        AutorankError: There is no such model, the Hub cannot be reached, or the model does not support such tasks.
    """
    with hub_access("model", model):
        config = load_config(model, outputs)
        create = auto_class(head, config).from_config
        return dry_pass.build(lambda: create(config, trust_remote_code=trusted()))


def widen_norms(model: nn.Module) -> None:
    """Convert frozen LayerNorms to float32, in which autocast computes them; it would convert them in every pass."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.float()


def module_of(name: str) -> str:
    """The module of a parameter; in a head the whole head: `bert.pooler` for `bert.pooler.dense.weight`."""
    path = name.split(".")[:-1]
    heads = [i for i, part in enumerate(path) if part in (*HEADS, "pooler")]
    return ".".join(path[: heads[0] + 1] if heads else path)


def headless(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The parameters outside the head, which depend on the checkpoint.

    A pooler, or a part of a classifier whose name is not in `HEADS`, belongs to the head if the checkpoint lacks it.

    Args:
        model: The model, on any device including the meta device.

    Returns:
        The parameters that are outside the head for every checkpoint, and those that are for some, by name.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    most = {name: p for name, p in model.named_parameters() if name.split(".")[0] not in HEADS}
    fewest = {name: p for name, p in most.items() if name.startswith(prefix) and "pooler" not in name.split(".")}
    return fewest, most
