"""One recipe per command: its steps in order, in the paper's terms."""
