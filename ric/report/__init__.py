"""Pictures of runs: curves, and sheets of edits."""
