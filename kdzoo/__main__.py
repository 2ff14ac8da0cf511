"""``python -m kdzoo``: the command line, for launchers that start a module."""

from kdzoo.cli import main

if __name__ == "__main__":
    main()
