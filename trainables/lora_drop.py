"""LoRA-drop: layers whose LoRA output is large keep their own LoRA, the others of their kind share one.

Zhou et al. 2024, "LoRA-drop: Efficient LoRA Parameter Pruning based on Output Evaluation" (arXiv 2402.07721,
COLING 2025). There is no published code; where the paper is silent, what is done here is ours and says so.

  1. Probe: LoRA on every layer is trained on a stratified tenth of the training set for three epochs.
  2. Importance of layer i among the layers of its kind (query, value, ...): I_i = g_i / Σ_j g_j with
     g_i = Σ ‖ΔW_i x‖² over the probe's examples (eq. 2 and 3), summed over all tokens but padding (ours), in
     evaluation mode after the last epoch (ours). Scale and batch size cancel in I.
  3. Layers are kept from the most important down until their I sums to the threshold; the one that reaches it is kept.
  4. The task is trained with all data: kept layers have their own LoRA, the others of a kind share one. Head and
     updates start anew, from the run's seed (ours; `start: warm` goes on from the probe's values for kept layers).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach, detach_all
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, kind, shapes
from autorank.run_context import RunContext
from autorank.tasks.data.batches import token_mask
from autorank.tasks.data.stratified import stratified
from trainables.cached_tensors import save
from trainables.lora import UniformConfig, new_update


class LoRADropConfig(UniformConfig):
    """LoRA-drop's settings; LoRA's are among them."""

    threshold: float = Field(0.9, gt=0, le=1, description="importance that the kept layers of a kind reach together")
    probe_ratio: float = Field(0.1, gt=0, le=1, description="part of the training set that the probe sees")
    probe_epochs: int = Field(3, ge=1, description="epochs of the probe")
    tokens: Literal["all", "first"] = Field("all", description="tokens whose output counts as importance (ours)")
    start: Literal["fresh", "warm"] = Field("fresh", description="kept updates start anew, or from the probe (ours)")
    ablation: Literal["none", "no-sharing", "inverse", "random", "top-k"] = Field(
        "none",
        description="table 5: the others get no LoRA; as many of the least important, of any, or of the layers "
        "nearest the output are kept",
    )


class LoRADrop(AllocationMethod[LoRADropConfig]):
    """LoRA for the layers whose output matters, one shared LoRA a kind for the rest."""

    name = "lora-drop"
    summary = "Layers with large LoRA output keep their own LoRA, the rest share one"
    source = "Zhou et al. 2024, arXiv 2402.07721"
    Config: ClassVar[type[LoRADropConfig]] = LoRADropConfig

    def prepare(self, run: RunContext) -> None:
        importance, probed = self._probe(run)
        generator = np.random.default_rng(run.seed)
        for members in groups({name: features(layer) for name, layer in run.layers.items()}).values():
            kept = self._choose(members, importance, generator)
            self._attach(run, members, kept, probed)

    def _choose(self, members: list[str], importance: dict[str, float], generator: np.random.Generator) -> set[str]:
        kept = select([importance[name] for name in members], self.config.threshold)
        match self.config.ablation:
            case "inverse":
                kept = select([importance[name] for name in members], self.config.threshold, least=True)
            case "random":
                kept = [int(i) for i in generator.choice(len(members), len(kept), replace=False)]
            case "top-k":
                kept = list(range(len(members) - len(kept), len(members)))
        return {members[i] for i in kept}

    def _attach(self, run: RunContext, members: list[str], kept: set[str], probed: dict[str, Tensor]) -> None:
        """Own updates for `kept`, one for the other members, none for them in the ablation without sharing."""
        shared: LowRankUpdate | None = None
        for name in members:
            if name in kept:
                update = self._new(run, name)
                if self.config.start == "warm":
                    update.A.data.copy_(probed[f"{name}.A"])
                    update.B.data.copy_(probed[f"{name}.B"])
            elif self.config.ablation == "no-sharing":
                continue
            else:
                shared = update = shared or self._new(run, name)
            attach(run.model, name, update, self.config.dropout)

    def _new(self, run: RunContext, name: str) -> LowRankUpdate:
        return new_update(features(run.layers[name]), self.config.rank, self.config.alpha, run)

    def _probe(self, run: RunContext) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Importance by layer and the probe's factors; from the cache where a run with the same probe left them.

        The run goes on as if there had been no probe: same head, same random numbers, whether it was cached or not.
        """
        from safetensors.torch import load_file

        file = run.cache / f"lora-drop-{self._probe_key(run)}.safetensors"
        # what the first worker finds, or else what it has made of the probe that all of them train
        values = run.once(lambda: load_file(file, device=str(run.device)) if file.exists() else {})
        if not values:
            trained = self._train_probe(run)
            values = run.once(lambda: trained)
            save(values, file)
        run.generator.manual_seed(run.seed)
        return dict(zip(run.layers, values.pop("importance").tolist(), strict=True)), values

    def _probe_key(self, run: RunContext) -> str:
        """Names all that the probe depends on, and nothing else: not the threshold, not the ablation."""
        settings = self.config.model_dump(exclude={"threshold", "ablation"})
        return hashlib.sha256(json.dumps([run.key, run.seed, settings], sort_keys=True).encode()).hexdigest()[:32]

    def _train_probe(self, run: RunContext) -> dict[str, Tensor]:
        for name in run.layers:
            attach(run.model, name, self._new(run, name), self.config.dropout)
        sample = stratified(run.labels, self.config.probe_ratio, run.seed)
        run.train_on(sample, self.config.probe_epochs)
        squares = output_squares(run, sample, self.config.tokens)
        if not all(math.isfinite(total) for total in squares.values()):
            raise AutorankError(
                f"LoRA-drop's probe diverged. Use a lower learning_rate (now {self.config.learning_rate:g})."
            )
        values = {"importance": torch.tensor([squares[name] for name in run.layers], dtype=torch.float64)}
        if self.config.start == "warm":
            for name, layer in adapted(run.model).items():
                values |= {f"{name}.A": layer.update.A.detach().clone(), f"{name}.B": layer.update.B.detach().clone()}
        detach_all(run.model)
        run.base.draw_head(run.seed)
        return values

    @classmethod
    def adapter_params(cls, config: LoRADropConfig, model: nn.Module) -> tuple[int, int]:
        """Between one kept layer a kind and ⌈T·L⌉ of its L layers, which is needed when all matter alike."""
        fewest = most = 0
        for (_, shape), members in groups(shapes(model, config.targets)).items():
            layers, size = len(members), config.rank * sum(shape)
            shared = 0 if config.ablation == "no-sharing" else 1
            high = math.ceil(config.threshold * layers - 1e-9)
            low = layers if config.threshold >= 1 else 1
            fewest += size * min(layers, low + shared)
            most += size * min(layers, high + shared)
        return fewest, most


