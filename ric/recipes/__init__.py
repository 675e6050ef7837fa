"""One recipe per command: what it does, told in the nouns of the paper."""
