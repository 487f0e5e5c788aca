"""Starts the command `autorank`, and says so where another package of that name is imported instead.

On PyPI `autorank` is a statistics package. It and this distribution, `autorank-lora`, install a package of that name,
and only one of the two can be imported. This module has a name of its own, so it can always explain that.
"""

from __future__ import annotations

import sys

REMEDY = (
    "Use one environment for each of the two packages, or remove the other one: pip uninstall autorank, then "
    "pip install --force-reinstall --no-deps autorank-lora (from a clone: -e . instead of autorank-lora)."
)


def is_imported() -> bool:
    """Whether `import autorank` gives the package of this distribution."""
    try:
        import autorank
    except Exception:  # the other package, without what it needs
        return False
    return "open_search" in getattr(autorank, "__all__", ())


def main() -> None:
    """Run the command line; exit with code 2 where `autorank` is another package."""
    if not is_imported():
        print(
            "autorank: `import autorank` gives another package: PyPI's statistics package autorank is installed in "
            f"this environment, too ({sys.prefix}). {REMEDY}",
            file=sys.stderr,
        )
        sys.exit(2)
    from autorank.cli.app import main

    main()
