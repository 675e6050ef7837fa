"""Where a model lies, and how a pipeline is loaded."""
