"""The actors that train trials: one process per trial, several workers per trial, or several trials per process."""
