"""The models of each command: the table of them, finding them, loading pipelines."""
