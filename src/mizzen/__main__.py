"""`python -m mizzen` is `mizzen`."""

from mizzen.cli import main

if __name__ == "__main__":
    main()
