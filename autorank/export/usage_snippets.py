"""The code by which a model card says how an export is loaded, in each of its forms."""

from __future__ import annotations

from typing import Literal

from autorank.modeling.adapter_file import Origin
from autorank.modeling.hub_access import hub_access, public_name
from autorank.modeling.remote_code import trusted
from autorank.spec import TrainSpec

Form = Literal["merged model", "PEFT adapter", "padded PEFT adapter", "autorank adapter"]
LIBRARIES: dict[Form, str] = {
    "merged model": "transformers",
    "PEFT adapter": "peft",
    "padded PEFT adapter": "peft",
    "autorank adapter": "autorank",
}
_TRUSTING = ", trust_remote_code=True"  # of what was trained with --trust-remote-code
_LOADERS = {  # import, call
    "peft": ("from peft import PeftModel", "PeftModel.from_pretrained"),
    "autorank": ("from autorank import load_adapter", "load_adapter"),
}


def code(origin: Origin, form: Form, train: TrainSpec) -> str:
    """Python that loads the model from "this folder" as `model`, and uses it where that takes a line."""
    if origin.kind == "generation":
        return _writing(origin, form, train)
    return _loading(origin, form, train.task.trust_remote_code)


def base_code(origin: Origin, trust: bool = False) -> str:
    """Python that loads the base with an empty head as `base`; for texts to be written, without a head.

    Args:
        trust: run the code that comes with it.
    """
    name = public_name(origin.model) or origin.model
    if origin.kind == "generation":
        return f"base = AutoModelForCausalLM.from_pretrained({name!r}, dtype=torch.float32)"
    more = f"\n    id2label={dict(enumerate(origin.label_names))!r}," if origin.label_names else ""
    more += '\n    problem_type="regression",' if origin.kind == "regression" else ""
    more += "\n    trust_remote_code=True," if trust else ""
    return f"""base = {head_class(origin)}.from_pretrained(
    {name!r},
    num_labels={origin.outputs},
    pad_token_id={origin.pad_id},
    dtype=torch.float32,{more}
)"""


def head_class(origin: Origin) -> str:
    """transformers' class of a model with a head, for a kind of task."""
    return "AutoModelForQuestionAnswering" if origin.kind == "span" else "AutoModelForSequenceClassification"


def encoder_decoder(origin: Origin) -> bool:
    """Whether the base writes texts with a decoder beside its encoder, as T5 and BART do.

    Raises:
        AutorankError: there is no such base, or the Hub is out of reach.
    """
    from transformers import AutoConfig

    if origin.kind != "generation":
        return False
    with hub_access("model", origin.model):
        config = AutoConfig.from_pretrained(origin.model, trust_remote_code=trusted())
    return bool(getattr(config, "is_encoder_decoder", False))


def _loading(origin: Origin, form: Form, trust: bool) -> str:
    model, more = head_class(origin), _TRUSTING if trust else ""
    if form == "merged model":
        if origin.kind == "span":  # transformers 5 has no pipeline for it
            return f"""from transformers import AutoTokenizer, {model}

tokenizer = AutoTokenizer.from_pretrained("this folder"{more})
model = {model}.from_pretrained("this folder"{more})"""
        return f"""from transformers import pipeline

classify = pipeline("text-classification", "this folder"{more})
model = classify.model
print(classify({{"text": "...", "text_pair": "..."}}, truncation=True))  # or a text alone, or a list"""
    package, load = _LOADERS[LIBRARIES[form]]
    return f"""import torch
{package}
from transformers import {model}

{base_code(origin, trust)}
model = {load}(base, "this folder")"""


def _writing(origin: Origin, form: Form, train: TrainSpec) -> str:
    """How a text is written, from the prompt as it was in training."""
    from autorank.tasks import TASKS, generation
    from autorank.tasks.data.tokenization import load_tokenizer
    from autorank.tasks.prompting import END_OF_PROMPT, prompting

    task = generation.own_task(train.task.name, "", "") if train.task.own_data else TASKS[train.task.name]
    how = prompting(task, train.task, origin.model, load_tokenizer(origin.model))
    model = "AutoModelForCausalLM" if how.start is None else "AutoModelForSeq2SeqLM"
    package, load = "", "base.eval()"
    if form != "merged model":
        package, call = _LOADERS[LIBRARIES[form]]
        package, load = f"{package}\n", f'{call}(base, "this folder").eval()'
    folder = "this folder" if form == "merged model" else public_name(origin.model) or origin.model
    more = _TRUSTING if train.task.trust_remote_code else ""
    decoder = "" if how.start is None else f", decoder_start_token_id={how.start}"
    if how.chat:
        inputs = """tokenizer.apply_chat_template(
    [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
    else:
        ended = f" + {END_OF_PROMPT!r}" if how.start is None else ""
        inputs = f'tokenizer(prompt{ended}, return_tensors="pt", return_token_type_ids=False)'
    begin = 'inputs["input_ids"].shape[1]' if how.start is None else "1"
    return f"""import torch
{package}from transformers import {model}, AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained({folder!r}{more})
base = {model}.from_pretrained({folder!r}, dtype=torch.float32{more})
base.generation_config = GenerationConfig(  # greedy, as it was scored
    eos_token_id={how.tokenizer.eos_token_id}, pad_token_id={origin.pad_id}{decoder}
)
model = {load}

prompt = {task.template.format("...")!r}
inputs = {inputs}
written = model.generate(**inputs, max_new_tokens=256)
print(tokenizer.decode(written[0, {begin}:], skip_special_tokens=True).strip())"""
