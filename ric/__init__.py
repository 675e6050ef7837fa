"""Region in Context: the GPU core."""