def groups(layers: Mapping[str, tuple[int, int]]) -> dict[tuple[str, tuple[int, int]], list[str]]:
    """Layers that can share an update: those of one kind and shape, in the model's order."""
    found: dict[tuple[str, tuple[int, int]], list[str]] = defaultdict(list)
    for name, shape in layers.items():
        found[kind(name), shape].append(name)
    return found


def select(squares: Sequence[float], threshold: float, least: bool = False) -> list[int]:
    """Indices of the layers kept: the most important until they reach `threshold` of the sum, that one included.

    A tie goes to the earlier layer. With `least`, as many of the least important (the paper's ablation "inv").
    """
    order = sorted(range(len(squares)), key=lambda i: -squares[i])
    reached = np.cumsum([squares[i] for i in order])
    total = reached[-1]
    if threshold >= 1 or total <= 0:
        count = len(order)
    else:
        count = int(np.searchsorted(reached, threshold * total * (1 - 1e-12))) + 1
    return sorted(order[-count:] if least else order[:count])


def output_squares(run: RunContext, examples: np.ndarray, tokens: Literal["all", "first"]) -> dict[str, float]:
    """g of eq. 2: layer name -> Σ ‖ΔW x‖² over the examples' tokens, padding left out."""
    sums = {name: torch.zeros((), dtype=torch.float64) for name in adapted(run.model)}
    seen: dict[str, Tensor] = {}

    def before(batch: dict[str, Tensor]) -> None:
        seen.update(batch)

    def add(name: str) -> object:
        def hook(update: nn.Module, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
            assert isinstance(update, LowRankUpdate)
            squares = update.output(inputs[0]).float().square().sum(-1)  # batch x seq
            mask = token_mask(seen, squares)
            if tokens == "first":
                mask = torch.zeros_like(mask).scatter_(1, mask.argmax(dim=1, keepdim=True), 1)
            sums[name] += (squares * mask).sum(dtype=torch.float64).cpu()

        return hook

    handles = [layer.update.register_forward_hook(add(name)) for name, layer in adapted(run.model).items()]  # type: ignore[arg-type]
    try:
        run.observe(examples, before)
    finally:
        for handle in handles:
            handle.remove()
    return {name: float(total) for name, total in sums.items()}
