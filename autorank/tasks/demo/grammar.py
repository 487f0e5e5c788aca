"""The demo's sentence pairs, generated: do two English sentences say the same, in other words?

A `Meaning` is drawn at random and put into words twice, at random: with synonyms, in the active or the passive, with
the negation in one place or another, an antonym denied or a property asserted, adjuncts in front or behind. For a pair
that differs, the second meaning has one edit (`EDITS`), mostly one that only moves words about: who did it to whom,
which of the two was old, whether it was denied. Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random

# Synonyms share a line (a tuple); a concept is the index of its tuple.
NOUNS = (
    ("doctor", "physician"), ("lawyer", "attorney"), ("teacher", "instructor"), ("writer", "author"),
    ("cook", "chef"), ("sailor", "mariner"), ("farmer", "grower"), ("singer", "vocalist"),
    ("child", "kid"), ("soldier", "warrior"), ("king", "monarch"), ("thief", "robber"),
)  # fmt: skip
PLURALS = {"thief": "thieves", "child": "children"}  # the irregular ones
# Opposites, each of them with its synonyms. In this small world who is not old is young.
ADJECTIVES = (
    (("old", "aged"), ("young", "youthful")),
    (("rich", "wealthy"), ("poor", "penniless")),
    (("happy", "cheerful"), ("sad", "unhappy")),
    (("brave", "fearless"), ("timid", "cowardly")),
    (("tall", "lofty"), ("short", "small")),
    (("clever", "smart"), ("stupid", "foolish")),
)
# What one does to another: opposites again.
VERBS = (
    (("praise", "commend"), ("blame", "criticize")),
    (("help", "assist"), ("hinder", "obstruct")),
    (("trust", "believe"), ("doubt", "mistrust")),
    (("attack", "assault"), ("defend", "protect")),
    (("welcome", "greet"), ("ignore", "disregard")),
    (("reward", "honor"), ("punish", "discipline")),
)
# Converses: A was ahead of B exactly when B was behind A.
RELATIONS = (
    (("older than", "senior to"), ("younger than", "junior to")),
    (("richer than", "wealthier than"), ("poorer than", "needier than")),
    (("ahead of", "before"), ("behind", "after")),
    (("above", "over"), ("below", "under")),
)
NUMBERS = (("one", "1"), ("two", "2"), ("three", "3"), ("many", "numerous"))
TIMES = (("at night", "after dark"), ("at noon", "at midday"), ("in spring", "in april"))

Concept = tuple[int, int]  # (pair of opposites, which of the two)
Pick = Callable[[tuple[str, ...]], str]


@dataclass(frozen=True)
class Party:
    """Some people, all of a kind: `three old doctors`."""

    noun: int
    number: int
    trait: Concept | None


@dataclass(frozen=True)
class Meaning:
    """Whether (`positive`) `first` did `act` to `second`, or stood in that relation to them; when and where."""

    relation: bool  # `act` is one of RELATIONS, else of VERBS
    act: Concept
    first: Party
    second: Party
    positive: bool
    time: int | None


def _opposite(concept: Concept) -> Concept:
    return concept[0], 1 - concept[1]


def draw(rng: Random) -> Meaning:
    """A random meaning. The two parties never share a noun or a trait, so that swapping either one tells."""
    nouns = rng.sample(range(len(NOUNS)), 2)
    traits = rng.sample(range(len(ADJECTIVES)), 2)
    first, second = (
        Party(noun, rng.randrange(len(NUMBERS)), (trait, rng.randrange(2)) if rng.random() < 0.5 else None)
        for noun, trait in zip(nouns, traits, strict=True)
    )
    relation = rng.random() < 0.4
    return Meaning(
        relation,
        (rng.randrange(len(RELATIONS if relation else VERBS)), rng.randrange(2)),
        first,
        second,
        positive=rng.random() < 0.5,
        time=rng.randrange(len(TIMES)) if rng.random() < 0.4 else None,
    )


# --- Into words


def _plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def _past(verb: str) -> str:
    """Past tense and participle; all of VERBS are regular."""
    return verb + ("d" if verb.endswith("e") else "ed")


def _be(party: Party) -> str:
    return "was" if party.number == 0 else "were"


def _party_words(party: Party, rng: Random, pick: Pick) -> str:
    """`three old doctors`, `a trio of doctors who were not young`, ..."""
    noun = pick(NOUNS[party.noun])
    noun = noun if party.number == 0 else _plural(noun)
    number = pick(NUMBERS[party.number])
    if party.trait is None:
        return f"{number} {noun}"
    pair, pole = party.trait
    shape = rng.randrange(4)
    if shape < 2:
        return f"{number} {pick(ADJECTIVES[pair][pole])} {noun}"
    if shape == 2:
        return f"{number} {noun} who {_be(party)} {pick(ADJECTIVES[pair][pole])}"
    return f"{number} {noun} who {_be(party)} not {pick(ADJECTIVES[pair][1 - pole])}"


def words(meaning: Meaning, rng: Random, pick: Pick) -> str:
    """One of the many sentences that say `meaning`; `pick` chooses among synonyms."""
    denied = rng.random() < 0.1  # "it was false that ..." takes one negation
    negated = meaning.positive == denied
    first, second = _party_words(meaning.first, rng, pick), _party_words(meaning.second, rng, pick)
    pair, pole = meaning.act
    if meaning.relation:
        if rng.random() < 0.7:
            clause = _stand(meaning.first, first, negated, pick(RELATIONS[pair][pole]), second)
        else:
            clause = _stand(meaning.second, second, negated, pick(RELATIONS[pair][1 - pole]), first)
    else:
        verb = pick(VERBS[pair][pole])
        if rng.random() < 0.7:
            clause = f"{first} {f'did not {verb}' if negated else _past(verb)} {second}"
        else:
            clause = _stand(meaning.second, second, negated, f"{_past(verb)} by", first)
    clause = f"it was false that {clause}" if denied else clause
    if meaning.time is None:
        return clause
    time = pick(TIMES[meaning.time])
    return f"{time}, {clause}" if rng.random() < 0.5 else f"{clause} {time}"


def _stand(party: Party, subject: str, negated: bool, relation: str, other: str) -> str:
    return f"{subject} {_be(party)} {'not ' if negated else ''}{relation} {other}"


# --- Edits that change the meaning; None where one does not apply


def _swap_parties(m: Meaning, rng: Random) -> Meaning | None:
    return replace(m, first=m.second, second=m.first)


def _swap_nouns(m: Meaning, rng: Random) -> Meaning | None:
    return replace(
        m, first=replace(m.first, noun=m.second.noun), second=replace(m.second, noun=m.first.noun)
    )


def _change_noun(m: Meaning, rng: Random) -> Meaning | None:
    side = rng.choice(("first", "second"))
    others = [noun for noun in range(len(NOUNS)) if noun not in (m.first.noun, m.second.noun)]
    return replace(m, **{side: replace(getattr(m, side), noun=rng.choice(others))})


def _change_act(m: Meaning, rng: Random) -> Meaning | None:
    acts = len(RELATIONS if m.relation else VERBS)
    return replace(m, act=((m.act[0] + rng.randrange(1, acts)) % acts, m.act[1]))


def _change_trait(m: Meaning, rng: Random) -> Meaning | None:
    side = rng.choice(("first", "second"))
    party: Party = getattr(m, side)
    if party.trait is None:
        return None
    traits = [t for t in range(len(ADJECTIVES)) if all(p.trait is None or p.trait[0] != t for p in (m.first, m.second))]
    return replace(m, **{side: replace(party, trait=(rng.choice(traits), party.trait[1]))})


def _swap_traits(m: Meaning, rng: Random) -> Meaning | None:
    if m.first.trait == m.second.trait:
        return None
    return replace(
        m, first=replace(m.first, trait=m.second.trait), second=replace(m.second, trait=m.first.trait)
    )


def _swap_numbers(m: Meaning, rng: Random) -> Meaning | None:
    if m.first.number == m.second.number:
        return None
    return replace(
        m, first=replace(m.first, number=m.second.number), second=replace(m.second, number=m.first.number)
    )


def _change_number(m: Meaning, rng: Random) -> Meaning | None:
    side = rng.choice(("first", "second"))
    party: Party = getattr(m, side)
    number = (party.number + rng.randrange(1, len(NUMBERS))) % len(NUMBERS)
    return replace(m, **{side: replace(party, number=number)})


def _flip_trait(m: Meaning, rng: Random) -> Meaning | None:
    side = rng.choice(("first", "second"))
    party: Party = getattr(m, side)
    return None if party.trait is None else replace(m, **{side: replace(party, trait=_opposite(party.trait))})


def _flip_act(m: Meaning, rng: Random) -> Meaning | None:
    return replace(m, act=_opposite(m.act))


def _negate(m: Meaning, rng: Random) -> Meaning | None:
    return replace(m, positive=not m.positive)


EDITS = (
    _swap_parties, _swap_nouns, _swap_traits, _swap_numbers, _change_noun, _change_act, _change_trait, _change_number, _flip_trait, _flip_act, _negate,
)  # fmt: skip


# --- Pairs


def habit(rng: Random) -> Pick:
    """Picks at random, and from then on the same word again."""
    habits: dict[tuple[str, ...], str] = {}
    return lambda synonyms: habits.setdefault(synonyms, rng.choice(synonyms))


def draw_pair(rng: Random, same: bool, pick: Pick) -> tuple[str, str]:
    """Two different sentences whose meanings are the same, or differ by one edit."""
    meaning = draw(rng)
    other: Meaning | None = meaning if same else None
    while other is None:
        other = rng.choice(EDITS)(meaning, rng)
    one = words(meaning, rng, pick)
    two = words(other, rng, pick)
    while two == one:
        two = words(other, rng, pick)
    return one, two


SIZES = {"train": 4000, "validation": 500}


@cache
def _corpus() -> dict[str, list[tuple[str, str, int]]]:
    rng = Random(20_250)
    rows: dict[tuple[str, str], int] = {}
    while len(rows) < sum(SIZES.values()):
        label = len(rows) % 2
        one, two = draw_pair(rng, same=label == 1, pick=rng.choice)
        if (one, two) not in rows and (two, one) not in rows:
            rows[one, two] = label
    listed = [(one, two, label) for (one, two), label in rows.items()]
    return {"train": listed[: SIZES["train"]], "validation": listed[SIZES["train"] :]}


def pairs(split: str) -> dict[str, list[str] | list[int]]:
    """The columns of `train` (4,000 pairs) or `validation` (500): `sentence1`, `sentence2`, `label` (1: same)."""
    one, two, labels = zip(*_corpus()[split], strict=True)
    return {"sentence1": list(one), "sentence2": list(two), "label": list(labels)}


def pretraining_pairs(seed: int) -> Iterator[tuple[str, str]]:
    """Endless text to pretrain on, without labels: pairs of sentences, half of them of one meaning."""
    rng = Random(seed)
    while True:
        yield draw_pair(rng, same=rng.random() < 0.5, pick=habit(rng))
