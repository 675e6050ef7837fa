"""ICC profiles made by hand: Display P3, Adobe RGB and a grey one (ICC.1:2022, version 2)."""

from __future__ import annotations

import struct


def _s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_s15, values))


def _text(words: str) -> bytes:
    ascii_ = words.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(ascii_)) + ascii_ + bytes(4 + 4 + 2 + 1 + 67)


def _gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ "
    )
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(4 * 7)
    header += _xyz(0.9642, 1.0, 0.8249)[8:]
    return header + bytes(128 - len(header)) + table + body


def display_p3() -> bytes:
    """Display P3: DCI-P3's primaries adapted to D50, white D65, here with a gamma of 2.2."""
    return _profile(
        b"RGB ",
        {
            b"desc": _text("Display P3"),
            b"cprt": b"text\0\0\0\0none\0",
            b"wtpt": _xyz(0.9505, 1.0, 1.0891),
            b"rXYZ": _xyz(0.5151, 0.2412, -0.0011),
            b"gXYZ": _xyz(0.2920, 0.6922, 0.0419),
            b"bXYZ": _xyz(0.1571, 0.0666, 0.7841),
            b"rTRC": _gamma(2.2),
            b"gTRC": _gamma(2.2),
            b"bTRC": _gamma(2.2),
        },
    )


def adobe_rgb() -> bytes:
    """Adobe RGB (1998): its primaries adapted to D50, white D65, and its gamma of 2 51/256."""
    return _profile(
        b"RGB ",
        {
            b"desc": _text("Adobe RGB (1998)"),
            b"cprt": b"text\0\0\0\0none\0",
            b"wtpt": _xyz(0.9505, 1.0, 1.0891),
            b"rXYZ": _xyz(0.6097, 0.3111, 0.0195),
            b"gXYZ": _xyz(0.2053, 0.6257, 0.0609),
            b"bXYZ": _xyz(0.1492, 0.0632, 0.7446),
            b"rTRC": _gamma(2 + 51 / 256),
            b"gTRC": _gamma(2 + 51 / 256),
            b"bTRC": _gamma(2 + 51 / 256),
        },
    )


def grey_gamma() -> bytes:
    """Grey with a gamma of 1.8."""
    tags = {
        b"desc": _text("Grey 1.8"),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"kTRC": _gamma(1.8),
    }
    return _profile(b"GRAY", tags)
