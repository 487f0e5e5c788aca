"""EVA: the principal directions of each layer's inputs initialize A and determine the ranks.

Paischer et al. 2024, "Parameter Efficient Fine-tuning via Explained Variance Adaptation" (arXiv 2410.07170):

  1. The training set passes through the base model. An incremental singular value decomposition of each layer's inputs
     (without padding) runs until its directions no longer change: cosine similarity of at least τ to the previous ones.
  2. The directions of all layers are sorted by the share of their layer's variance that they explain. The best
     rank · L are selected, at most rho · rank in a layer. A layer of rank 0 has no update.
  3. The selected directions are the rows of A; B is zero. All updates are scaled by alpha / rank, where rank is
     the setting.

The decomposition is PEFT's, and the order of operations is that of its `get_eva_state_dict`, except that the number of
steps is limited (`svd_steps`, ours), that all precisions are supported, and that batches with too few tokens count.
With several workers the first one computes the directions for all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import attach
from autorank.modeling.forward.model_call import PREDICTED
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.layers.position_queries import TokenInputs
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from autorank.tasks.data.batches import token_mask
from trainables.cached_tensors import cached
from trainables.configs import LowRankConfig

VERSION = 2  # of the directions; part of the cache's key


class EVAConfig(LowRankConfig):
    """EVA's settings; alpha, rho and tau as in PEFT, which is the authors' implementation."""

    rank: int = Field(8, ge=1, description="rank, averaged over the layers")
    rho: float = Field(2.0, ge=1, description="maximum rank of a layer as a multiple of rank; 1: equal ranks")
    alpha: float = Field(1.0, gt=0, description="every update is scaled by alpha / rank, whatever its own rank is")
    tau: float = Field(0.99, gt=0, le=1, description="cosine similarity at which a direction has converged")
    svd_batch_size: int = Field(16, ge=1, le=64, description="examples per step of the decomposition (ours)")
    svd_steps: int = Field(256, ge=2, description="maximum number of steps of the decomposition (ours)")


class EVA(AllocationMethod[EVAConfig]):
    """LoRA initialized with the principal directions of its inputs, with ranks where these explain most variance."""

    name = "eva"
    summary = "A starts with the inputs' principal directions; ranks go where these explain most variance"
    source = "Paischer et al. 2024, arXiv 2410.07170"
    Config: ClassVar[type[EVAConfig]] = EVAConfig

    @override
    def prepare(self, run: RunContext) -> None:
        settings = self.config.model_dump(include={"rank", "rho", "tau", "svd_batch_size", "svd_steps"})
        key = [list(run.layers), settings, VERSION]
        rows = cached(run, self.name, key, lambda: directions(run, self.config))
        for name, layer in run.layers.items():
            if len(rows[name]):
                B = torch.zeros(features(layer)[1], len(rows[name]), device=run.device)
                A = nn.Parameter(rows[name].clone())
                update = LowRankUpdate(A, nn.Parameter(B), self.config.alpha / self.config.rank)
                attach(run.model, name, update, self.config.dropout)

    @classmethod
    @override
    def adapter_params(cls, config: EVAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if the smallest layers get their maximum rank, and if the largest do."""
        layers = sorted(shapes(model, config.targets).values(), key=sum)
        return _fill(layers, config), _fill(layers[::-1], config)


def max_rank(config: EVAConfig, inputs: int) -> int:
    """Return the maximum number of directions of a layer with `inputs` input features."""
    return min(round(config.rank * config.rho), inputs)


def _fill(layers: Sequence[tuple[int, int]], config: EVAConfig) -> int:
    """Parameters if the first layers get their maximum rank until the budget is used up. layers: (in, out)."""
    budget, total = config.rank * len(layers), 0
    for inputs, outputs in layers:
        amount = min(max_rank(config, inputs), budget)
        total, budget = total + amount * (inputs + outputs), budget - amount
    return total


class Decomposition:
    """The incremental decomposition of a layer's inputs, shared with layers that have the same input.

    Args:
        inputs: Number of input features.
        count: Number of directions.
        tau: Cosine similarity at which a direction has converged.

    Attributes:
        settled: bool, count: directions that the last step did not change.
    """

    def __init__(self, inputs: int, count: int, tau: float) -> None:
        from peft.utils.incremental_pca import IncrementalPCA

        self._lowrank = 2 * count <= inputs
        self._pca: Any = IncrementalPCA(n_components=count, lowrank=self._lowrank, lowrank_seed=42)
        self._count, self._tau = count, tau
        self.settled = torch.zeros(count, dtype=torch.bool)
        self._waiting: list[Tensor] = []  # inputs of batches with too few tokens

    @property
    def begun(self) -> bool:
        """Whether there are directions yet."""
        return hasattr(self._pca, "components_")

    @property
    def directions(self) -> Tensor:
        """The orthonormal directions, float32, count x in."""
        rows: Tensor = self._pca.components_
        return rows.float()

    @property
    def explained(self) -> Tensor:
        """Share of the variance that each direction explains, count."""
        shares: Tensor = self._pca.explained_variance_ratio_
        return shares

    def add(self, x: Tensor) -> None:
        """Continue with inputs x, tokens x in; too few tokens wait for those of the next batch (PEFT ignores them)."""
        self._waiting.append(x)
        if sum(map(len, self._waiting)) < self._count * (2 if self._lowrank else 1):
            return
        x, self._waiting = torch.cat(self._waiting), []
        before = self.directions.clone() if self.begun else None
        with torch.autocast(x.device.type, enabled=False):
            self._pca.partial_fit(x.float())
        if before is not None:
            self.settled = (torch.cosine_similarity(self.directions, before) >= self._tau).cpu()


