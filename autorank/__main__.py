"""Entry point of `python -m autorank`."""

from autorank.cli.app import main

if __name__ == "__main__":
    main()
