"""What training reads: samples as squares, and what frozen networks make of them, computed once."""
