"""Words of texts in any script, for ROUGE and BLEU. Chinese, Japanese, Thai and others are written without spaces."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

HAN = re.compile(r"[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
KANA = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
OTHERS = {
    "Thai": re.compile(r"[\u0e01-\u0e4f]"), "Lao": re.compile(r"[\u0e81-\u0edf]"),
    "Tibetan": re.compile(r"[\u0f40-\u0fbc]"), "Burmese": re.compile(r"[\u1000-\u109f]"),
    "Khmer": re.compile(r"[\u1780-\u17d3]"),
}  # fmt: skip
UNSPACED = re.compile("|".join(pattern.pattern for pattern in (HAN, KANA, *OTHERS.values())))
# Shares of the letters, ours. Tokenizers for these scripts treat Latin words as others do, so a small share suffices.
SHARE_UNSPACED, SHARE_KANA, SHARE_NOT_ASCII = 0.05, 0.05, 0.01


class Script(NamedTuple):
    """How texts are split into words.

    Attributes:
        name: The script, for messages; empty if the packages' own rules apply.
        bleu: Name of sacrebleu's tokenizer.
        any_letters: Whether ROUGE uses `words`; the rouge-score package knows a to z and digits only.
    """

    name: str
    bleu: str
    any_letters: bool

    @property
    def description(self) -> str:
        """A sentence about what is used in place of the packages' own rules; empty if nothing is."""
        if not self.any_letters:
            return ""
        if self.bleu == "13a":
            return f"{self.name}: ROUGE counts words of any letters"
        return f"{self.name}: BLEU uses sacrebleu's tokenizer {self.bleu}, ROUGE counts each character as a word"


def script_of(texts: Iterable[str]) -> Script:
    """Choose how texts are split into words, by their letters.

    Args:
        texts: The references of a data set.

    Returns:
        The script. Japanese needs the package mecab-python3 with ipadic for words; without it, each character counts.
    """
    text = "".join(texts)
    letters = max(1, sum(map(str.isalpha, text)))
    han, kana = len(HAN.findall(text)), len(KANA.findall(text))
    counts = {name: len(pattern.findall(text)) for name, pattern in OTHERS.items()}
    likeliest = max(counts, key=counts.__getitem__)
    if han + kana + sum(counts.values()) >= SHARE_UNSPACED * letters:
        if counts[likeliest] > han + kana:
            return Script(likeliest, "char", True)
        if kana >= SHARE_KANA * (han + kana):
            mecab = all(importlib.util.find_spec(package) for package in ("MeCab", "ipadic"))
            return Script("Japanese", "ja-mecab" if mecab else "char", True)
        return Script("Chinese", "zh", True)
    if sum(character.isalpha() and not character.isascii() for character in text) >= SHARE_NOT_ASCII * letters:
        return Script("Letters other than a to z", "13a", True)
    return Script("", "13a", False)


def words(text: str) -> list[str]:
    """Split a text into lower-case words of letters and digits; of scripts without spaces, into characters.

    Marks belong to the letter before them.

    Args:
        text: The text.

    Returns:
        The words.
    """
    result: list[str] = []
    previous = ""  # what the last character was: part of a word, a character of its own, or neither
    for character in unicodedata.normalize("NFKC", text).casefold():
        category = unicodedata.category(character)
        kind = "" if category[0] not in "LNM" else "character" if UNSPACED.match(character) else "word"
        if previous and (category[0] == "M" or kind == previous == "word"):
            result[-1] += character
        elif kind:
            result.append(character)
            previous = kind
        elif category != "Cf":  # joiners are inside words
            previous = ""
    return result


class Words:
    """The tokenizer of rouge-score for any script."""

    def tokenize(self, text: str) -> list[str]:
        """Split a text, see `words`."""
        return words(text)
