"""The command `depurate`, for `python -m depurate`."""

from depurate.cli import main

if __name__ == "__main__":
    main()
