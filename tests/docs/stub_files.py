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
from tests import tiny_language_models, tiny_models
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
    model_folders = {name: folder / name for name in (*ENCODERS, *DECODERS)}
    for name, path in model_folders.items():
        path.mkdir(parents=True)
        tiny_models.model(KINDS[name], path) if name in KINDS else tiny_language_models.model(
            FAMILIES[name], path, chat=name == OWN_MODEL
        )
    return model_folders


def hub(models: dict[str, Path]) -> Repositories:
    """The Hub: these models, and the datasets of all named tasks that are on the Hub."""
    repositories: Repositories = {
        f"models/{name}": {file.name: file.read_bytes() for file in folder.iterdir()} for name, folder in models.items()
    }
    configurations: dict[str, list[Row]] = {}
    for task in TASKS.values():
        if task.hub is not None:
            repository, name = task.hub
            files = repositories.setdefault(f"datasets/{repository}", {})
            splits = [{"split": split, "path": f"{name}/{split}.jsonl"} for split in ("train", *task.validation)]
            for part in splits:
                files[part["path"]] = _jsonl(rows(task, TRAIN if part["split"] == "train" else VALIDATION))
            configurations.setdefault(repository, []).append({"config_name": name, "data_files": splits})
    review_files = repositories.setdefault("datasets/acme/reviews", {})
    review_files |= {f"english/{split}.jsonl": _jsonl(reviews()) for split in ("train", "test")}
    parts = [{"split": split, "path": f"english/{split}.jsonl"} for split in ("train", "test")]
    configurations["acme/reviews"] = [{"config_name": "english", "data_files": parts}]
    for repository, entries in configurations.items():
        card = yaml.safe_dump({"configs": entries})
        repositories[f"datasets/{repository}"]["README.md"] = f"---\n{card}---\n".encode()
    return repositories


def rows(task: Task, count: int) -> list[Row]:
    """Rows of a task's own columns."""
    if task.kind.name == "span":
        return tiny_models.questions(count, seed=count, unanswerable=task.unanswerable)
    if task.kind.head.generates:
        end = " #### {}" if task.metrics[0] == "exact_answer" else ""
        pairs = enumerate(tiny_language_models.rows(count, seed=count))
        return [{task.text[0]: row["asked"], task.label: row["told"] + end.format(i)} for i, row in pairs]
    classes = len(task.label_names)
    return _labeled(count, task.text, task.label, lambda i: i % classes if classes else i % 6 - 0.5)


def reviews() -> list[Row]:
    """Rows of the user's reviews."""
    return _labeled(TRAIN, ("review",), "stars", lambda i: i % 5 + 1)


def folder(user_folder: Path, models: dict[str, Path], store: Path) -> None:
    """Fill a user's folder: own data, data of named tasks, an encoder (`my-model`) and a decoder (`my-llm`). All such
    directories share an MLflow store, since creating one takes seconds."""
    (user_folder / "examples").symlink_to(ROOT / "examples")
    (user_folder / "runs").mkdir()
    (user_folder / "runs" / "mlflow.db").symlink_to(store)
    for name, source in (("my-model", "FacebookAI/roberta-base"), ("my-llm", "meta-llama/Llama-2-7b-hf")):
        (user_folder / name).symlink_to(models[source])
    for name in ("mrpc", "squad_v1", "squad_v2", "e2e"):
        (user_folder / name).mkdir()
        for split, count in (("train", TRAIN), ("validation", VALIDATION)):
            (user_folder / name / f"{split}.jsonl").write_bytes(_jsonl(rows(TASKS[name], count)))
    stars = reviews()
    (user_folder / "reviews.csv").write_bytes(_csv(stars))
    (user_folder / "shards").mkdir()
    for i in range(2):
        (user_folder / "shards" / f"part-{i}.csv").write_bytes(_csv(stars[i::2]))
    (user_folder / "pairs").mkdir()
    verdicts = _labeled(TRAIN, ("premise", "hypothesis"), "verdict", lambda i: ("true", "false", "open")[i % 3])
    (user_folder / "pairs" / "train.csv").write_bytes(_csv(verdicts))
    answers = [{"question": row["asked"], "answer": row["told"]} for row in tiny_language_models.rows(TRAIN)]
    (user_folder / "qa.jsonl").write_bytes(_jsonl(answers))
    (user_folder / "chats.jsonl").write_bytes(_jsonl([{"messages": _chat(row)} for row in answers]))
    alpaca = [{"instruction": row["question"], "input": "", "output": row["answer"]} for row in answers]
    (user_folder / "alpaca.json").write_text(json.dumps(alpaca))


def _chat(row: Row) -> list[Row]:
    question, answer = (
        {"role": role, "content": row[name]} for role, name in (("user", "question"), ("assistant", "answer"))
    )
    return [question, answer, question, answer]


def _labeled(count: int, columns: tuple[str, ...], label: str, value: Callable[[int], object]) -> list[Row]:
    rng = random.Random(count)
    words = [{name: " ".join(rng.choices(tiny_models.WORDS, k=6)) for name in columns} for _ in range(count)]
    return [{**row, label: value(i)} for i, row in enumerate(words)]


def _jsonl(records: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in records).encode()


def _csv(records: list[Row]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()
