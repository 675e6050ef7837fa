"""Runs: their folders, records, artifacts and provenance, and how they are resumed."""
