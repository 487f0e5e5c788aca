"""Makes the demo's base model: masked language modelling on the grammar's own text, from scratch.

    python -m autorank.tasks.demo.pretrain --to DIR

The model in `model/` came from this command, run on one GPU. Same seed, same machine: same weights. Source: ours.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from autorank.tasks.demo import grammar

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # RoBERTa's, whose ids are 0, 1, 2 and 3 for the first four
LENGTH = 44  # tokens; the longest pair has fewer


class Recipe(NamedTuple):
    """What is trained, and for how long."""

    hidden: int = 96
    intermediate: int = 192
    layers: int = 12
    heads: int = 4
    pairs: int = 1_000_000
    steps: int = 20_000
    batch: int = 512
    lr: float = 1e-3
    warmup: float = 0.05  # of the steps
    masked: float = 0.2  # of the tokens
    seed: int = 0


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: `<s> sentence1 </s> sentence2 </s>`."""
    words = sorted({word for pair in islice(grammar.pretraining_pairs(0), 20_000) for word in _split(pair)})
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
    )  # fmt: skip


def _split(pair: tuple[str, str]) -> list[str]:
    return " ".join(pair).replace(",", " ,").split()


def encode(tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> torch.Tensor:
    """Token ids, `pairs x LENGTH`, padded."""
    rows = tokenizer(pairs, padding="max_length", max_length=LENGTH, return_attention_mask=False)["input_ids"]
    return torch.tensor(rows)


def mask(ids: torch.Tensor, share: float, words: range, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """BERT's masking of `batch x sequence` ids: inputs and labels (arXiv 1810.04805, 3.1: 80 % mask, 10 % random)."""
    draw = torch.rand(ids.shape, generator=rng, device=ids.device)
    draw = draw.masked_fill(ids < len(SPECIAL), 1.0)
    chosen = draw < share
    labels = ids.masked_fill(~chosen, -100)
    random = torch.randint(words.start, words.stop, ids.shape, generator=rng, device=ids.device)
    inputs = torch.where(draw < 0.9 * share, random, ids)
    return inputs.masked_fill(draw < 0.8 * share, SPECIAL.index("<mask>")), labels


def pretrain(to: Path, recipe: Recipe = Recipe()) -> float:
    """Trains as `recipe` says and writes model and tokenizer to `to`. Returns the mean loss of the last 100 steps."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(recipe.seed)
    rng = torch.Generator(device).manual_seed(recipe.seed)
    tokenizer = build_tokenizer()
    words = range(len(SPECIAL), len(tokenizer))
    data = encode(tokenizer, list(islice(grammar.pretraining_pairs(recipe.seed + 1), recipe.pairs))).to(device)
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=66,  # RoBERTa counts positions from 2
            type_vocab_size=1,
            hidden_act="relu",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.05,
        )
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0.01)
    warm = int(recipe.warmup * recipe.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (recipe.steps - step) / (recipe.steps - warm))
    )
    recent: list[torch.Tensor] = []
    for step in range(1, recipe.steps + 1):
        rows = torch.randint(len(data), (recipe.batch,), generator=rng, device=device)
        ids = data[rows]
        inputs, labels = mask(ids, recipe.masked, words, rng)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(input_ids=inputs, attention_mask=(ids != 1).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        recent = [*recent[-99:], loss.detach()]
        if step % 1000 == 0:
            print(f"step {step}/{recipe.steps}: loss {torch.stack(recent).mean():.4f}", flush=True)
    model.roberta.half().save_pretrained(to)
    tokenizer.save_pretrained(to)
    return float(torch.stack(recent).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="folder for model and tokenizer")
    pretrain(parser.parse_args().to)
