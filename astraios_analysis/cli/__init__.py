"""The command ``astraios``: one module a command."""
