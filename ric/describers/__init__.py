"""Who writes the scene paragraphs: one file per back-end."""
