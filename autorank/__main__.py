"""`python -m autorank` is the command `autorank`."""

from autorank.cli.app import main

if __name__ == "__main__":
    main()
