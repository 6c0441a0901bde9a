"""`python -m duende`: the same as the console script."""

from duende.cli.main import entry

if __name__ == "__main__":
    entry()
