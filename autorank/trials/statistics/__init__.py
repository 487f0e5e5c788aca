"""Certainty of scores and fronts: predictions, bootstrap, confirmations, and forecasts."""
