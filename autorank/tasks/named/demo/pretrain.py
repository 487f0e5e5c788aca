"""Trains the demo's base model from scratch on text of the grammar; takes 15 minutes on one core.

    OMP_NUM_THREADS=1 python -m autorank.tasks.named.demo.pretrain --to DIR

Two objectives alternate: masked language modeling on pairs of sentences with the same meaning, and predicting which of
the grammar's `CHANGES` separate two sentences (read from `<s>`, with a head that is discarded). Within a pair, the text
uses one word per concept and has no swaps, so fine-tuning has to learn synonyms and the roles of the parties. The depth
grows during training: each layer of a shallow model is repeated (in the spirit of progressive stacking, Gong et al.
2019). The same seed gives the same weights on the same machine. Source: ours.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from autorank.tasks.named.demo import grammar

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
START, PAD, END, UNKNOWN, MASK = range(5)
HIDDEN = 64
STAGES = ((4, 6000, 2e-3), (12, 5000, 1.5e-3))  # (layers, steps, peak learning rate)
PAIRS = 120_000  # for each objective
BATCH = 64
Batch = tuple[torch.Tensor, torch.Tensor]  # ids, `pairs x sequence`; applied edits, `pairs x CHANGES`


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token per word: `<s> sentence1 </s> sentence2 </s>`."""
    rng = Random(0)
    text = " ".join(grammar.words(grammar.draw(rng), rng, rng.choice) for _ in range(20_000))
    vocabulary = (*SPECIAL, *sorted(set(text.replace(",", " ,").split())))
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", START), ("</s>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
    )  # fmt: skip


def batches(tokenizer: PreTrainedTokenizerFast, share: float, rng: Random) -> list[Batch]:
    """Generate pairs in batches of about equal length.

    Args:
        tokenizer: The tokenizer.
        share: Probability of each of the `CHANGES`.
        rng: Random numbers.

    Returns:
        The batches.
    """
    text: list[tuple[str, str]] = []
    edits_made: list[list[float]] = []
    for _ in range(PAIRS):
        meaning = other = grammar.draw(rng)
        edits: list[float] = []
        for edit in grammar.CHANGES:
            edited = edit(other, rng) if rng.random() < share else None
            edits.append(float(edited is not None))
            other = edited or other
        pick = grammar.habit(rng)
        text.append((grammar.words(meaning, rng, pick), grammar.words(other, rng, pick)))
        edits_made.append(edits)
    rows = tokenizer(text, return_attention_mask=False)["input_ids"]
    order = sorted(range(PAIRS), key=lambda row: len(rows[row]))
    result = []
    for start in range(0, PAIRS, BATCH):
        chunk = order[start : start + BATCH]
        length = len(rows[chunk[-1]])
        ids = [rows[row] + [PAD] * (length - len(rows[row])) for row in chunk]
        result.append((torch.tensor(ids), torch.tensor([edits_made[row] for row in chunk])))
    return result


def mask(ids: torch.Tensor, words: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask words as BERT does (arXiv 1810.04805, 3.1: 80% masks, 10% random words).

    Half of one sentence is masked, half of the other, or a quarter of both. If one sentence is complete, the masked
    words of the other can be derived from it.

    Args:
        ids: Token ids, `pairs x sequence`.
        words: Ids of all words.

    Returns:
        Masked ids and labels, both `pairs x sequence`.
    """
    second = (ids == END).cumsum(1) > 0
    side = torch.randint(3, (len(ids), 1))
    share = torch.where(side == 2, 0.25, 0.5 * (side == second))
    draw = torch.rand(ids.shape).masked_fill(ids < len(SPECIAL), 1.0)
    inputs = torch.where(draw < 0.9 * share, torch.randint(words.start, words.stop, ids.shape), ids)
    return inputs.masked_fill(draw < 0.8 * share, MASK), ids.masked_fill(draw >= share, -100)


def build_model(vocabulary: int, layers: int) -> RobertaForMaskedLM:
    """Build an untrained model."""
    return RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=vocabulary,
            hidden_size=HIDDEN,
            intermediate_size=2 * HIDDEN,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=66,  # RoBERTa counts positions from 2
            type_vocab_size=1,
            hidden_act="relu",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.05,
            bos_token_id=START,
            pad_token_id=PAD,
            eos_token_id=END,
        )
    )


def deepen(shallow: RobertaForMaskedLM, layers: int) -> RobertaForMaskedLM:
    """Build a model of `layers` layers, a multiple of the shallow model's, by repeating each layer."""
    times = layers // shallow.config.num_hidden_layers
    deep = build_model(shallow.config.vocab_size, layers)
    weights = {name: tensor for name, tensor in shallow.state_dict().items() if ".layer." not in name}
    for index, layer in enumerate(deep.roberta.encoder.layer):
        layer.load_state_dict(shallow.roberta.encoder.layer[index // times].state_dict())
    deep.load_state_dict({**deep.state_dict(), **weights})
    return deep


def train(
    model: RobertaForMaskedLM,
    head: torch.nn.Linear,
    alike: list[Batch],
    edited: list[Batch],
    steps: int,
    peak: float,
    rng: Random,
) -> None:
    """Train with AdamW, linear warmup and decay; the objective of each step is chosen at random.

    Args:
        model: The model, trained in place.
        head: The head of the second objective.
        alike: Batches of pairs with the same meaning.
        edited: Batches of pairs with edits.
        steps: Number of steps.
        peak: Peak learning rate.
        rng: Random numbers.
    """
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    warmup = steps // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup))
    )
    words = range(len(SPECIAL), model.config.vocab_size)
    recent: dict[str, list[float]] = {"masked": [], "edits": []}
    started = time.monotonic()
    for step in range(1, steps + 1):
        objective = rng.choice(("masked", "edits"))
        ids, edits_made = rng.choice(alike if objective == "masked" else edited)
        inputs, labels = mask(ids, words) if objective == "masked" else (ids, ids)
        hidden = model.roberta(input_ids=inputs, attention_mask=(ids != PAD).long()).last_hidden_state
        if objective == "masked":
            masked = labels != -100
            loss = F.cross_entropy(model.lm_head(hidden[masked]), labels[masked])
        else:
            loss = F.binary_cross_entropy_with_logits(head(hidden[:, 0]), edits_made)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        recent[objective].append(loss.item())
        if step % 250 == 0:
            losses = ", ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in recent.items())
            layers = model.config.num_hidden_layers
            print(f"{layers} layers, step {step}/{steps}: {losses}, {time.monotonic() - started:.0f} s", flush=True)
            recent = {name: [] for name in recent}


def pretrain(to: Path, seed: int = 0) -> None:
    """Train the model and write it, with its tokenizer, to a directory.

    Args:
        to: The directory.
        seed: Random seed of data and weights.
    """
    torch.manual_seed(seed)
    rng = Random(seed)
    tokenizer = build_tokenizer()
    alike, edited = batches(tokenizer, 0.0, rng), batches(tokenizer, 0.2, rng)
    head = torch.nn.Linear(HIDDEN, len(grammar.CHANGES))
    model = build_model(len(tokenizer), STAGES[0][0])
    for layers, steps, peak in STAGES:
        if layers > model.config.num_hidden_layers:
            model = deepen(model, layers)
        train(model, head, alike, edited, steps, peak, rng)
    model.roberta.save_pretrained(to)
    tokenizer.save_pretrained(to)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="directory for model and tokenizer")
    pretrain(parser.parse_args().to)
