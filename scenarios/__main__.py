"""`python -m scenarios ...` is `keyhole ...`."""

from scenarios.cli import app

if __name__ == "__main__":
    app(prog_name="keyhole")
