"""The inputs of training: samples as squares, and the frozen networks' outputs, computed once."""
