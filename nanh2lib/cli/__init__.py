"""The command line ``nanh2``: parses, calls the package, prints."""

from nanh2lib.cli.app import main

__all__ = ["main"]
