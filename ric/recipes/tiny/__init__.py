"""How the embedded family is made: one recipe per member that the paper's six commands lack."""
