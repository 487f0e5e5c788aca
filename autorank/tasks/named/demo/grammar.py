"""Generates the demo's sentence pairs. The task is to decide whether two English sentences have the same meaning.

A `Meaning` is drawn at random and expressed twice at random: active or passive, a property asserted or its opposite
denied, different positions of the negation, synonyms. For a pair that differs, the second meaning has one edit. Half of
the edits swap parts of the meaning (who did it to whom, which of the two was old), the others change one part (one or
two, old or young, praised or blamed, denied or not). Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

# Synonyms share a tuple; a concept is identified by the position of its tuple.
NOUNS = (
    ("doctor", "physician"), ("lawyer", "attorney"), ("cook", "chef"), ("sailor", "mariner"),
    ("child", "kid"), ("thief", "robber"), ("farmer",), ("singer",), ("painter",), ("soldier",),
    ("king",), ("banker",), ("guard",), ("builder",), ("priest",), ("tailor",),
)  # fmt: skip
PLURALS = {"thief": "thieves", "child": "children"}  # the irregular ones
# Opposites, each with its synonyms. Everybody who is not old is young.
ADJECTIVES = (
    (("old", "aged"), ("young", "youthful")),
    (("rich", "wealthy"), ("poor", "penniless")),
    (("happy",), ("sad",)),
    (("brave",), ("timid",)),
    (("tall",), ("short",)),
    (("clever",), ("stupid",)),
)
# Actions; opposites again.
VERBS = (
    (("praise", "commend"), ("blame", "criticize")),
    (("help", "assist"), ("hinder", "obstruct")),
    (("trust",), ("doubt",)),
    (("attack",), ("defend",)),
    (("welcome",), ("ignore",)),
    (("reward",), ("punish",)),
)
# Converse relations: A is ahead of B if B is behind A.
RELATIONS = (
    (("richer than", "wealthier than"), ("poorer than", "needier than")),
    (("older than",), ("younger than",)),
    (("ahead of",), ("behind",)),
    (("above",), ("below",)),
)
NUMBERS = ("one", "two", "three", "many")
TIMES = ("at night", "at noon", "in spring")

Concept = tuple[int, int]  # (pair of opposites, which of the two)
Pick = Callable[[tuple[str, ...]], str]  # chooses one of the synonyms


@dataclass(frozen=True)
class Party:
    """A group of people: `three old doctors`.

    Attributes:
        noun: Index into `NOUNS`.
        number: Index into `NUMBERS`.
        trait: Index into `ADJECTIVES`, and which of the opposites.
    """

    noun: int
    number: int
    trait: Concept | None


@dataclass(frozen=True)
class Meaning:
    """A statement: `first` did, or did not do, `act` to `second`, or was in this relation to them.

    Attributes:
        relation: Whether `act` is one of `RELATIONS`, otherwise of `VERBS`.
        act: Index of the action or relation, and which of the opposites.
        first: The subject.
        second: The object.
        positive: Whether the statement is not negated.
        time: Index into `TIMES`.
    """

    relation: bool
    act: Concept
    first: Party
    second: Party
    positive: bool
    time: int | None


def draw(rng: Random) -> Meaning:
    """Draw a random meaning. The parties differ in nouns and traits, so swapping them changes the meaning."""
    nouns = rng.sample(range(len(NOUNS)), 2)
    traits = rng.sample(range(len(ADJECTIVES)), 2)
    first, second = (
        Party(noun, rng.randrange(len(NUMBERS)), (trait, rng.randrange(2)) if rng.random() < 0.5 else None)
        for noun, trait in zip(nouns, traits, strict=True)
    )
    relation = rng.random() < 0.4
    act = rng.randrange(len(RELATIONS if relation else VERBS)), rng.randrange(2)
    time = rng.randrange(len(TIMES)) if rng.random() < 0.4 else None
    return Meaning(relation, act, first, second, rng.random() < 0.5, time)


# --- Expressing a meaning


def habit(rng: Random) -> Pick:
    """Return a function that chooses at random, but always the same word among the same synonyms."""
    habits: dict[tuple[str, ...], str] = {}
    return lambda synonyms: habits.setdefault(synonyms, rng.choice(synonyms))


def words(meaning: Meaning, rng: Random, pick: Pick) -> str:
    """Express a meaning as a sentence.

    Args:
        meaning: The meaning.
        rng: Random numbers.
        pick: Chooses among synonyms.

    Returns:
        The sentence.
    """
    prefixed = rng.random() < 0.1  # "it was false that ..." adds one negation
    negated = meaning.positive == prefixed
    first, second = _party(meaning.first, rng, pick), _party(meaning.second, rng, pick)
    pair, pole = meaning.act
    inverted = rng.random() < 0.3  # passive, or converse relation
    if meaning.relation:
        relation = pick(RELATIONS[pair][pole != inverted])
        clause = (
            _was(meaning.second, second, negated, f"{relation} {first}")
            if inverted
            else _was(meaning.first, first, negated, f"{relation} {second}")
        )
    else:
        verb = pick(VERBS[pair][pole])
        clause = (
            _was(meaning.second, second, negated, f"{_past(verb)} by {first}")
            if inverted
            else f"{first} {f'did not {verb}' if negated else _past(verb)} {second}"
        )
    clause = f"it was false that {clause}" if prefixed else clause
    if meaning.time is None:
        return clause
    time = TIMES[meaning.time]
    return f"{time}, {clause}" if rng.random() < 0.5 else f"{clause} {time}"


def _party(party: Party, rng: Random, pick: Pick) -> str:
    """`three old doctors`, `three doctors who were old`, `three physicians who were not young`, ..."""
    noun = pick(NOUNS[party.noun])
    if party.number:
        noun = PLURALS.get(noun, noun + "s")
    number = NUMBERS[party.number]
    if party.trait is None:
        return f"{number} {noun}"
    pair, pole = party.trait
    shape = rng.choice(("before", "before", "behind", "denied"))
    if shape == "before":
        return f"{number} {pick(ADJECTIVES[pair][pole])} {noun}"
    denied = shape == "denied"
    return _was(party, f"{number} {noun} who", denied, pick(ADJECTIVES[pair][pole != denied]))


def _was(party: Party, subject: str, negated: bool, rest: str) -> str:
    return f"{subject} {'were' if party.number else 'was'} {'not ' if negated else ''}{rest}"


def _past(verb: str) -> str:
    """Past tense and participle; all of VERBS are regular."""
    return verb + ("d" if verb.endswith("e") else "ed")


# --- Edits that change the meaning; None if an edit does not apply

Edit = Callable[[Meaning, Random], Meaning | None]


def swap_parties(m: Meaning, rng: Random) -> Meaning:
    """Swap subject and object."""
    return replace(m, first=m.second, second=m.first)


def _swap(field: str) -> Edit:
    """Swap a field of the parties."""

    def edit(m: Meaning, rng: Random) -> Meaning | None:
        first, second = getattr(m.first, field), getattr(m.second, field)
        if first == second:
            return None
        return replace(m, first=replace(m.first, **{field: second}), second=replace(m.second, **{field: first}))

    return edit


def _change(change: Callable[[Party, Meaning, Random], Party | None]) -> Edit:
    """Change one of the parties."""

    def edit(m: Meaning, rng: Random) -> Meaning | None:
        side = rng.choice(("first", "second"))
        party = change(getattr(m, side), m, rng)
        if party is None:
            return None
        return replace(m, first=party) if side == "first" else replace(m, second=party)

    return edit


def _other(rng: Random, size: int, *taken: int) -> int:
    return rng.choice([index for index in range(size) if index not in taken])


def _noun(party: Party, m: Meaning, rng: Random) -> Party:
    return replace(party, noun=_other(rng, len(NOUNS), m.first.noun, m.second.noun))


def _number(party: Party, m: Meaning, rng: Random) -> Party:
    return replace(party, number=_other(rng, len(NUMBERS), party.number))


def _trait(party: Party, m: Meaning, rng: Random) -> Party | None:
    taken = [p.trait[0] for p in (m.first, m.second) if p.trait]
    return party.trait and replace(party, trait=(_other(rng, len(ADJECTIVES), *taken), party.trait[1]))


def _antonym(party: Party, m: Meaning, rng: Random) -> Party | None:
    return party.trait and replace(party, trait=(party.trait[0], 1 - party.trait[1]))


def change_act(m: Meaning, rng: Random) -> Meaning:
    """Replace the action or relation by another one."""
    return replace(m, act=(_other(rng, len(RELATIONS if m.relation else VERBS), m.act[0]), m.act[1]))


def reverse_act(m: Meaning, rng: Random) -> Meaning:
    """Replace the action or relation by its opposite."""
    return replace(m, act=(m.act[0], 1 - m.act[1]))


def negate(m: Meaning, rng: Random) -> Meaning:
    """Negate the statement."""
    return replace(m, positive=not m.positive)


SWAPS: tuple[Edit, ...] = (swap_parties, _swap("noun"), _swap("trait"), _swap("number"))
CHANGES: tuple[Edit, ...] = (
    _change(_noun), _change(_number), _change(_trait), _change(_antonym), change_act, reverse_act, negate,
)  # fmt: skip
