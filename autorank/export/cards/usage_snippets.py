"""The Python code with which a model card shows how to load an export, for each form."""

from __future__ import annotations

from typing import Literal, NamedTuple

from autorank.export.cards.rendering import render
from autorank.export.hf_metadata import SINGLE_LABEL
from autorank.modeling import heads
from autorank.modeling.adapter_file import Origin
from autorank.modeling.loading.hub_access import hub_access
from autorank.modeling.loading.remote_code import trusted
from autorank.spec import TrainSpec

Form = Literal["merged model", "PEFT adapter", "padded PEFT adapter", "autorank adapter"]
LIBRARIES: dict[Form, str] = {
    "merged model": "transformers",
    "PEFT adapter": "peft",
    "padded PEFT adapter": "peft",
    "autorank adapter": "autorank",
}
_TRUST = ", trust_remote_code=True"  # for models trained with --trust-remote-code


class _Loader(NamedTuple):
    """The import statement and the function that load an adapter onto its base model."""

    statement: str
    function: str


_LOADERS = {
    "peft": _Loader("from peft import PeftModel", "PeftModel.from_pretrained"),
    "autorank": _Loader("from autorank import load_adapter", "load_adapter"),
}


def usage_code(origin: Origin, form: Form, train: TrainSpec) -> str:
    """Python code that loads an export as `model` and, where that is short, applies it.

    Args:
        origin: The base model and the head of the adapter.
        form: The form of the export.
        train: How the adapter was trained; a generation task's prompt is taken from it.

    Returns:
        Code in which the export's directory is "path/to/adapter", or "path/to/model" for a merged model.
    """
    if origin.head.generates:
        return _generation_code(origin, form, train)
    trust = train.task.trust_remote_code
    return render(
        "classify.py", origin=origin, form=form, trust=_TRUST if trust else "",
        loader=_LOADERS.get(LIBRARIES[form]), base_code=base_code(origin, trust),
    )  # fmt: skip


def base_code(origin: Origin, trust: bool = False) -> str:
    """Python code that loads the base model as `base`, with a new head unless the task is text generation.

    Args:
        origin: The base model and the head.
        trust: Allow the code that comes with the model (`trust_remote_code`).

    Returns:
        One statement.
    """
    name = origin.public_model
    if origin.head.generates:
        return f"base = AutoModelForCausalLM.from_pretrained({name!r}, dtype=torch.float32)"
    labels = dict(enumerate(origin.label_names))
    problem_type = origin.problem_type or SINGLE_LABEL if origin.head == heads.SEQUENCE else None
    return render("base.py", origin=origin, name=name, labels=labels, trust=trust, problem_type=problem_type)


def encoder_decoder(origin: Origin) -> bool:
    """Whether the base model generates text with an encoder and a decoder, as T5 and BART do.

    Raises:
        AutorankError: The base model does not exist, or the Hub cannot be reached.
    """
    from transformers import AutoConfig

    if not origin.head.generates:
        return False
    with hub_access("model", origin.model):
        config = AutoConfig.from_pretrained(origin.model, trust_remote_code=trusted())
    return bool(getattr(config, "is_encoder_decoder", False))


def _generation_code(origin: Origin, form: Form, train: TrainSpec) -> str:
    """Code that generates text from a prompt formatted as in training."""
    from autorank.tasks import TASKS
    from autorank.tasks.named import generation
    from autorank.tasks.prompts.chat_encoding import ChatEncoding
    from autorank.tasks.prompts.prompting import END_OF_PROMPT, prompting
    from autorank.tasks.tokenization import load_tokenizer

    task = generation.own_task(train.task.name, (), "") if train.task.own_data else TASKS[train.task.name]
    how = prompting(task, train.task, origin.model, load_tokenizer(origin.model))
    merged = form == "merged model"
    return render(
        "generate.py",
        loader=None if merged else _LOADERS[LIBRARIES[form]],
        base="path/to/model" if merged else origin.public_model,
        model_class="AutoModelForCausalLM" if how.start is None else "AutoModelForSeq2SeqLM",
        trust=_TRUST if train.task.trust_remote_code else "",
        prompting=how,
        chat=isinstance(how, ChatEncoding),
        ends=how.ends if len(how.ends) > 1 else how.ends[0],
        pad_id=origin.pad_id,
        prompt=task.template.format("..."),
        end_of_prompt=END_OF_PROMPT,
    )
