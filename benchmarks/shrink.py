"""Runs `autorank shrink` on an adapter trained on MRPC with PEFT and transformers' Trainer.

    OMP_NUM_THREADS=1 python benchmarks/shrink.py --data MRPC --model MINILM --adapter mrpc-lora

MRPC is a directory with the task's splits, MINILM a base model. The adapter is LoRA of rank 8 on all linear layers; it
is trained if `--adapter` does not exist. The output has the sizes with their scores on the validation split, the time
of shrinking, and the score of a quarter of the parameters after `--polish` steps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import autorank

RANK, ALPHA, BATCH, LEARNING_RATE, LENGTH = 8, 16, 32, 5e-4, 128


def train(data: Path, model: str, folder: Path, epochs: float) -> None:
    """Train an adapter with plain PEFT and save it.

    Args:
        data: Directory with train.parquet.
        model: Directory or Hub name of the base model.
        folder: Directory of the adapter.
        epochs: Number of epochs.
    """
    import pyarrow.parquet as parquet
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    columns = parquet.read_table(data / "train.parquet").to_pydict()
    inputs = tokenizer(columns["sentence1"], columns["sentence2"], truncation=True, max_length=LENGTH)
    rows: list[dict[str, Any]] = [
        {name: values[i] for name, values in inputs.items()} | {"labels": int(label)}
        for i, label in enumerate(columns["label"])
    ]
    base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
    config = LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", r=RANK, lora_alpha=ALPHA)
    options = TrainingArguments(
        output_dir=str(folder) + "-trainer", num_train_epochs=epochs, per_device_train_batch_size=BATCH,
        learning_rate=LEARNING_RATE, warmup_steps=30, logging_steps=20, save_strategy="no", report_to=[], seed=0,
        train_sampling_strategy="group_by_length", use_cpu=True,
    )  # fmt: skip
    peft_model = get_peft_model(base, config)
    Trainer(peft_model, options, train_dataset=rows, processing_class=tokenizer).train()
    peft_model.save_pretrained(str(folder))


def main() -> None:
    """Train the adapter if necessary, shrink it and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--polish", type=int, default=30)
    options = parser.parse_args()
    if not options.adapter.exists():
        train(options.data, options.model, options.adapter, options.epochs)
    started = time.perf_counter()
    shrunk = autorank.shrink(options.adapter, task="mrpc", data=options.data)
    seconds = time.perf_counter() - started
    print("| parameters | energy | score |\n|---|---|---|")
    for size in shrunk.sizes:
        print(f"| {size.adapter_params:,} | {size.energy:.1%} | {size.score:.4f} |", flush=True)
    print(f"{seconds:.0f} s for {len(shrunk.sizes)} sizes")
    if options.polish:
        quarter = shrunk.sizes[-1].adapter_params // 4
        polished = autorank.shrink(
            options.adapter, task="mrpc", data=options.data, max_params=quarter, polish=options.polish
        )
        print("\n".join(polished.notes))


if __name__ == "__main__":
    main()
