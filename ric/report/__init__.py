"""Pictures of runs: curves, sheets of edits, and the page of `ric report`."""
