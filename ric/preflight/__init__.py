"""Checks and estimates before any network is loaded."""
