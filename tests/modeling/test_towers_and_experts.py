"""Layers that are not adapted: towers that text does not pass through, experts whose weights are one tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import nn

from autorank.errors import AutorankError
from autorank.modeling import adapters, base_model, heads, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.searching.space.param_bounds import ParamBounds
from autorank.spec import MethodSpec, TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import families, tiny_models

VISION = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
TOWERS: dict[str, tuple[Any, Any, heads.Head]] = {
    "gemma3": (
        t.Gemma3ForConditionalGeneration,
        t.Gemma3Config(text_config=families.DECODER, vision_config=VISION, mm_tokens_per_image=1),
        heads.SEQUENCE,
    ),
    "git": (
        t.GitForCausalLM,
        t.GitConfig(vision_config=VISION, **families.TOKENS | families.SIZES | {"max_position_embeddings": 70}),
        heads.TEXT,
    ),
    "plain": (t.LlamaForCausalLM, families.config("llama"), heads.SEQUENCE),
}


def save_model(case: str, folder: Path) -> str:
    cls, config, _ = TOWERS[case]
    torch.manual_seed(0)
    cls(config).save_pretrained(folder)
    tiny_models.tokenizer(folder)
    return str(folder)


@pytest.mark.parametrize("case", TOWERS)
def test_exactly_the_layers_with_a_gradient_are_adapted(case: str, tmp_path: Path) -> None:
    """A layer is adapted if and only if its weight influences the output for a text."""
    head = TOWERS[case][2]
    loaded = base_model.load(save_model(case, tmp_path), 0 if head.generates else 2, head=head)
    loaded.model.config.pad_token_id = 0
    selected = target_modules.find(loaded.model, "all-linear")
    layers = target_modules.linear_layers(loaded.model)
    loaded.model.requires_grad_(True)
    loaded.model.eval()(input_ids=torch.arange(4, 20).view(2, 8)).logits.square().sum().backward()
    used = {name for name, layer in layers.items() if layer.weight.grad is not None and layer.weight.grad.any()}
    assert set(selected) == used
    assert (used == set(layers)) == (case == "plain")
    meta_model = base_model.meta_model(str(tmp_path), 0 if head.generates else 2, head)
    # a search counts the same parameters as a training
    assert set(target_modules.find(meta_model, "all-linear")) == used


def test_the_layers_of_an_adapted_model_are_the_same(tmp_path: Path) -> None:
    loaded = base_model.load(save_model("gemma3", tmp_path), 2)
    before = set(target_modules.find(loaded.model, "all-linear"))
    for name in list(before)[:3]:
        layer = loaded.model.get_submodule(name)
        generator = torch.Generator().manual_seed(0)
        update = LowRankUpdate.lora(*target_modules.features(layer), rank=1, alpha=1, generator=generator)
        adapters.attach(loaded.model, name, update)
    target_modules._PASSED.clear()
    assert {name.removesuffix(".base") for name in target_modules.find(loaded.model, "all-linear")} <= before
    adapters.detach_all(loaded.model)
    assert set(target_modules.find(loaded.model, "all-linear")) == before


def test_a_module_without_a_configuration_has_all_its_layers() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"q_proj": nn.Linear(2, 2)})])})
    assert set(target_modules.find(model, "query")) == {"layers.0.q_proj"}


def mixture(folder: Path, shared: bool = False) -> str:
    """A mixture of experts; with `shared`, one of its layers is an ordinary feed-forward layer."""
    config = t.Qwen3MoeConfig(**families.DECODER | EXPERTS, mlp_only_layers=[0] if shared else [])
    torch.manual_seed(0)
    t.Qwen3MoeForCausalLM(config).save_pretrained(folder)
    tiny_models.tokenizer(folder)
    return str(folder)


def test_fused_experts_are_named(tmp_path: Path) -> None:
    model = base_model.meta_model(mixture(tmp_path))
    kinds = ["model.layers.mlp.experts.down_proj", "model.layers.mlp.experts.gate_up_proj"]
    assert target_modules.fused_experts(model) == kinds
    message = target_modules.unadapted(model, "attention-qv,ffn")
    assert message is not None and all(name in message for name in kinds)
    assert target_modules.unadapted(model, "all-linear") == message
    assert target_modules.unadapted(model, "attention-qv") is None
    with pytest.raises(AutorankError, match=r"'ffn' matches no linear layer.*experts of this model \(model\.layers"):
        target_modules.find(model, "ffn")
    assert not target_modules.fused_experts(families.meta_model("llama"))


def test_blocks_without_attention_are_counted() -> None:
    config = t.Lfm2Config(**families.DECODER, layer_types=["conv", "full_attention"])
    with torch.device("meta"):
        model = t.Lfm2ForCausalLM(config)
    message = target_modules.unadapted(model, "attention-qv")
    assert (
        message == "Not adapted: 1 of 2 blocks, which have no layer of attention-qv. targets=all-linear includes them."
    )
    for targets in ("all-linear", "attention-qv,ffn", "q_proj"):
        assert target_modules.unadapted(model, targets) is None
    assert target_modules.unadapted(families.meta_model("llama"), "attention") is None


def test_routers_that_return_two_tensors_are_not_adapted() -> None:
    config = t.Llama4TextConfig(**families.DECODER, intermediate_size_mlp=48, num_local_experts=4)
    with torch.device("meta"):
        model = t.Llama4ForCausalLM(config)
    assert any(name.endswith("router") for name in target_modules.linear_layers(model))
    assert not any(name.endswith("router") for name in target_modules.find(model, "all-linear"))


def test_convolutions_are_no_experts() -> None:
    layers = nn.ModuleList([nn.Conv1d(2, 2, 3)])
    assert target_modules.fused_experts(nn.ModuleDict({"layers": layers})) == []


def test_training_and_search_say_that_experts_are_not_adapted(tmp_path: Path) -> None:
    model = mixture(tmp_path / "model", shared=True)
    for split in ("train", "validation"):
        tiny_models.pairs_file(tmp_path / f"{split}.jsonl", 20)
    task = TaskSpec(name="pairs", data=tmp_path, text=("left", "right"), label="label")
    for targets, expected in (("ffn", 1), ("attention-qv", 0)):
        settings = {"targets": targets}
        run = TrainingRun(
            TrainSpec(task=task, model=model, method="lora", settings=settings, training=TrainingSpec(steps=1))
        )
        run.start()
        assert sum("experts" in sentence for sentence in run.summary().warnings) == expected
        entry = MethodSpec(method="lora", space={"rank": {"type": "int", "low": 1, "high": 2}}, settings=settings)
        assert (ParamBounds(task, model).unadapted(entry) is not None) == bool(expected)
