"""Ray Tune and Ray Train: the only package below the commands that imports Ray."""
