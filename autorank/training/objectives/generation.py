"""Text to text: the loss of completions, and greedy generation scored against references."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autorank.modeling.greedy_decoding import generating, greedy
from autorank.tasks.data.batches import eval_batches
from autorank.tasks.data.pairs import IGNORED, EncodedPairs, Pairs
from autorank.tasks.definition import Split, TaskData
from autorank.tasks.metrics import text as text_metrics

if TYPE_CHECKING:
    from autorank.training.optimization_loop import Phase

EVAL_BATCH = 32  # prompts, fewer if memory runs out; in float32 results do not depend on it


class Generation:
    """Cross-entropy of the completions' tokens; scored by greedy generation."""

    def __init__(self, data: TaskData) -> None:
        self.task, self.tokenizer, self.pad_id = data.task, data.tokenizer, data.pad_id
        self.encoded = isinstance(data.train, EncodedPairs)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Mean over the tokens of completions. logits: batch x seq x vocabulary; labels: batch x seq.

        A decoder's logits tell the next token. Only those of tokens to be predicted become float32.
        """
        logits = outputs.logits
        if not self.encoded:
            logits, labels = logits[:, :-1], labels[:, 1:]
        predicted = labels != IGNORED
        return F.cross_entropy(logits[predicted].float(), labels[predicted])

    def evaluate(self, phase: Phase, splits: Mapping[str, Split]) -> dict[str, float]:
        """The task's metrics (see `tasks.metrics.text`) of what is written for the prompts of the splits.

        At most as many tokens are written as the longest reference has. Logits that are NaN (a diverged run) make every
        metric NaN, so that they cannot pass for a score.
        """
        pairs = [cast(Pairs, split) for split in splits.values()]
        longest = max(int(split.weights.max()) for split in pairs)
        texts: list[str] = []
        for split in pairs:
            written = self.write(phase, split, longest)
            if written is None:
                return dict.fromkeys(self.task.metrics, math.nan)
            texts += written
        references = [known for split in pairs for known in split.references or ()]
        return text_metrics.compute(self.task.metrics, texts, references)

    @torch.no_grad()
    def write(self, phase: Phase, split: Pairs, longest: int, batch_size: int = EVAL_BATCH) -> list[str] | None:
        """The model's completion of each prompt, of at most `longest` tokens; None if there were NaNs among its logits.

        Decoders' prompts are padded on the left, so that all go on at the same place.
        """
        from transformers import LogitsProcessorList

        model: Any = phase.model
        model.eval()
        watch = NaNWatch()
        texts = [""] * len(split)
        start = int(split.target_ids[0]) if self.encoded else None
        config = greedy(self.tokenizer.eos_token_id, self.pad_id, start, longest)

        def generate(examples: np.ndarray) -> list[list[int]]:
            batch = {name: each.to(phase.device) for name, each in split.prompts(examples, self.pad_id).items()}
            found = model.generate(**batch, logits_processor=LogitsProcessorList([watch]))
            ids: list[list[int]] = found[:, 1 if self.encoded else batch["input_ids"].shape[1] :].tolist()
            return ids

        with generating(model, config), phase.autocast():
            for examples, written in phase.room.each(eval_batches(split.prompt_lengths, batch_size), generate):
                for example, ids in zip(examples, written, strict=True):
                    texts[example] = self._text(ids)
        return None if watch.found else texts

    def _text(self, ids: list[int]) -> str:
        """What was written up to the first end token."""
        end = self.tokenizer.eos_token_id
        written = ids[: ids.index(end)] if end in ids else ids
        text: str = self.tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()


class NaNWatch:
    """Sees the logits of each token that is generated, and remembers whether there were NaNs among them."""

    def __init__(self) -> None:
        self._found: Tensor | None = None

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """scores: batch x vocabulary, given back as they are. Does not wait for the GPU."""
        here = scores.isnan().any()
        self._found = here if self._found is None else self._found | here
        return scores

    @property
    def found(self) -> bool:
        return self._found is not None and bool(self._found)
