"""An editor of your own: ric edit DATA --editor examples/add_an_editor.py:Night."""

from PIL import Image, ImageEnhance


class Night:
    """Make it night, whatever the instruction says: darker, and a little blue."""

    def __init__(self, model, config, device):
        """Take the folder of its model (None: it needs none) and the command's settings."""

    def edit(self, requests, between_steps=lambda: None):
        """Return a picture of its source's size for each request."""
        dark = [ImageEnhance.Brightness(one.image).enhance(0.4) for one in requests]
        return [Image.blend(one, Image.new("RGB", one.size, "navy"), 0.2) for one in dark]

    def describe(self):
        """Return what the row of each edit records of the settings."""
        return {"brightness": 0.4, "blue": 0.2}
