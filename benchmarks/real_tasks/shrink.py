"""`autorank shrink` on an adapter that plain PEFT and transformers' Trainer trained on MRPC.

    OMP_NUM_THREADS=1 python -m benchmarks.real_tasks.shrink --data MRPC --model MINILM --adapter mrpc-lora

MRPC is a directory with the task's splits, MINILM a base model. The adapter is LoRA of rank 8 on all linear layers, or
AdaLoRA with `--type adalora`, as PEFT saves it. It is trained if `--adapter` does not exist, so that sizes can be
scored again. The sizes are printed with their scores on the validation split. Every size is written and loaded in plain
PEFT, with its parameters there and the share of validation pairs that PEFT gets right. Then the score of a quarter of
the parameters after `--steps` steps, and the time that scoring took.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import autorank

RANK, ALPHA, BATCH, LEARNING_RATE, LENGTH = 8, 16, 32, 5e-4, 128
Rows = list[dict[str, Any]]


def rows_of(file: Path, model: str) -> Rows:
    """The tokenized pairs of a split."""
    import pyarrow.parquet as parquet
    from transformers import AutoTokenizer

    columns = parquet.read_table(file).to_pydict()
    tokenizer = AutoTokenizer.from_pretrained(model)
    inputs = tokenizer(columns["sentence1"], columns["sentence2"], truncation=True, max_length=LENGTH)
    return [
        {name: values[i] for name, values in inputs.items()} | {"labels": int(label)}
        for i, label in enumerate(columns["label"])
    ]


def train(data: Path, model: str, folder: Path, options: argparse.Namespace) -> None:
    """Train an adapter with plain PEFT and save it."""
    from peft import AdaLoraConfig, LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    set_seed(0)
    rows = rows_of(data / "train.parquet", model)
    total = round(options.epochs * len(rows) / BATCH)
    common: dict[str, Any] = {"task_type": "SEQ_CLS", "target_modules": "all-linear", "lora_alpha": ALPHA}
    if options.type == "adalora":
        stages = {"tinit": total // 10, "tfinal": total // 3, "deltaT": 5, "total_step": total}
        config: LoraConfig = AdaLoraConfig(init_r=round(1.5 * RANK), target_r=RANK, **stages, **common)
    else:
        config = LoraConfig(r=RANK, **common)
    peft_model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(model, num_labels=2), config)

    class Allocate(TrainerCallback):
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if options.type == "adalora":
                peft_model.base_model.update_and_allocate(state.global_step + 1)

    arguments = TrainingArguments(
        output_dir=str(folder) + "-trainer", num_train_epochs=options.epochs, per_device_train_batch_size=BATCH,
        learning_rate=options.learning_rate, warmup_steps=30, logging_steps=20, save_strategy="no", report_to=[],
        seed=0, train_sampling_strategy="group_by_length", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(model)
    Trainer(peft_model, arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[Allocate()]).train()  # type: ignore[arg-type]
    peft_model.save_pretrained(str(folder))


@torch.no_grad()
def logits_in_peft(folder: Path, rows: Rows, model: str) -> tuple[torch.Tensor, int]:
    """The logits (examples x 2) and adapter parameters of an adapter in plain PEFT."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
    peft_model = PeftModel.from_pretrained(base, str(folder)).eval()
    tokenizer, logits = AutoTokenizer.from_pretrained(model), []
    for start in range(0, len(rows), BATCH):
        batch = [{name: row[name] for name in row if name != "labels"} for row in rows[start : start + BATCH]]
        logits.append(peft_model(**tokenizer.pad(batch, return_tensors="pt")).logits)
    params = sum(p.numel() for name, p in peft_model.named_parameters() if "lora_" in name)
    return torch.cat(logits), params


def main() -> None:
    """Train the adapter if necessary, shrink it and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--type", choices=["lora", "adalora"], default="lora")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    if not options.adapter.exists():
        train(options.data, options.model, options.adapter, options)
    started = time.perf_counter()
    result = autorank.shrink(options.adapter, task="mrpc", data=options.data)
    seconds = time.perf_counter() - started
    rows = rows_of(options.data / "validation.parquet", options.model)
    labels = torch.tensor([row["labels"] for row in rows])
    uncut_logits, params = logits_in_peft(options.adapter, rows, options.model)
    print(f"as PEFT saved it: {params:,} parameters, {(uncut_logits.argmax(1) == labels).float().mean():.4f} in PEFT")
    print("| parameters | energy | score | parameters in PEFT | score in PEFT |\n|---|---|---|---|---|")
    for size in result.sizes:
        with tempfile.TemporaryDirectory() as folder:
            autorank.shrink(options.adapter, max_params=size.adapter_params, to=Path(folder) / "slice")
            logits, params = logits_in_peft(Path(folder) / "slice", rows, options.model)
        score = (logits.argmax(1) == labels).float().mean()
        row = f"{size.adapter_params:,} | {size.energy:.1%} | {size.score:.4f} | {params:,} | {score:.4f}"
        print(f"| {row} |", flush=True)
    print(f"largest difference of the uncut adapter's logits: {(logits - uncut_logits).abs().max():.1e}")
    print(f"{seconds:.0f} s for the scores of {len(result.sizes)} sizes")
    if options.steps:
        quarter = result.sizes[-1].adapter_params // 4
        trained = autorank.shrink(
            options.adapter, task="mrpc", data=options.data, max_params=quarter, steps=options.steps
        )
        print("\n".join(trained.notes))


if __name__ == "__main__":
    main()
