"""The command line."""

from kgnn.cli.main import app, main

__all__ = ["app", "main"]
