"""Serve an exported adapter over HTTP on this machine, with FastAPI (installed with MLflow).

python examples/serve.py quickstart-adapter --port 8000
curl -X POST http://127.0.0.1:8000/predict -H 'content-type: application/json' -d '{"first": "...", "second": "..."}'

It has one process and answers one request at a time, for trying it out. vLLM, TGI and others serve PEFT adapters of
language models; `autorank export --merge` writes a model without an adapter for other servers.
"""

from __future__ import annotations

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from load_with_peft import LABELS, load
from pydantic import BaseModel


class Pair(BaseModel):
    """A request."""

    first: str
    second: str


def serve(folder: str) -> FastAPI:
    """Return an application that serves the adapter."""
    model, tokenizer = load(folder)
    app = FastAPI(title=folder)

    @app.post("/predict")
    def predict(pair: Pair) -> dict[str, float]:
        """Return the probability of each label."""
        with torch.inference_mode():
            (logits,) = model(**tokenizer(pair.first, pair.second, truncation=True, return_tensors="pt")).logits
        return dict(zip(LABELS, logits.softmax(-1).tolist(), strict=True))

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve an exported adapter on this machine.")
    parser.add_argument("adapter", nargs="?", default="quickstart-adapter")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(serve(arguments.adapter), host="127.0.0.1", port=arguments.port, log_level="warning")
