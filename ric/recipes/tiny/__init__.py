"""Training the embedded family: a recipe for each member that none of the six commands trains."""
