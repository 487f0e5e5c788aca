"""Makes a base model for short runs on pairs of sentences: MiniLM with a LoRA adapter that was trained on QQP.

    python -m benchmarks.real_tasks.pairs_model --model MINILM --to BASE              # with benchmarks/pairs_adapter
    python -m benchmarks.real_tasks.pairs_model --model MINILM --to BASE --data QQP   # trains this adapter again

MiniLM was trained to embed single sentences, so adapters on MRPC and STS-B learn nothing in a few hundred steps, the
length of a trial on a CPU. With a base model that was first trained on a related task with more data they do (STILTs,
Phang et al. 2018, arXiv 1811.01088). The adapter is part of the repository, so that searches on several machines begin
with the same weights. The head is not kept. This base model is not used for QQP itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import autorank

ADAPTER = Path(__file__).parents[1] / "pairs_adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, help="train the adapter on this copy of QQP")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    if options.data is not None:
        train(options.model, options.data, options.steps)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
    merged = PeftModel.from_pretrained(model, ADAPTER).merge_and_unload()
    merged.base_model.save_pretrained(options.to)
    AutoTokenizer.from_pretrained(options.model).save_pretrained(options.to)


def train(model: str, data: Path, steps: int) -> None:
    """Train the adapter and store it in 16 bits, without the path of its base model.

    Args:
        model: MiniLM.
        data: QQP.
        steps: Steps of 32 examples.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = autorank.train(
            method="lora", task="qqp", data=data, model=model,
            set={"rank": 16, "targets": "all-linear", "learning_rate": 2e-3, "dropout": 0.0},
            steps=steps, eval_every=500, batch_size=32, max_train_examples=48_000, max_eval_examples=500,
            max_length=48, precision="bf16", to=Path(folder) / "adapter",
        )  # fmt: skip
        print(f"accuracy on QQP: {result.best.score:.4f}")
        trained = Path(folder) / "adapter"
        ADAPTER.mkdir(exist_ok=True)
        weights = {name: value.to(torch.float16) for name, value in load_file(trained / WEIGHTS).items()}
        save_file(weights, ADAPTER / WEIGHTS, {"format": "pt"})
        config = json.loads((trained / CONFIG).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = Path(model).name
        (ADAPTER / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
