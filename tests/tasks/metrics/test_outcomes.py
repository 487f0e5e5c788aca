"""Outcomes are packed in few bytes; scores of resamples against scikit-learn, SciPy and sacrebleu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import sacrebleu
from scipy import stats
from sklearn import metrics as sk

from autorank.tasks.metrics import labels as label_metrics
from autorank.tasks.metrics import squad, text
from autorank.tasks.metrics.outcomes import Outcomes, pack, unpack
from autorank.tasks.metrics.resampling import bootstrap_scores, resampled, weights
from autorank.tasks.named.glue import GLUE

DRAWS = 40


def draw_resamples(size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The weights of resamples, and the indices that they stand for."""
    sample_weights = weights([size], DRAWS, np.random.default_rng(1))
    return sample_weights, [np.repeat(np.arange(size), row.astype(int)) for row in sample_weights]


def classes(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, count, size)
    logits = rng.normal(size=(size, count))
    logits[np.arange(size), labels] += 1
    return logits.astype(np.float32), labels


def test_resamples_have_as_many_examples_as_each_split() -> None:
    sample_weights = weights([30, 50], 1000, np.random.default_rng(0))
    assert (sample_weights[:, :30].sum(1) == 30).all() and (sample_weights[:, 30:].sum(1) == 50).all()
    assert sample_weights.mean(0) == pytest.approx(np.ones(80), abs=0.15)  # each as often as any other
    assert sample_weights.var(0).mean() == pytest.approx(1, abs=0.05)  # the counts are binomial


@pytest.mark.parametrize("splits", [[150], [100, 50], [30, 0, 120]])
@pytest.mark.parametrize("formula", ["accuracy", "likelihood", "spearman", "matthews"])
def test_scores_do_not_depend_on_how_many_resamples_are_drawn_at_a_time(
    splits: list[int], formula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    values = (rng.integers(3, size=(3, 150, 1)) + 1).astype(np.float32)
    models = [Outcomes(formula, value, values[0], tuple(splits)) for value in values[1:]]
    expected = bootstrap_scores(models, 300, np.random.default_rng(5))
    assert (expected == resampled(models, weights(splits, 300, np.random.default_rng(5)))).all()
    monkeypatch.setattr("autorank.tasks.metrics.resampling.MAX_WEIGHTS", 150 * 70)
    assert (bootstrap_scores(models, 300, np.random.default_rng(5)) == expected).all()


@pytest.mark.parametrize(
    ("task", "count", "score"),
    [
        ("mrpc", 2, sk.accuracy_score),
        ("qqp", 2, sk.accuracy_score),
        ("cola", 2, sk.matthews_corrcoef),
    ],
)
def test_labels(task: str, count: int, score: Callable[[np.ndarray, np.ndarray], float]) -> None:
    models = [classes(count, 150, seed) for seed in range(3)]
    scores = [label_metrics.compute(GLUE[task], logits, labels) for logits, labels in models]
    outcomes = unpack(pack([model_scores.outcomes for model_scores in scores if model_scores.outcomes]))
    full_scores = resampled(outcomes, np.ones((1, 150), np.float32))[0]
    assert full_scores == pytest.approx([model_scores[GLUE[task].metrics[0]] for model_scores in scores], abs=1e-6)
    sample_weights, indices = draw_resamples(150)
    expected = [[score(labels[rows], logits[rows].argmax(1)) for logits, labels in models] for rows in indices]
    assert resampled(outcomes, sample_weights) == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("macro_f1", lambda labels, predicted: sk.f1_score(labels, predicted, average="macro")),
        ("balanced_accuracy", sk.balanced_accuracy_score),
        ("recall:b", lambda labels, predicted: sk.recall_score(labels == 1, predicted == 1)),
    ],
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_classes_of_different_sizes(metric: str, score: Callable[[np.ndarray, np.ndarray], float]) -> None:
    task = replace(GLUE["cola"], label_names=("a", "b", "c"), metrics=(metric,))
    models = [classes(3, 60, seed) for seed in range(2)]
    outcomes = [label_metrics.compute(task, logits, labels).outcomes for logits, labels in models]
    packed = unpack(pack([outcome for outcome in outcomes if outcome]))
    sample_weights, indices = draw_resamples(60)
    expected = [[score(labels[rows], logits[rows].argmax(1)) for logits, labels in models] for rows in indices]
    assert resampled(packed, sample_weights) == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize(("formula", "score"), [("f1", sk.f1_score), ("matthews", sk.matthews_corrcoef)])
@pytest.mark.parametrize("count", [2, 3])
def test_counts(formula: str, score: Callable[..., float], count: int) -> None:
    logits, labels = classes(count, 90, 0)
    predicted = logits.argmax(1)
    if formula == "f1":  # class 1 against the rest
        predicted, labels = predicted == 1, labels == 1
    outcomes = Outcomes(formula, predicted[:, None].astype(int), labels[:, None].astype(int), (90,))
    sample_weights, indices = draw_resamples(90)
    expected = [score(labels[rows], predicted[rows]) for rows in indices]
    assert resampled([outcomes], sample_weights)[:, 0] == pytest.approx(np.array(expected), abs=1e-6)


