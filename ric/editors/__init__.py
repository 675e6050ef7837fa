"""One file per editor; `load_editor` imports only the one that is named."""
