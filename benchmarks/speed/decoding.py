"""Measures what dropping of completed texts saves in evaluations of E2E: rows of all decoding steps, and time.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.decoding --data E2E

E2E is a directory with train and validation files. A GPT-2 with 4 layers of width 256 and a vocabulary of 2,000 is
trained on it from random weights, so that its texts end as those of a trained adapter do. Then prompts are completed
twice in batches of `--batch`, with and without dropping; the texts must be equal. Float32.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from autorank.modeling.forward import greedy_decoding
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun

SIZE = {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 256}
VOCABULARY = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_model(arguments.data, Path(folder))
        spec = TrainSpec(
            task=TaskSpec(name="e2e", data=arguments.data, metric="likelihood", max_eval_examples=arguments.prompts),
            model=folder, method="full", settings={"learning_rate": 1e-3},
            training=TrainingSpec(steps=arguments.steps, batch_size=16, eval_every=arguments.steps, precision="fp32"),
        )  # fmt: skip
        run = TrainingRun(spec, ModelCache("cpu"))
        (evaluation,) = run
        print(f"{arguments.steps} steps, likelihood {evaluation.score:.3f}")
        for batch in arguments.batch:
            compare(run, batch)


def write_model(data: Path, folder: Path) -> None:
    """Write a random GPT-2 and a tokenizer made from the training texts."""
    import pandas as pd
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    rows = pd.read_parquet(data / "train.parquet")
    tokenizer = ByteLevelBPETokenizer()
    texts = [*rows["meaning_representation"], *rows["human_reference"]]
    tokenizer.train_from_iterator(texts, VOCABULARY, special_tokens=["<end>", "<pad>"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<end>", bos_token="<end>", pad_token="<pad>",
        model_max_length=SIZE["n_positions"],
    ).save_pretrained(folder)  # fmt: skip
    config = GPT2Config(**SIZE, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, pad_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(folder)


def compare(run: TrainingRun, batch: int) -> None:
    """Complete the prompts with and without dropping; print rows, forward passes and seconds of both."""
    with_dropping = complete_prompts(run, batch)
    with mock.patch.object(greedy_decoding, "_new_cache", lambda _: {}):
        without_dropping = complete_prompts(run, batch)
    assert with_dropping[0] == without_dropping[0], "texts differ"
    rows, passes, seconds = zip(with_dropping[1:], without_dropping[1:], strict=True)
    print(f"batches of {batch}: rows x steps {rows[0]:,} of {rows[1]:,}, ratio {rows[0] / rows[1]:.2f}")
    print(f"    steps {passes[0]} and {passes[1]}, {seconds[0]:.1f} and {seconds[1]:.1f} s")


def complete_prompts(run: TrainingRun, batch: int) -> tuple[list[str], int, int, float]:
    """Complete the prompts; return the texts, rows of all forward passes, number of forward passes, and seconds."""
    sizes: list[int] = []
    model: Any = run._base.model
    hook = model.register_forward_pre_hook(
        lambda _, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    objective: Any = run._objective
    texts: list[str] = []
    started = time.perf_counter()
    for split in run._data.validation.values():
        prompts: Any = split.grouped()  # type: ignore[attr-defined]
        texts += objective.write(run._loop, prompts, int(prompts.target_lengths.max()), batch)
    hook.remove()
    return texts, sum(sizes), len(sizes), time.perf_counter() - started


if __name__ == "__main__":
    main()
