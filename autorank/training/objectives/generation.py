"""Text to text: the loss of completions, their likelihood, and greedy generation scored against references."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import takewhile
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.modeling.forward.greedy_decoding import complete, generating, greedy
from autorank.tasks.data.batches import collate, eval_batches
from autorank.tasks.data.pairs import EncodedPairs, Pairs
from autorank.tasks.definition import TaskData
from autorank.tasks.metrics import text as text_metrics
from autorank.tasks.metrics.outcomes import Outcomes, Scores
from autorank.tasks.splits.tokenized import Split
from autorank.tasks.tokenization import shuffled
from autorank.training.objectives.base import Objective, Predictor

DECODING = 8  # a generated token costs as much as 8 tokens of a prompt, which pass through the model together (ours)
EVAL_BATCH = 32  # examples in a batch of a forward pass, fewer if memory runs out; in float32 results are equal
FORWARD_TOKENS = 4096  # tokens in a batch of a forward pass: logits of large vocabularies need much memory (ours)
COMPLETED = 200  # prompts that are completed if generated texts are not the score, since generation is slow (ours)


class GenerationObjective(Objective):
    """Cross-entropy of the completions' tokens; scored by it, or by greedy generation.

    Args:
        data: The task with its tokenized splits and the tokenizer.
    """

    outputs_suffice: ClassVar[bool] = False  # logits of a vocabulary, or generated texts

    def __init__(self, data: TaskData) -> None:
        super().__init__(data)
        self.tokenizer, self.pad_id = data.tokenizer, data.pad_id
        self.encoder_decoder = isinstance(data.train, EncodedPairs)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Compute the mean cross-entropy over the tokens of completions.

        Args:
            outputs: What `model_call.call` returned; logits of the predicted tokens: `1 x tokens x vocabulary`.
            labels: Token ids, `tokens`.

        Returns:
            A scalar in float32.
        """
        return F.cross_entropy(outputs.logits[0].float(), labels)

    @property
    def _text_metrics(self) -> list[str]:
        """The metrics of generated texts."""
        return [name for name in self.task.metrics if name not in text_metrics.FORWARD]

    def evaluation_cost(self, splits: Mapping[str, Split]) -> float:
        """Return what an evaluation costs, as if every generated completion were as long as the longest reference.

        Args:
            splits: The splits to evaluate, by name.

        Returns:
            Tokens of a forward pass.
        """
        if not self._text_metrics:
            return self.forward_cost(splits)
        prompts = self._prompts(splits)
        generated = sum(map(len, prompts.values())) * _max_new_tokens(splits)
        return self.forward_cost(prompts) + DECODING * generated

    def evaluate(self, predictor: Predictor, splits: Mapping[str, Split]) -> Scores:
        """Score the tokens of the completions, or generate completions and score these, or both.

        Args:
            predictor: The model.
            splits: The splits to evaluate, by name; each a `Pairs`.

        Returns:
            The task's metrics (see `tasks.metrics.text`); all NaN if there is a NaN among the logits (a diverged run).
        """
        metrics: dict[str, float] = {}
        outcomes = []
        if len(self._text_metrics) < len(self.task.metrics):
            forward = self._forward(predictor, splits)
            metrics |= forward
            outcomes.append(forward.outcomes)
        if self._text_metrics:
            texts = self._score_texts(predictor, splits)
            metrics |= texts
            outcomes.append(texts.outcomes)
        if any(map(math.isnan, metrics.values())):
            return Scores(dict.fromkeys(self.task.metrics, math.nan))
        return Scores({name: metrics[name] for name in self.task.metrics}, outcomes[0])

    @torch.no_grad()
    def _forward(self, predictor: Predictor, splits: Mapping[str, Split]) -> Scores:
        """`likelihood`: exp(-mean loss); `token_accuracy`: the share of the most likely tokens; of all completions."""
        parts = []
        for split in splits.values():
            sums = np.zeros((len(split), 3))  # loss, right, tokens
            size = max(1, min(EVAL_BATCH, FORWARD_TOKENS // int(split.lengths.max())))
            batches = eval_batches(split.lengths, size)
            for examples, sums_of_batch in predictor.read(split, batches, partial(self._sums, split)):
                sums[examples] = sums_of_batch
            _, prompts = np.unique(split.labels, return_inverse=True)
            columns = [np.bincount(prompts, weights=column) for column in sums.T]
            parts.append(np.stack(columns, axis=1))  # prompts x 3
        terms = np.concatenate(parts)
        loss, correct, tokens = map(float, terms.sum(axis=0))
        metrics = {"likelihood": math.exp(-loss / tokens), "token_accuracy": correct / tokens}
        by_loss = self.task.metrics[0] == "likelihood"
        formula, values = ("likelihood", terms[:, :1]) if by_loss else ("ratio", terms[:, 1:2].astype(int))
        return Scores(metrics, Outcomes(formula, values, terms[:, 2:].astype(int), tuple(map(len, parts))))

    def _sums(self, split: Split, examples: np.ndarray, outputs: Any) -> np.ndarray:
        """Loss, number of right tokens and number of tokens of each example, `batch x 3`."""
        batch = collate(split, examples, self.pad_id)
        width = batch.get("decoder_input_ids", batch["input_ids"]).shape[1]
        logits = outputs.logits[0].float()
        targets = batch["labels"].to(logits.device)
        losses = F.cross_entropy(logits, targets, reduction="none")
        right = (logits.argmax(dim=-1) == targets).to(losses)
        per_token = torch.stack([losses, right, torch.ones_like(losses)], dim=1).cpu().double()
        rows = batch["predicted"] // width
        sums: np.ndarray = torch.zeros(len(examples), 3, dtype=torch.float64).index_add_(0, rows, per_token).numpy()
        return sums

    def _score_texts(self, predictor: Predictor, splits: Mapping[str, Split]) -> Scores:
        """Complete each prompt, with at most as many tokens as the longest reference has, and score the texts."""
        texts: list[str] = []
        references: list[Any] = []
        prompts = self._prompts(splits)
        for split in prompts.values():
            completions = self.write(predictor, split, _max_new_tokens(splits))
            if completions is None:
                return Scores(dict.fromkeys(self._text_metrics, math.nan))
            texts += completions
            references += split.references or ()
        own_metric = self.task.own_metric
        if own_metric is not None:
            answers = [list(map(text_metrics.answer, targets)) for targets in references]
            scores = own_metric.scores_of_texts(list(map(text_metrics.answer, texts)), answers)
            other_metrics = [name for name in self._text_metrics if name not in scores]
            return Scores(scores | text_metrics.compute(other_metrics, texts, references))
        sizes = tuple(map(len, prompts.values()))
        return Scores(
            text_metrics.compute(self._text_metrics, texts, references),
            text_metrics.outcomes(self._text_metrics[0], texts, references, sizes),
        )

    def _prompts(self, splits: Mapping[str, Split]) -> dict[str, Pairs]:
        """The prompts to complete, each once; a part of them if the score needs no texts."""
        prompts = {name: cast(Pairs, split).grouped() for name, split in splits.items()}
        if self.task.metrics[0] in self._text_metrics:
            return prompts
        return {name: split.take(shuffled(len(split), COMPLETED)) for name, split in prompts.items()}

    @torch.no_grad()
    def write(
        self, predictor: Predictor, split: Pairs, max_new_tokens: int, batch_size: int | None = None
    ) -> list[str] | None:
        """Generate a completion for each prompt.

        Prompts of decoder-only models are padded on the left, so that all completions start at the same position.
        The workers of a run share the batches.

        Args:
            predictor: The model.
            split: The prompts.
            max_new_tokens: Most tokens of a completion.
            batch_size: Prompts in a batch; None: see `decoding_batch`. In float32 texts do not depend on it.

        Returns:
            The texts in the split's order; None if there is a NaN among the logits.
        """
        model: Any = predictor.model
        model.eval()
        nan_detector = NaNDetector()
        start = int(split.target_ids[0]) if self.encoder_decoder else None
        config = greedy(self.data.ends, self.pad_id, start, max_new_tokens)

        def generate(examples: np.ndarray) -> tuple[list[list[int]], bool]:
            prompts = split.prompts(examples, self.pad_id)
            batch = {name: values.to(predictor.device) for name, values in prompts.items()}
            ids = complete(model, batch, self.data.ends, max_new_tokens, nan_detector)
            return ids, nan_detector.detected

        lengths = split.prompt_lengths
        tokens = int(lengths.max()) + max_new_tokens
        batches = eval_batches(lengths, batch_size or predictor.decoding_batch(tokens))
        with generating(model, config), predictor.autocast(), predictor.prepared():
            results = predictor.share(batches, generate)
        if any(any_nan for _, (_, any_nan) in results):
            return None
        texts = [""] * len(split)
        for examples, (completions, _) in results:
            for example, ids in zip(examples, completions, strict=True):
                texts[example] = self._text(ids)
        return texts

    def _text(self, ids: list[int]) -> str:
        """The text up to the first end token."""
        ids = list(takewhile(lambda token: token not in self.data.ends, ids))
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()


def _max_new_tokens(splits: Mapping[str, Split]) -> int:
    """Tokens of the longest reference."""
    return max(int(cast(Pairs, split).target_lengths.max()) for split in splits.values())


class NaNDetector:
    """A logits processor that changes nothing and remembers whether any logit was NaN."""

    def __init__(self) -> None:
        self._any_nan: Tensor | None = None

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Look for NaN without waiting for the GPU.

        Args:
            ids: The tokens so far, `batch x seq`.
            scores: Logits of the next token, `batch x vocabulary`.

        Returns:
            `scores`, unchanged.
        """
        any_nan = scores.isnan().any()
        self._any_nan = any_nan if self._any_nan is None else self._any_nan | any_nan
        return scores

    @property
    def detected(self) -> bool:
        """Whether any logit was NaN."""
        return self._any_nan is not None and bool(self._any_nan)
