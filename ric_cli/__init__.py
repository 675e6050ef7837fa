"""The `ric` command."""
