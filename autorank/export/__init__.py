"""Exports of trained adapters: PEFT adapters, merged models, model cards, the Hub and MLflow's registry."""
