"""Scores of generated texts, with the reference packages; fractions, not percentages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest

Texts = Sequence[str]
References = Sequence[Sequence[str]]  # of each text


def compute(names: Sequence[str], texts: Texts, references: References) -> dict[str, float]:
    """The metrics of these names: of texts against their references, of which each text may have several.

    `bleu`: of the corpus, as sacrebleu computes it by default (tokenizer 13a, case counts). `rouge1`, `rouge2`,
    `rougeL`: F1 with stemming, of the reference where it is highest, averaged over texts; `rouge`: the three's mean.
    `exact_match`: equal to a reference but for white space. `exact_answer`: the number after `####` is a reference's.
    """
    found: dict[str, float] = {}
    for name in names:
        if name not in found:
            found |= METRICS[name](texts, references)
    return {name: found[name] for name in names}


def final_answer(text: str) -> str | None:
    """The number after the first `####` (GSM8K), without commas, dollar signs and full stop; None if there is none."""
    found = re.search(r"####\s*([-+]?\$?\s*[-+]?[\d.,]*\d)", text)
    return re.sub(r"[$,\s+]", "", found[1]) if found else None


def _bleu(texts: Texts, references: References) -> dict[str, float]:
    import sacrebleu

    streams = [list(stream) for stream in zip_longest(*references)]  # None where a text has fewer references
    return {"bleu": sacrebleu.corpus_bleu(texts, streams).score / 100}


def _rouge(texts: Texts, references: References) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    each = [scorer.score_multi(known, text) for text, known in zip(texts, references, strict=True)]
    means = {kind: sum(scores[kind].fmeasure for scores in each) / len(each) for kind in kinds}
    return means | {"rouge": sum(means.values()) / len(means)}


def _exact_match(texts: Texts, references: References) -> dict[str, float]:
    hits = [text.split() in [known.split() for known in ours] for text, ours in zip(texts, references, strict=True)]
    return {"exact_match": sum(hits) / len(hits)}


def _exact_answer(texts: Texts, references: References) -> dict[str, float]:
    answers = [final_answer(text) for text in texts]
    hits = [
        found is not None and found in map(final_answer, known)
        for found, known in zip(answers, references, strict=True)
    ]
    return {"exact_answer": sum(hits) / len(hits)}


METRICS: dict[str, Callable[[Texts, References], dict[str, float]]] = {
    "bleu": _bleu,
    "rouge1": _rouge,
    "rouge2": _rouge,
    "rougeL": _rouge,
    "rouge": _rouge,
    "exact_match": _exact_match,
    "exact_answer": _exact_answer,
}
