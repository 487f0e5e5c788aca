"""Search on your own data from a CSV file, with the names of its columns.

python examples/own_csv.py
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

import autorank
from autorank.tasks import TASKS

FILE = Path("reviews.csv")


def make_data(rows: int = 200) -> None:
    """Write short artificial reviews."""
    rng = random.Random(0)
    words = {"good": ("great", "lovely", "excellent", "fine"), "bad": ("awful", "poor", "terrible", "weak")}
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "verdict"])
        for _ in range(rows):
            verdict = rng.choice(("good", "bad"))
            subject = rng.choice(("film", "book", "meal", "room"))
            writer.writerow([f"The {subject} was {rng.choice(words[verdict])}, and I will say so.", verdict])


def main() -> None:
    make_data()
    search = autorank.search(
        method=["lora", "adalora"],  # one front of both
        data=FILE,
        text="review",  # or ["premise", "hypothesis"]
        label="verdict",  # classes keep their names; fractions mean regression
        model=TASKS["demo"].model,  # the small one that comes with autorank; name yours: a directory, or roberta-base
        name="reviews",
        trials=3,
        epochs=2,
        set={"dropout": 0.1},
    )
    print(search.front)
    search.export(to="reviews-adapter", min_score=search.front[-1].score)


if __name__ == "__main__":
    main()
