"""What can be known before any network is loaded."""
