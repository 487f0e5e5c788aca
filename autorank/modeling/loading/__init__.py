"""Loading models: from the Hub, with remote code, quantized; errors of checkpoints."""
