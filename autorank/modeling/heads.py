"""What transformers, PEFT and the Hub call a model with the head that a kind of task needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# the meaning of a sequence classifier's outputs, as in transformers' configurations; None: one of several classes
ProblemType = Literal["regression", "multi_label_classification"]


@dataclass(frozen=True)
class Head:
    """A form of model: its class in transformers and its names elsewhere. Stored in every adapter file.

    Attributes:
        model_class: Auto class of transformers.
        task_type: PEFT's name.
        pipeline: The Hub's name of the pipeline.
        examples: Architectures that have such a class, for messages.
        generates: Whether the model writes text; it then has no head of its own.
    """

    model_class: str
    task_type: str
    pipeline: str
    examples: str
    generates: bool = False


SEQUENCE = Head(
    "AutoModelForSequenceClassification", "SEQ_CLS", "text-classification",
    "BERT, RoBERTa, DeBERTa, ModernBERT, LLaMA, Qwen, BART, T5",
)  # fmt: skip
SPAN = Head(
    "AutoModelForQuestionAnswering", "QUESTION_ANS", "question-answering",
    "BERT, RoBERTa, DeBERTa, ELECTRA, ModernBERT",
)  # fmt: skip
TEXT = Head("AutoModelForCausalLM", "CAUSAL_LM", "text-generation", "LLaMA, Qwen, GPT-2", generates=True)
TEXT_TO_TEXT = Head("AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM", "text2text-generation", "BART, T5", generates=True)


def of_model(head: Head, config: object) -> Head:
    """The form that a model has: an encoder-decoder writes text with a class of its own.

    Args:
        head: The form that the kind of task needs.
        config: The model's configuration.

    Returns:
        The form.
    """
    return TEXT_TO_TEXT if head.generates and getattr(config, "is_encoder_decoder", False) else head
