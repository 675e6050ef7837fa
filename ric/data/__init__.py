"""Edits as data: pictures, masks, samples, splits, and the folders and hubs they come from."""
