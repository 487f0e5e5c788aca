"""Files that the commands in the documentation use, and a Hub with tiny models and datasets under the real names."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from autorank.tasks import TASKS
from autorank.tasks.definition import Task
from autorank.tasks.named.generation import OWN_MODEL
from tests import texts, tiny
from tests.docs.blocks import ROOT
from tests.tasks.loopback_hub import Repositories

Row = dict[str, Any]
ENCODERS = ("FacebookAI/roberta-base", "microsoft/deberta-v3-base")
DECODERS = ("openai-community/gpt2-medium", "meta-llama/Llama-2-7b-hf", OWN_MODEL)
KINDS = {"FacebookAI/roberta-base": "roberta", "microsoft/deberta-v3-base": "deberta-v2"}
FAMILIES = {"openai-community/gpt2-medium": "gpt2", "meta-llama/Llama-2-7b-hf": "llama", OWN_MODEL: "llama"}
TRAIN, VALIDATION = 64, 16


def models(folder: Path) -> dict[str, Path]:
    """Name on the Hub -> a tiny random model of that architecture."""
    made = {name: folder / name for name in (*ENCODERS, *DECODERS)}
    for name, place in made.items():
        place.mkdir(parents=True)
        tiny.model(KINDS[name], place) if name in KINDS else texts.model(FAMILIES[name], place, chat=name == OWN_MODEL)
    return made


def hub(models: dict[str, Path]) -> Repositories:
    """The Hub: these models, and the data sets of all named tasks that it has."""
    served: Repositories = {
        f"models/{name}": {file.name: file.read_bytes() for file in folder.iterdir()} for name, folder in models.items()
    }
    configurations: dict[str, list[Row]] = {}
    for task in TASKS.values():
        if task.hub is not None:
            repository, name = task.hub
            files = served.setdefault(f"datasets/{repository}", {})
            splits = [{"split": split, "path": f"{name}/{split}.jsonl"} for split in ("train", *task.validation)]
            for part in splits:
                files[part["path"]] = _jsonl(rows(task, TRAIN if part["split"] == "train" else VALIDATION))
            configurations.setdefault(repository, []).append({"config_name": name, "data_files": splits})
    own = served.setdefault("datasets/acme/reviews", {})
    own |= {f"english/{split}.jsonl": _jsonl(reviews()) for split in ("train", "test")}
    parts = [{"split": split, "path": f"english/{split}.jsonl"} for split in ("train", "test")]
    configurations["acme/reviews"] = [{"config_name": "english", "data_files": parts}]
    for repository, listed in configurations.items():
        card = yaml.safe_dump({"configs": listed})
        served[f"datasets/{repository}"]["README.md"] = f"---\n{card}---\n".encode()
    return served


def rows(task: Task, count: int) -> list[Row]:
    """Rows of a task's own columns."""
    if task.kind.name == "span":
        return tiny.questions(count, seed=count, unanswerable=task.unanswerable)
    if task.kind.head.generates:
        end = " #### {}" if task.metrics[0] == "exact_answer" else ""
        pairs = enumerate(texts.rows(count, seed=count))
        return [{task.text[0]: row["asked"], task.label: row["told"] + end.format(i)} for i, row in pairs]
    classes = len(task.label_names)
    return _labeled(count, task.text, task.label, lambda i: i % classes if classes else i % 6 - 0.5)


def reviews() -> list[Row]:
    """Rows of the user's reviews."""
    return _labeled(TRAIN, ("review",), "stars", lambda i: i % 5 + 1)


def folder(place: Path, models: dict[str, Path], store: Path) -> None:
    """A user's folder: data of their own and of named tasks, an encoder (`my-model`), a decoder (`my-llm`). All such
    folders share an MLflow store, as making one takes seconds."""
    (place / "examples").symlink_to(ROOT / "examples")
    (place / "runs").mkdir()
    (place / "runs" / "mlflow.db").symlink_to(store)
    for name, source in (("my-model", "FacebookAI/roberta-base"), ("my-llm", "meta-llama/Llama-2-7b-hf")):
        (place / name).symlink_to(models[source])
    for name in ("mrpc", "squad_v1", "squad_v2", "e2e"):
        (place / name).mkdir()
        for split, count in (("train", TRAIN), ("validation", VALIDATION)):
            (place / name / f"{split}.jsonl").write_bytes(_jsonl(rows(TASKS[name], count)))
    stars = reviews()
    (place / "reviews.csv").write_bytes(_csv(stars))
    (place / "shards").mkdir()
    for i in range(2):
        (place / "shards" / f"part-{i}.csv").write_bytes(_csv(stars[i::2]))
    (place / "pairs").mkdir()
    verdicts = _labeled(TRAIN, ("premise", "hypothesis"), "verdict", lambda i: ("true", "false", "open")[i % 3])
    (place / "pairs" / "train.csv").write_bytes(_csv(verdicts))
    answers = [{"question": row["asked"], "answer": row["told"]} for row in texts.rows(TRAIN)]
    (place / "qa.jsonl").write_bytes(_jsonl(answers))
    (place / "chats.jsonl").write_bytes(_jsonl([{"messages": _chat(row)} for row in answers]))
    alpaca = [{"instruction": row["question"], "input": "", "output": row["answer"]} for row in answers]
    (place / "alpaca.json").write_text(json.dumps(alpaca))


def _chat(row: Row) -> list[Row]:
    question, answer = (
        {"role": role, "content": row[name]} for role, name in (("user", "question"), ("assistant", "answer"))
    )
    return [question, answer, question, answer]


def _labeled(count: int, columns: tuple[str, ...], label: str, value: Callable[[int], object]) -> list[Row]:
    draw = random.Random(count)
    words = [{name: " ".join(draw.choices(tiny.WORDS, k=6)) for name in columns} for _ in range(count)]
    return [{**row, label: value(i)} for i, row in enumerate(words)]


def _jsonl(given: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in given).encode()


def _csv(given: list[Row]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(given[0]))
    writer.writeheader()
    writer.writerows(given)
    return out.getvalue().encode()
