"""The command line: modules here parse, call a service and print; nothing else prints."""

from pysync.cli.app import main

__all__ = ["main"]
