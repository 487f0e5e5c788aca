"""Text to text: the loss of completions, and greedy generation scored against references."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.modeling.greedy_decoding import generating, greedy
from autorank.tasks.data.batches import eval_batches
from autorank.tasks.data.pairs import IGNORED, EncodedPairs, Pairs
from autorank.tasks.definition import Split, TaskData
from autorank.tasks.metrics import text as text_metrics
from autorank.training.objectives.base import Objective, Predictor

DECODING = 8  # a generated token costs as much as 8 tokens of a prompt, which pass through the model together (ours)
EVAL_BATCH = 32  # prompts in an evaluation batch, fewer if memory runs out; in float32 results do not depend on it


class Generation(Objective):
    """Cross-entropy of the completions' tokens; scored by greedy generation.

    Args:
        data: The task with its tokenized splits and the tokenizer.
    """

    def __init__(self, data: TaskData) -> None:
        super().__init__(data)
        self.tokenizer, self.pad_id = data.tokenizer, data.pad_id
        self.encoder_decoder = isinstance(data.train, EncodedPairs)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Compute the mean cross-entropy over the tokens of completions.

        A decoder-only model's logits predict the next token. Only the logits of completions' tokens are converted to
        float32.

        Args:
            outputs: What the model returned; logits: `batch x seq x vocabulary`.
            labels: Token ids, `IGNORED` on prompts and padding, `batch x seq`.

        Returns:
            A scalar in float32.
        """
        logits = outputs.logits
        if not self.encoder_decoder:
            logits, labels = logits[:, :-1], labels[:, 1:]
        predicted = labels != IGNORED
        return F.cross_entropy(logits[predicted].float(), labels[predicted])

    def evaluation_cost(self, splits: Mapping[str, Split]) -> float:
        """Return what an evaluation costs if every completion is as long as the longest reference.

        Args:
            splits: The splits to evaluate, by name.

        Returns:
            Tokens of a forward pass.
        """
        generated = sum(map(len, splits.values())) * _max_new_tokens(splits)
        return self.forward_cost(splits) + DECODING * generated

    def evaluate(self, predictor: Predictor, splits: Mapping[str, Split]) -> dict[str, float]:
        """Generate a completion for every prompt and score the completions.

        Completions have at most as many tokens as the longest reference.

        Args:
            predictor: The model.
            splits: The splits to evaluate, by name; each a `Pairs`, grouped by prompt.

        Returns:
            The task's metrics (see `tasks.metrics.text`); all NaN if there is a NaN among the logits (a diverged run).
        """
        pairs = [cast(Pairs, split) for split in splits.values()]
        max_new_tokens = _max_new_tokens(splits)
        texts: list[str] = []
        for split in pairs:
            completions = self.write(predictor, split, max_new_tokens)
            if completions is None:
                return dict.fromkeys(self.task.metrics, math.nan)
            texts += completions
        references = [reference for split in pairs for reference in split.references or ()]
        return text_metrics.compute(self.task.metrics, texts, references)

    @torch.no_grad()
    def write(
        self, predictor: Predictor, split: Pairs, max_new_tokens: int, batch_size: int = EVAL_BATCH
    ) -> list[str] | None:
        """Generate a completion for each prompt.

        Prompts of decoder-only models are padded on the left, so that all completions start at the same position.

        Args:
            predictor: The model.
            split: The prompts.
            max_new_tokens: Most tokens of a completion.
            batch_size: Prompts in a batch.

        Returns:
            The texts in the split's order; None if there is a NaN among the logits.
        """
        from transformers import LogitsProcessorList

        model: Any = predictor.model
        model.eval()
        nan_detector = NaNDetector()
        texts = [""] * len(split)
        start = int(split.target_ids[0]) if self.encoder_decoder else None
        config = greedy(self.tokenizer.eos_token_id, self.pad_id, start, max_new_tokens)

        def generate(examples: np.ndarray) -> list[list[int]]:
            prompts = split.prompts(examples, self.pad_id)
            batch = {name: values.to(predictor.device) for name, values in prompts.items()}
            generated = model.generate(**batch, logits_processor=LogitsProcessorList([nan_detector]))
            first = 1 if self.encoder_decoder else batch["input_ids"].shape[1]
            ids: list[list[int]] = generated[:, first:].tolist()
            return ids

        batches = eval_batches(split.prompt_lengths, batch_size)
        with generating(model, config), predictor.autocast():
            for examples, completions in predictor.eval_batch_size.each(batches, generate):
                for example, ids in zip(examples, completions, strict=True):
                    texts[example] = self._text(ids)
        return None if nan_detector.detected else texts

    def _text(self, ids: list[int]) -> str:
        """The text up to the first end token."""
        end = self.tokenizer.eos_token_id
        ids = ids[: ids.index(end)] if end in ids else ids
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()


def _max_new_tokens(splits: Mapping[str, Split]) -> int:
    """Tokens of the longest reference."""
    return max(int(split.weights.max()) for split in splits.values())


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
