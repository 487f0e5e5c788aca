"""Fine-tunes MiniLM on QQP: a base model for short runs on pairs of sentences.

    OMP_NUM_THREADS=2 python benchmarks/intermediate.py --data QQP --model MINILM --to BASE

MiniLM was trained to embed single sentences, so adapters on MRPC and STS-B learn nothing in a few hundred steps, the
length of a trial on a CPU. With a base model that was first trained on a related task with more data they do (STILTs,
Phang et al. 2018, arXiv 1811.01088). The head is not kept. This base model is not used for QQP itself.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer

import autorank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = autorank.train(
            method="full", task="qqp", data=options.data, model=options.model, set={"learning_rate": 1e-4},
            steps=options.steps, eval_every=500, batch_size=32, max_train_examples=48_000, max_eval_examples=500,
            max_length=48, precision="fp32", to=Path(folder) / "full",
        )  # fmt: skip
        print(f"accuracy on QQP: {result.best.score:.4f}")
        model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
        autorank.load_adapter(model, Path(folder) / "full").base_model.save_pretrained(options.to)
    AutoTokenizer.from_pretrained(options.model).save_pretrained(options.to)


if __name__ == "__main__":
    main()
