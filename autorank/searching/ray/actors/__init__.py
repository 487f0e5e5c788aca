"""The actors that train trials: one process per trial, or several workers per trial."""