def directions(run: RunContext, config: EVAConfig) -> dict[str, Tensor]:
    """Compute the rows of each layer's A.

    Args:
        run: The run.
        config: The method's settings.

    Returns:
        Layer name -> rank x in; the mean rank is `config.rank`.

    Raises:
        AutorankError: The batches have too few tokens.
    """
    source = same_inputs(run, config)
    decompositions = {
        name: Decomposition(features(run.layers[name])[0], max_rank(config, features(run.layers[name])[0]), config.tau)
        for name in dict.fromkeys(source.values())
    }
    ranks = {name: max_rank(config, features(layer)[0]) for name, layer in run.layers.items()}
    for examples in islice(batches(run, config), config.svd_steps):
        unfinished = {name for name in decompositions if not decompositions[name].settled[: ranks[name]].all()}
        if not unfinished:
            break
        pass_through(run, examples, {name: decompositions[name].add for name in unfinished})
        if all(decomposition.begun for decomposition in decompositions.values()):
            shares = {name: decompositions[source[name]].explained for name in run.layers}
            ranks = distribute(shares, config.rank * len(run.layers))
    if absent := [name for name, decomposition in decompositions.items() if not decomposition.begun]:
        raise AutorankError(
            f"eva cannot compute {round(config.rank * config.rho)} directions for {absent[0]}: batches of "
            f"{config.svd_batch_size} examples have too few tokens there. Raise svd_batch_size, or lower rank or rho."
        )
    return {name: decompositions[source[name]].directions[:rank].clone() for name, rank in ranks.items()}


def distribute(shares: dict[str, Tensor], budget: int) -> dict[str, int]:
    """Return how many of the `budget` best directions belong to each layer; ties go to the earlier layer."""
    owners = [name for name, values in shares.items() for _ in values]
    order = torch.cat(list(shares.values())).sort(descending=True, stable=True).indices
    ranks = dict.fromkeys(shares, 0)
    for i in order[:budget].tolist():
        ranks[owners[i]] += 1
    return ranks


def batches(run: RunContext, config: EVAConfig) -> Iterator[np.ndarray]:
    """Yield batches of example indices: the training set in random order, repeated without end."""
    order = np.random.default_rng(run.seed).permutation(len(run.labels))
    while True:
        for start in range(0, len(order), config.svd_batch_size):
            yield order[start : start + config.svd_batch_size]


def same_inputs(run: RunContext, config: EVAConfig) -> dict[str, str]:
    """Return layer -> first layer with the same input (such as query, key and value), which share a decomposition."""
    first_inputs: dict[str, Tensor] = {}
    source: dict[str, str] = {}

    def see(name: str, x: Tensor) -> None:
        if name in source:  # a layer that is called several times in a forward pass
            return
        source[name] = next((other for other, before in first_inputs.items() if _equal(before, x)), name)
        if source[name] == name:
            first_inputs[name] = x

    pass_through(run, next(batches(run, config)), {name: partial(see, name) for name in run.layers})
    return {name: source.get(name, name) for name in run.layers}  # an expert may have no token


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def pass_through(run: RunContext, examples: np.ndarray, see: Mapping[str, Callable[[Tensor], None]]) -> None:
    """Pass examples through the base model and collect each layer's input.

    Of text-to-text examples only the tokens of completions count, as in PEFT. If the examples are split into several
    batches to save memory, the inputs of all batches are concatenated.

    Args:
        run: The run.
        examples: Indices of the examples.
        see: Layer name -> function that receives the layer's input, tokens x in, without padding where the layer's
            input has a sequence dimension; once for each time that the layer is called in a forward pass.
    """
    passing: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()
    parts: defaultdict[tuple[str, int], list[Tensor]] = defaultdict(list)  # of a layer and the number of its call
    token_inputs = TokenInputs(run.model)
    passed = 0

    def before(batch: dict[str, Tensor]) -> None:
        nonlocal passing, passed
        passing = dict(batch)
        if PREDICTED in batch and "decoder_input_ids" not in batch:
            completions = torch.zeros_like(batch["attention_mask"]).flatten()
            completions[batch[PREDICTED] + 1] = 1
            passing["attention_mask"] = completions.view_as(batch["attention_mask"])
        passed += len(batch["input_ids"])
        calls.clear()
        token_inputs.begin()

    def watch(name: str, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if not token_inputs.next_is_tokens(name):
            return
        x = inputs[0].detach()
        x = x[token_mask(passing, x.shape[:-1]).bool()]
        earlier = parts[name, calls[name]]
        calls[name] += 1
        if passed < len(examples):
            earlier.append(x.cpu())
        else:
            see[name](torch.cat([*(part.to(x.device) for part in earlier), x]) if earlier else x)

    with ExitStack() as hooks:
        for name in see:
            hooks.enter_context(run.layers[name].register_forward_pre_hook(partial(watch, name)))
        run.observe(examples, before)
