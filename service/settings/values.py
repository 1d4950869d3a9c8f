"""Values of settings that a type alone does not check."""

import binascii

STORAGES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "file")
SECRET_PREFIX = "whsec_"


def check_secret(value: str) -> str:
    decode_secret(value)
    return value


def decode_secret(value: str) -> bytes:
    """Return the bytes of a webhook secret; raises ValueError."""
    try:
        secret = binascii.a2b_base64(value.removeprefix(SECRET_PREFIX), strict_mode=True)
    except binascii.Error:
        raise ValueError("must be whsec_ and base64") from None
    if not value.startswith(SECRET_PREFIX) or not 24 <= len(secret) <= 64:
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64")
    return secret


def check_storage(value: str) -> str:
    """Return the URL of an object storage; raises ValueError."""
    scheme, mark, rest = value.partition("://")
    if scheme not in STORAGES or not mark or not rest.strip("/"):
        known = ", ".join(f"{name}://" for name in STORAGES)
        raise ValueError(f"must be s3://bucket/prefix, or begin with one of {known}")
    if "@" in rest.partition("/")[0] and scheme in ("s3", "s3a", "gs"):
        raise ValueError("takes no credentials; they belong in variables such as AWS_*")
    return value
