"""Load an exported adapter with transformers and PEFT; autorank need not be installed.

python examples/load_with_peft.py quickstart-adapter
"""

from __future__ import annotations

import sys

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

LABELS = ("different", "same")  # labels of the demo task; examples/quickstart.py exports its adapter
PAIRS = (("A child reads the book.", "The book is read by a child."), ("A child reads the book.", "Nobody reads."))


def load(folder: str) -> tuple[PeftModel, AutoTokenizer]:
    """Return the base model with the adapter, and its tokenizer."""
    name = PeftConfig.from_pretrained(folder).base_model_name_or_path
    base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=len(LABELS), dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder).eval(), AutoTokenizer.from_pretrained(name)


def main() -> None:
    model, tokenizer = load(sys.argv[1] if len(sys.argv) > 1 else "quickstart-adapter")
    first, second = (list(column) for column in zip(*PAIRS, strict=True))
    with torch.inference_mode():
        logits = model(**tokenizer(first, second, padding=True, return_tensors="pt")).logits
    for pair, probabilities in zip(PAIRS, logits.softmax(-1).tolist(), strict=True):
        best = max(range(len(LABELS)), key=probabilities.__getitem__)
        print(f"{LABELS[best]} ({probabilities[best]:.0%}): {pair[0]} / {pair[1]}")


if __name__ == "__main__":
    main()
