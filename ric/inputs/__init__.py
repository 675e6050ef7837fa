"""What training reads: samples as squares, and the frozen networks' outputs, computed once."""