def test_undefined_scores_are_zero() -> None:
    for formula in ("f1", "matthews", "pearson", "spearman"):
        constant = Outcomes(formula, np.zeros((20, 1), int), np.arange(20)[:, None] * 0, (20,))
        assert (resampled([constant], weights([20], 5, np.random.default_rng(0))) == 0).all()


@pytest.mark.parametrize("formula", ["pearson", "spearman", "pearson_spearman"])
def test_correlations_with_ties(formula: str) -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 26, 200) / 5
    models = [(target + rng.normal(size=200)).round(1), target + 3 * rng.normal(size=200)]
    outcomes = [Outcomes(formula, model[:, None], target[:, None], (200,)) for model in models]
    sample_weights, indices = draw_resamples(200)
    functions = {"pearson": [stats.pearsonr], "spearman": [stats.spearmanr]}.get(
        formula, [stats.pearsonr, stats.spearmanr]
    )
    expected = [
        [np.mean([f(model[rows], target[rows]).statistic for f in functions]) for model in models] for rows in indices
    ]
    assert resampled(outcomes, sample_weights) == pytest.approx(np.array(expected), abs=1e-5)
    packed = unpack(pack(outcomes))
    assert resampled(packed, sample_weights) == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize(("mean", "deviation", "error"), [(250_000, 80_000, 0.4), (20_000, 5, 0.7), (2.6, 3e-4, 1.5)])
def test_numbers_of_any_size_keep_their_correlation(mean: float, deviation: float, error: float) -> None:
    """Prices of houses, years, and predictions that are nearly constant."""
    rng = np.random.default_rng(0)
    target = mean + deviation * rng.normal(size=300)
    values = target + error * deviation * rng.normal(size=300)
    (model,) = unpack(pack([Outcomes("pearson", values[:, None], target[:, None], (300,))]))
    score = resampled([model], np.ones((1, 300), np.float32))[0, 0]
    assert score == pytest.approx(stats.pearsonr(values, target).statistic, abs=1e-4)


def test_bleu_and_means_of_texts() -> None:
    references = [[f"the cat number {i} sat on the mat", f"a cat {i} was on a mat"] for i in range(30)]
    texts = [f"the cat number {i} {'sat' if i % 3 else 'lay'} on {'the' if i % 2 else 'some'} mat" for i in range(30)]
    texts[7] = references[7][0]
    sample_weights, indices = draw_resamples(30)
    bleu = resampled([text.outcomes("bleu", texts, references, (30,))], sample_weights)[:, 0]
    expected = [
        sacrebleu.corpus_bleu([texts[i] for i in rows], list(zip(*(references[i] for i in rows), strict=True))).score
        for rows in indices
    ]
    assert bleu == pytest.approx(np.array(expected) / 100, abs=1e-6)
    for name in ("rougeL", "exact_match"):
        means = resampled([text.outcomes(name, texts, references, (30,))], sample_weights)[:, 0]
        sample_metrics = [
            text.compute([name], [texts[i] for i in rows], [references[i] for i in rows]) for rows in indices
        ]
        assert means == pytest.approx([metrics[name] for metrics in sample_metrics], abs=1e-6)


def test_bleu_without_any_4_gram() -> None:
    texts, references = ["a b c x", "d e"], [["a b c d"], ["d f"]]
    bleu = resampled([text.outcomes("bleu", texts, references, (2,))], np.ones((1, 2), np.float32))[0, 0]
    assert bleu == pytest.approx(text.compute(["bleu"], texts, references)["bleu"], abs=1e-7)


def test_answers_without_and_with_null_margins() -> None:
    texts, answers = ["Paris", "in London", ""], [["Paris"], ["London town", "London"], []]
    for null_margins in (None, np.array([-1.0, 1.0, 2.0])):
        scores = squad.compute(texts, answers, null_margins)
        assert scores.outcomes is not None
        assert resampled([scores.outcomes], np.ones((1, 3), np.float32))[0, 0] == pytest.approx(scores["f1"])


def test_predictions_of_17_models_on_408_pairs_take_few_bytes() -> None:
    models = [label_metrics.compute(GLUE["mrpc"], *classes(2, 408, seed)).outcomes for seed in range(17)]
    assert len(pack([model for model in models if model])) < 3000


def test_damaged_predictions_are_refused() -> None:
    packed = pack([Outcomes("mean", np.zeros((3, 1)), np.zeros((3, 0), int), (3,))])
    with pytest.raises(ValueError, match="damaged predictions"):
        unpack(packed[:40])
