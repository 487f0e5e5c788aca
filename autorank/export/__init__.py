"""From a trained adapter to what others load, and to where they load it from."""
