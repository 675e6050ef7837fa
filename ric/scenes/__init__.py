"""Drawn scenes whose right answer is known: pictures in which an edit's context matters."""
