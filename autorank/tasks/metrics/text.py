"""Metrics of text to text, as fractions: of generated texts, computed with the reference packages, and of tokens.

`FORWARD` names the metrics that need no generation. They are computed from the probabilities of the references' tokens
(`training.objectives.generation`), so an evaluation costs one forward pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import zip_longest

import numpy as np

from autorank.tasks.metrics.outcomes import Outcomes
from autorank.tasks.metrics.scripts import Script, Words, script_of

Texts = Sequence[str]
References = Sequence[Sequence[str]]  # for each text
FORWARD = ("likelihood", "token_accuracy")


def chosen(metrics: Sequence[str], metric: str | None, final: bool) -> tuple[str, ...]:
    """Choose the metrics that an evaluation computes, the score first.

    If the score needs no generation, generated texts are scored in the final scoring only.

    Args:
        metrics: The task's metrics, its score first.
        metric: The metric that the user chose as the score; None: the task's.
        final: Whether the evaluation is a final scoring.

    Returns:
        The names of the metrics.
    """
    score = metric or metrics[0]
    forward = score in FORWARD
    names = dict.fromkeys([score, *(FORWARD if forward else ()), *metrics])
    return tuple(name for name in names if (name in FORWARD) == forward or (forward and final))


def compute(names: Sequence[str], texts: Texts, references: References) -> dict[str, float]:
    """Compute metrics of texts against their references.

    `bleu`: corpus BLEU with the defaults of sacrebleu (case-sensitive). `rouge1`, `rouge2`, `rougeL`: F1 for the best
    reference, averaged over texts; `rouge`: the mean of the three. Words are English ones, with ROUGE's stemming, or
    those of the references' script (`scripts.script_of`). `exact_match`: equal to a reference after `normalized`.
    `exact_answer`: the number after `####` is that of a reference. Thoughts of reasoning models are not scored, see
    `answer`.

    Args:
        names: Names of the metrics.
        texts: The generated texts.
        references: One or more references for each text.

    Returns:
        The metrics by name.
    """
    texts, references = list(map(answer, texts)), [list(map(answer, text_references)) for text_references in references]
    script = script_of(reference for text_references in references for reference in text_references)
    metrics: dict[str, float] = {}
    for name in names:
        if name not in metrics:
            metrics |= METRICS[name](texts, references, script)
    return {name: metrics[name] for name in names}


def outcomes(name: str, texts: Texts, references: References, splits: tuple[int, ...]) -> Outcomes:
    """Compute what each text adds to a metric: its own value, or for BLEU the counts that a corpus sums up.

    Args:
        name: Name of the metric.
        texts: The generated texts.
        references: One or more references for each text.
        splits: Number of texts of each split, in their order.

    Returns:
        The outcomes.
    """
    pairs = [
        (answer(text), [answer(reference) for reference in text_references])
        for text, text_references in zip(texts, references, strict=True)
    ]
    script = script_of(reference for _, text_references in pairs for reference in text_references)
    if name == "bleu":
        import sacrebleu

        # effective_order avoids warnings about short sentences; the counts do not depend on it
        scorer = sacrebleu.BLEU(tokenize=script.bleu, effective_order=True)
        scores = [scorer.sentence_score(text, text_references) for text, text_references in pairs]
        counts = [[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores]
        return Outcomes(name, np.array(counts), np.empty((len(counts), 0), int), splits)
    values = np.array([[METRICS[name]([text], [text_references], script)[name]] for text, text_references in pairs])
    return Outcomes("mean", values, np.empty((len(values), 0), int), splits)


def answer(text: str) -> str:
    """Return the text after the thoughts of a reasoning model (`<think>...</think>`), or the whole text without any."""
    return text.rpartition("</think>")[2].strip()


def final_answer(text: str) -> str | None:
    """Return the number after the first `####` (GSM8K), without commas, dollar signs and full stop, or None."""
    match = re.search(r"####\s*([-+]?\$?\s*[-+]?[\d.,]*\d)", text)
    return re.sub(r"[$,\s+]", "", match[1]) if match else None


def normalized(text: str) -> str:
    """Return a text with compatible Unicode forms and cases unified, single spaces, and no full stop at its end."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return text.rstrip(".。 ") or text


def _bleu(texts: Texts, references: References, script: Script) -> dict[str, float]:
    import sacrebleu

    streams = [list(stream) for stream in zip_longest(*references)]  # None where a text has fewer references
    return {"bleu": sacrebleu.corpus_bleu(texts, streams, tokenize=script.bleu).score / 100}


def _rouge(texts: Texts, references: References, script: Script) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, use_stemmer=True, tokenizer=Words() if script.any_letters else None)
    scores = [
        scorer.score_multi(text_references, text) for text, text_references in zip(texts, references, strict=True)
    ]
    means = {kind: sum(score[kind].fmeasure for score in scores) / len(scores) for kind in kinds}
    return means | {"rouge": sum(means.values()) / len(means)}


def _exact_match(texts: Texts, references: References, script: Script) -> dict[str, float]:
    hits = [
        normalized(text) in map(normalized, text_references)
        for text, text_references in zip(texts, references, strict=True)
    ]
    return {"exact_match": sum(hits) / len(hits)}


def _exact_answer(texts: Texts, references: References, script: Script) -> dict[str, float]:
    answers = [final_answer(text) for text in texts]
    hits = [
        answer is not None and answer in map(final_answer, text_references)
        for answer, text_references in zip(answers, references, strict=True)
    ]
    return {"exact_answer": sum(hits) / len(hits)}


BY_WORDS = ("bleu", "rouge1", "rouge2", "rougeL", "rouge")
METRICS: dict[str, Callable[[Texts, References, Script], dict[str, float]]] = {
    "bleu": _bleu,
    "rouge1": _rouge,
    "rouge2": _rouge,
    "rougeL": _rouge,
    "rouge": _rouge,
    "exact_match": _exact_match,
    "exact_answer": _exact_answer,
}
