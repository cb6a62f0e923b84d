"""`python -m heuretic`: the same as the command `heuretic`."""

from heuretic.cli.main import main

if __name__ == "__main__":
    main()
