"""A trained PEFT adapter cut to smaller sizes: without data, scored on data, one size chosen."""
