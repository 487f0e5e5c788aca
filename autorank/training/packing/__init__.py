"""Packed trials: several runs (lanes) train over one frozen base model, in the same passes."""
