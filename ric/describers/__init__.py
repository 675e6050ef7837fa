"""Describers, which write the scene paragraphs: one file per back-end."""
