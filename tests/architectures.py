"""The architectures in the table of docs/models.md: a tiny config of each, and its row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as t

from autorank.modeling import heads, target_modules
from autorank.modeling.loading.auto_model import auto_class
from tests import families, tiny_models

TOKENS, SIZES, DECODER, ENCODER = families.TOKENS, families.SIZES, families.DECODER, families.ENCODER
OFFSET = ENCODER | {"pad_token_id": 1, "bos_token_id": 0}  # positions start after the padding token
POSITIONS = {"max_position_embeddings": 70}
COMMON = TOKENS | SIZES | POSITIONS
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
VISION = SIZES | {"image_size": 28, "patch_size": 14}
BART = TOKENS | families.BART

ENCODERS = {
    "albert": ("Albert", ENCODER | {"embedding_size": 16}),
    "bert": ("Bert", ENCODER),
    "camembert": ("Camembert", OFFSET),
    "convbert": ("ConvBert", ENCODER | {"embedding_size": 16}),
    "deberta": ("Deberta", ENCODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "deberta-v2": families.FAMILIES["deberta-v2"],
    "distilbert": families.FAMILIES["distilbert"],
    "electra": families.FAMILIES["electra"],
    "ernie": ("Ernie", ENCODER),
    "eurobert": ("EuroBert", DECODER),
    "megatron-bert": ("MegatronBert", ENCODER),
    "modernbert": families.FAMILIES["modernbert"],
    "mpnet": ("MPNet", OFFSET),
    "nomic_bert": ("NomicBert", DECODER),
    "rembert": ("RemBert", ENCODER | {"input_embedding_size": 16, "output_embedding_size": 16}),
    "roberta": ("Roberta", OFFSET),
    "roformer": ("RoFormer", ENCODER | {"embedding_size": 16}),
    "xlm-roberta": ("XLMRoberta", OFFSET),
}
DECODERS = {
    "bloom": families.LAYER_NAMES_ONLY["bloom"],
    "cohere": ("Cohere", DECODER),
    "exaone4": ("Exaone4", DECODER | {"layer_types": ["full_attention"] * 2}),
    "falcon": ("Falcon", COMMON),
    "gemma": ("Gemma", DECODER),
    "gemma2": ("Gemma2", DECODER | {"query_pre_attn_scalar": 16}),
    "gemma3_text": ("Gemma3Text", DECODER | {"query_pre_attn_scalar": 16}),
    "glm4": ("Glm4", DECODER),
    "gpt2": families.FAMILIES["gpt2"],
    "gpt_bigcode": ("GPTBigCode", TOKENS | families.GPT2),
    "gpt_neo": (
        "GPTNeo",
        TOKENS
        | POSITIONS
        | {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    ),
    "gpt_neox": families.LAYER_NAMES_ONLY["gpt-neox"],
    "gptj": ("GPTJ", TOKENS | families.GPT2 | {"rotary_dim": 8}),
    "granite": ("Granite", DECODER),
    "lfm2": ("Lfm2", DECODER | {"layer_types": ["conv", "full_attention"]}),
    "llama": families.FAMILIES["llama"],
    "mistral": families.FAMILIES["mistral"],
    "olmo2": ("Olmo2", DECODER),
    "opt": ("OPT", COMMON | {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "phi": ("Phi", COMMON),
    "phi3": families.LAYER_NAMES_ONLY["phi3"],
    "qwen2": families.FAMILIES["qwen2"],
    "qwen3": families.FAMILIES["qwen3"],
    "smollm3": ("SmolLM3", DECODER),
    "stablelm": ("StableLm", DECODER),
    "starcoder2": ("Starcoder2", DECODER),
}
MIXTURES = {
    "gpt_oss": (
        "GptOss",
        DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"] * 2},
    ),
    "mixtral": ("Mixtral", DECODER | {"num_local_experts": 4}),
    "olmoe": ("Olmoe", DECODER | {"num_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("Qwen3Moe", DECODER | EXPERTS | {"num_experts": 4, "decoder_sparse_step": 1, "mlp_only_layers": []}),
}
ENCODER_DECODERS = {
    "bart": ("Bart", BART),
    "marian": ("Marian", BART | {"scale_embedding": False}),
    "mbart": ("MBart", BART),
    "mt5": ("MT5", TOKENS | families.T5),
    "pegasus": ("Pegasus", BART),
    "t5": families.FAMILIES["t5"],
    "t5gemma": ("T5Gemma", {"encoder": DECODER, "decoder": DECODER | {"cross_attention_hidden_size": 32}}),
}
MULTIMODAL = {
    "gemma3": ("Gemma3", {"text_config": DECODER, "vision_config": VISION, "mm_tokens_per_image": 1}),
    "git": ("Git", COMMON | {"vision_config": VISION}),
}
FORMS = {
    "encoder": ENCODERS,
    "decoder": DECODERS,
    "mixture of experts": MIXTURES,
    "encoder-decoder": ENCODER_DECODERS,
    "with images": MULTIMODAL,
}
ALL = {name: entry for form in FORMS.values() for name, entry in form.items()}


@dataclass(frozen=True)
class Architecture:
    """A tiny config, and the head to train: a classifier if transformers has one, else text generation."""

    name: str
    config: Any
    head: heads.Head

    @property
    def outputs(self) -> int:
        return 0 if self.head.generates else 2

    def auto_class(self) -> Any:
        return auto_class(self.head, self.config)

    def meta_model(self) -> torch.nn.Module:
        with torch.device("meta"):
            network: torch.nn.Module = self.auto_class().from_config(self.config)
        return network

    def save(self, folder: Path) -> str:
        """Write a random model with its head, and a tokenizer with an end token."""
        torch.manual_seed(0)
        network = self.auto_class().from_config(self.config)
        for parameter in network.parameters():  # weights drawn at 0.02 would be too close to zero
            parameter.data += 0.05 * torch.randn(parameter.shape)
        network.save_pretrained(folder)
        tiny_models.tokenizer(folder)
        tokenizer = t.AutoTokenizer.from_pretrained(folder)
        tokenizer.eos_token = "[SEP]"
        tokenizer.save_pretrained(folder)
        return str(folder)


def architecture(name: str) -> Architecture:
    cls, settings = ALL[name]
    config = getattr(t, f"{cls}Config")(**settings)
    config.pad_token_id = settings.get("pad_token_id", 0)
    config.num_labels = 2
    classifies = type(config) in t.AutoModelForSequenceClassification._model_mapping
    return Architecture(name, config, heads.SEQUENCE if classifies else heads.TEXT)


def row(form: str, name: str) -> str:
    """The architecture's row of the table in docs/models.md."""
    chosen = architecture(name)
    model = chosen.meta_model()
    task = "classification" if chosen.head == heads.SEQUENCE else "text to text"
    return f"| `{name}` | {form} | {task} | {_layers(model, 'attention-qv')} | {_layers(model, 'ffn')} |"


def _layers(model: torch.nn.Module, targets: str) -> str:
    """The last parts of the layers' names, or how the layers are adapted instead."""
    layers = [
        name
        for name in target_modules.adaptable_layers(model)
        if target_modules.role(name) in target_modules.SETS[targets]
    ]
    if not layers:
        return "fused experts" if target_modules.fused_experts(model) and targets == "ffn" else "by name"
    parts = {name: name.split(".") for name in layers}
    suffixes = {".".join(part[-2:]) if part[-1] in ("dense", "Wo", "c_proj") else part[-1] for part in parts.values()}
    return ", ".join(f"`{suffix}`" for suffix in sorted(suffixes))


def table() -> list[str]:
    """The table's rows, by form and name."""
    return [row(form, name) for form, members in FORMS.items() for name in sorted(members)]
