"""What a run is: its folder, its record, what it made and from what, and how it goes on."""
