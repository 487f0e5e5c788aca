"""Forward passes: attention masks, gradient checkpointing, greedy decoding, and a pass on the meta device."""
