"""Compares our methods with their authors' code in training: a table of the largest differences.

    python -m benchmarks.authors.fidelity --authors DIR                # a random BERT and DeBERTa-v2 of three layers
    python -m benchmarks.authors.fidelity --authors DIR --model DIR    # an encoder of your own instead

DIR contains clones of github.com/FeiyuZhang98/IncreLoRA, QingruZhang/AdaLoRA and hhnqqq/MyTransformers (GoRA), or some
of them, as DIR/IncreLoRA, DIR/AdaLoRA and DIR/MyTransformers. Nothing is downloaded. Both implementations have the same
model, examples, initial values and random draws; fp32, no dropout.

Columns: largest difference of the losses, before and after the ranks are final; largest difference of the smoothed
importance, relative to the largest importance (IncreLoRA); the first step after which ranks differ, and the number of
ranks that differ at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autorank.methods import configure
from autorank.modeling import adapters, base_model, target_modules
from autorank.modeling.base_model import BaseModel
from autorank.run_context import RunContext
from autorank.tasks import TASKS
from autorank.tasks.data.batches import collate
from autorank.tasks.definition import TaskData
from autorank.tasks.splits.tokenized import Split
from autorank.training.objectives.labels import ClassificationObjective
from autorank.training.optimization.hooks import MethodHooks
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.optimization.plan import Plan
from benchmarks.authors.code_loader import authors_gora_ranks
from benchmarks.authors.training import AuthorsAdaLoRA, AuthorsIncreLoRA, Setup
from trainables.gora import GoRAConfig, ranks
from trainables.svd_updates import draw

STEPS, WARMUP, PEAK = 80, 8, 2e-3
COMMON: dict[str, Any] = {
    "targets": "all-linear", "learning_rate": PEAK, "alpha": 32.0, "orthogonality": 0.1, "beta1": 0.85, "beta2": 0.85,
}  # fmt: skip
INCRELORA = COMMON | {
    "mean_rank": 3, "components": 1, "interval": 6, "score_window": "all", "schedule": "restart",
    "advance_learning": True, "published": True,
}  # fmt: skip
ADALORA = COMMON | {"mean_rank": 2, "start_ratio": 1.5, "initial": 0.1, "final": 0.3, "interval": 2, "published": True}
NO_RESTART, NO_ADVANCE, NO_PENALTY = {"schedule": "constant"}, {"advance_learning": False}, {"orthogonality": 0.0}
CASES: list[tuple[str, str, dict[str, Any]]] = [  # method, title, changed settings
    ("increlora", "published", {}),
    ("increlora", "published, table 2: --- (none)", NO_PENALTY | NO_ADVANCE | NO_RESTART),
    ("increlora", "published, table 2: -A-", NO_PENALTY | NO_RESTART),
    ("increlora", "published, table 2: O--", NO_ADVANCE | NO_RESTART),
    ("increlora", "published, table 2: OA-", NO_RESTART),
    ("increlora", "published, table 2: O-R", NO_ADVANCE),
    ("increlora", "our defaults", {"published": False, "score_window": None}),
    ("adalora", "published", {}),
    ("adalora", "published, interval 3", {"interval": 3}),
    ("adalora", "our defaults", {"published": False}),
]
RANDOM = ("BERT", "DeBERTa-v2")
REPOSITORIES = {"increlora": "IncreLoRA", "adalora": "AdaLoRA"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, required=True, help="directory with the authors' repositories")
    parser.add_argument("--model", type=Path, help="directory of a pretrained encoder; default: two random models")
    arguments = parser.parse_args()
    authors, models = arguments.authors, (str(arguments.model),) if arguments.model else RANDOM
    if not any((authors / name).is_dir() for name in (*REPOSITORIES.values(), "MyTransformers")):
        parser.error(f"{authors} has none of IncreLoRA, AdaLoRA and MyTransformers; clone them there")
    torch.set_num_threads(1)
    print("| method | model | settings | losses before | after | importance | ranks differ from step | at the end |")
    print("|---|---|---|---|---|---|---|---|")
    for method, title, settings in CASES:
        repository = authors / REPOSITORIES[method]
        for model in models if repository.is_dir() else ():
            cells = compare(method, model, settings, repository)
            print(f"| {method} | {Path(model).name} | {title} | {cells} |", flush=True)
    if (authors / "MyTransformers").is_dir():
        print(f"| gora | | ranks from 200 sets of random gradients | {compare_gora(authors / 'MyTransformers')} |")


def compare(method: str, model: str, changes: dict[str, Any], repository: Path) -> str:
    """Train both implementations; returns the cells of a row."""
    settings = (INCRELORA if method == "increlora" else ADALORA) | changes
    if method == "increlora":
        settings["top_h"] = len(target_modules.find(load(model).model, "all-linear")) // 4
    our_training = OurTraining(method, model, settings)
    setup = Setup(our_training.starts, our_training.replay_draws(), settings, STEPS, WARMUP, PEAK)
    authors_training: Any = (AuthorsIncreLoRA if method == "increlora" else AuthorsAdaLoRA)(
        repository, load(model).model, setup
    )
    final = STEPS - int(settings.get("final", 0) * STEPS)
    losses, importance, first_difference, count = [0.0, 0.0], 0.0, None, 0
    for number in range(STEPS):
        batch = our_training.batch(number)
        ranks_final = (
            sum(our_training.ranks) == 3 * len(our_training.ranks) if method == "increlora" else number > final
        )
        loss = authors_training.step(number, batch)
        losses[ranks_final] = max(losses[ranks_final], abs(loss - our_training.step(number)))
        if method == "increlora" and not ranks_final:
            smoothed, expected = our_training.method.state_dict()["smoothed"], authors_training.scores[0]
            if expected.max() > 0:
                importance = max(importance, float((smoothed - expected).abs().max() / expected.max()))
        falling = settings.get("initial", 0) * STEPS < number < final and number % settings["interval"] == 0
        if method == "increlora" or falling or number > final:  # AdaLoRA's code sets e to zero only in these steps
            count = sum(a != b for a, b in zip(our_training.ranks, authors_training.ranks, strict=True))
            first_difference = number if count and first_difference is None else first_difference
    importance_cell = f"{importance:.0e}" if method == "increlora" else ""
    first_step = "never" if first_difference is None else first_difference
    return (
        f"{losses[0]:.0e} | {losses[1]:.0e} | {importance_cell} | {first_step} | {count} of {len(our_training.ranks)}"
    )


class OurTraining:
    """A method in our training loop.

    Attributes:
        method: The method.
        starts: Layer name -> initial A and B.
    """

    def __init__(self, method: str, model: str, settings: dict[str, Any]) -> None:
        base, split = load(model), examples()
        plan = Plan(
            learning_rate=PEAK, batch_size=16, accumulate=1, epochs=1, steps=STEPS, warmup_ratio=WARMUP / STEPS,
            weight_decay=0.0, max_grad_norm=1.0, precision="fp32", seed=0,
        )  # fmt: skip
        objective = ClassificationObjective(TaskData(TASKS["mrpc"], split, {}, digest="", pad_id=0))
        device = torch.device("cpu")
        self._loop = OptimizationLoop(base.model, split, np.arange(len(split)), 0, objective, plan, device)
        self._model = base.model
        self._run = RunContext(
            base=base, layers=target_modules.find(base.model, "all-linear"), seed=0, device=device, key="",
            cache=Path(), generator=torch.Generator().manual_seed(0), labels=split.labels, weights=split.weights,
            total_steps=STEPS, warmup_steps=self._loop.warmup_steps, train_on=unused, observe=unused, gradients=unused,
            optimizer=self._loop.optimizer,
        )  # fmt: skip
        self.method = configure(method, settings)
        self.method.prepare(self._run)
        self._loop.train_rest()
        self._hooks = MethodHooks(self.method, self._run)
        layers = adapters.adapted(self._model)
        self.starts = {n: (x.update.A.detach().clone(), x.update.B.detach().clone()) for n, x in layers.items()}

    def replay_draws(self) -> Any:
        """Return a function that repeats the random draws that our method makes from now on."""
        generator = torch.Generator()
        generator.set_state(self._run.generator.get_state())
        context = RunContext(**{**vars(self._run), "generator": generator})
        return lambda rank, inner, outer: draw((inner, outer), rank, context)

    def batch(self, number: int) -> dict[str, Tensor]:
        return collate(self._loop.split, self._loop.batch(number), 0)

    def step(self, number: int) -> float:
        self._run.step = number
        return float(self._loop.step(number, self._hooks))

    @property
    def ranks(self) -> list[int]:
        return list(adapters.ranks(self._model).values())


def unused(*_: Any) -> Any:
    raise NotImplementedError("these methods do nothing before training")


def examples(count: int = 96, length: int = 12) -> Split:
    """Examples of random tokens, labeled by the parity of the first token."""
    ids = np.random.default_rng(0).integers(5, 60, count * length).astype(np.int32)
    return Split(ids, None, np.arange(0, count * length + 1, length), ids[::length].astype(np.int64) % 2)


def load(model: str) -> BaseModel:
    """Load an encoder from a directory, or create a random one with weights so large that attention has an effect."""
    import transformers as t

    if model not in RANDOM:
        base = base_model.load(model, outputs=2)
        for module in base.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        base.reset(seed=0)
        return base
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 64,
        "max_position_embeddings": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.16, "pooler_dropout": 0.0, "cls_dropout": 0.0,
    }  # fmt: skip
    torch.manual_seed(0)
    if model == "BERT":
        encoder: Any = t.BertForSequenceClassification(t.BertConfig(**sizes))
    else:
        positions = {"relative_attention": True, "share_att_key": True, "pos_att_type": ["p2c", "c2p"]}
        encoder = t.DebertaV2ForSequenceClassification(t.DebertaV2Config(**sizes, **positions))
    head = tuple(name for name, _ in encoder.named_parameters() if name.startswith(("classifier.", "pooler.")))
    base = BaseModel(encoder, frozenset(head), head, 0.02)
    base.reset(seed=0)
    return base


def layer_sets(count: int) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Yield random weights and gradients of 16 layers with different sizes and scales, by layer name."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        scales = torch.rand(16, generator=generator) + 0.05
        shapes = [(48, 48), (96, 48), (48, 96), (64, 32)] * 4
        tensors = [(torch.randn(*s, generator=generator), torch.randn(*s, generator=generator)) for s in shapes]
        yield {f"layer{i}": (W, G * scale) for i, ((W, G), scale) in enumerate(zip(tensors, scales, strict=True))}


def compare_gora(repository: Path) -> str:
    """Compare GoRA's ranks; returns the cells of a row."""
    differ = total = 0
    for layers in layer_sets(200):
        importance = {name: (W * G).abs().mean().item() for name, (W, G) in layers.items()}
        sizes = {name: (W.shape[1], W.shape[0]) for name, (W, _) in layers.items()}
        our_ranks, authors_ranks = (
            ranks(importance, sizes, GoRAConfig(reference_rank=8)),
            authors_gora_ranks(repository, layers, 8),
        )
        differ, total = differ + sum(our_ranks[name] != authors_ranks[name] for name in layers), total + len(layers)
    return f" | | | | {differ} of {total}"


if __name__ == "__main__":
    main()
