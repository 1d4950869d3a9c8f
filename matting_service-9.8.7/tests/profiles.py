"""ICC profiles made by hand: Pillow can make sRGB, Lab and XYZ, and no wide RGB."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
# x, y of red, green, blue and white.
PRIMARIES = {
    "sRGB": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290)),
    "P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290)),
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290)),
    "ProPhoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585)),
}
GAMMAS = {"Adobe RGB": 563 / 256, "ProPhoto": 1.8}  # the others have the curve of sRGB


def make_matrix(name: str) -> np.ndarray:
    """Return the (3, 3) matrix from linear RGB to XYZ under D50."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[name]]).T
    primaries, white = xyz[:, :3], xyz[:, 3]
    to_xyz = primaries * np.linalg.solve(primaries, white)
    scale = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    return np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ to_xyz


def decode_values(name: str, values: np.ndarray) -> np.ndarray:
    """Return linear light of encoded values, both in [0, 1]."""
    if name in GAMMAS:
        return values ** GAMMAS[name]
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Return linear light, clipped to [0, 1], as sRGB in [0, 255]."""
    linear = np.clip(linear, 0, 1)
    low, high = linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, low, high) * 255


def convert_to_srgb(name: str, image: np.ndarray) -> np.ndarray:
    """Return what (H, W, 3) uint8 values of a space are in sRGB, float in [0, 255]."""
    linear = decode_values(name, image / 255)
    return encode_srgb(linear @ (np.linalg.inv(make_matrix("sRGB")) @ make_matrix(name)).T)


def make_profile(name: str, padding: int = 0) -> bytes:
    """Return an RGB profile of version 2: matrix, curves, and `padding` bytes of a private tag."""
    curve = decode_values(name, np.linspace(0, 1, 1024))
    table = b"curv" + struct.pack("!4xI", 1024) + np.rint(curve * 65535).astype(">u2").tobytes()
    tags = {
        b"desc": _describe(name),
        b"cprt": b"text\0\0\0\0CC0\0",
        b"wtpt": _pack_xyz(D50),
        **{
            tag: _pack_xyz(column)
            for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), make_matrix(name).T, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), table),
    }
    if padding:
        tags[b"priv"] = b"data\0\0\0\0" + bytes(padding)
    return pack_profile(b"RGB ", tags)


def make_grey_profile(gamma: float) -> bytes:
    curve = b"curv" + struct.pack("!4xIH2x", 1, round(gamma * 256))
    return pack_profile(
        b"GRAY", {b"desc": _describe("grey"), b"wtpt": _pack_xyz(D50), b"kTRC": curve}
    )


def mix_inks(inks: np.ndarray) -> np.ndarray:
    """Return Lab of (..., 4) inks in [0, 1] on the press of `make_cmyk_profile`."""
    cyan, magenta, yellow, black = np.moveaxis(inks, -1, 0)
    lightness = np.clip(100 - 35 * cyan - 45 * magenta - 8 * yellow - 90 * black, 0, 100)
    return np.stack([lightness, 70 * magenta - 35 * cyan, 90 * yellow - 45 * cyan], -1)


def make_cmyk_profile() -> bytes:
    """Return a profile of four inks: a table of two points an axis, exact where inks are 0 or 1."""
    lab = mix_inks(np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4))
    grid = np.clip(np.rint(lab * (2.55, 1, 1) + (0, 128, 128)), 0, 255).astype(np.uint8)
    unit = [65536, 0, 0, 0] * 2 + [65536]
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack("!9i", *unit)
    lut += ramp * 4 + grid.tobytes() + ramp * 3
    tags = {b"desc": _describe("press"), b"wtpt": _pack_xyz(D50)}
    return pack_profile(b"CMYK", tags | dict.fromkeys((b"A2B0", b"A2B1"), lut), pcs=b"Lab ")


def pack_profile(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """Return a profile: header, table of tags, their data."""
    start = 128 + 4 + 12 * len(tags)
    table, data = b"", b""
    for tag, content in tags.items():
        table += tag + struct.pack("!II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack("!I4xI", start + len(data), 0x02400000) + kind + space + pcs
    header = header.ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack("!3i", *[round(v * 65536) for v in D50])
    return header.ljust(128, b"\0") + struct.pack("!I", len(tags)) + table + data


def _describe(text: str) -> bytes:
    name = text.encode() + b"\0"
    return b"desc" + struct.pack("!4xI", len(name)) + name + bytes(78)


def _pack_xyz(xyz) -> bytes:
    return b"XYZ " + struct.pack("!4x3i", *[round(float(v) * 65536) for v in xyz])


def convert_lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """Return (..., 3) L in [0, 100], a and b under D50 as sRGB, float in [0, 255]."""
    lightness, a, b = np.moveaxis(lab, -1, 0)
    y = (lightness + 16) / 116
    roots = np.stack([y + a / 500, y, y - b / 200], -1)
    cubes = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    return encode_srgb(cubes * D50 @ np.linalg.inv(make_matrix("sRGB")).T)
