"""Files and options in one JSON document, the files in base64 (RFC 4648)."""

import binascii
import json
from typing import Any, Protocol

from service.errors import BadRequest, refuse_size

MAX_COMMAS = 1000  # base64 has none, and there are some tens of options


class TakesJson(Protocol):
    """The part of `uploads.Accepted` that this file reads."""

    @property
    def media(self) -> str: ...
    @property
    def extra(self) -> tuple[str, ...]: ...
    @property
    def most(self) -> int: ...
    @property
    def limit_bytes(self) -> int: ...
    @property
    def takes_url(self) -> bool: ...


def read_json_upload(
    content: bytes, accepted: TakesJson
) -> tuple[list[bytes], dict[str, bytes], list[tuple[str, Any]]]:
    """Return (the file, extra files by part name, all other members with duplicates).

    Raises BadRequest or PayloadTooLarge.
    """
    own = name_member(accepted.media)
    shape = f'{{"{own}": "..."}}' if accepted.most else "the options as members of one object"
    pairs = load_pairs(content, f"send {shape}")
    part_of = {name_member(name): name for name in accepted.extra}
    files: list[bytes] = []
    extra: dict[str, bytes] = {}
    members: list[tuple[str, Any]] = []
    for name, value in pairs:
        if name == own and accepted.most and not files:
            files.append(decode_base64(name, value, accepted.limit_bytes))
        elif name in part_of and part_of[name] not in extra:
            extra[part_of[name]] = decode_base64(name, value, accepted.limit_bytes)
        elif name == own or name in part_of:
            raise BadRequest(f"`{name}` cannot come here, or came twice")
        else:
            members.append((name, value))
    is_named = accepted.takes_url and any(name == "url" for name, _ in members)
    if accepted.most and not files and not is_named:
        raise BadRequest(f"`{own}` is missing", hint="it holds the file in base64")
    return files, extra, members


def name_member(part: str) -> str:
    """Return the JSON member for a file part: `trimap_b64` for `trimap_file`."""
    return f"{part.removesuffix('_file')}_b64"


def load_pairs(content: bytes, hint: str) -> list[tuple[str, Any]]:
    """Return the members of a JSON object with duplicates; raises BadRequest with the hint.

    A document of very many values is refused unread: the interpreter lock is held while it is read.
    """
    if content.count(b",") > MAX_COMMAS:
        raise BadRequest(f"the JSON has more than {MAX_COMMAS} commas", hint=hint)
    try:
        # Pairs, not a dict: a member given twice must not hide the first.
        pairs = json.loads(content, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON", hint=hint) from None
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise BadRequest("the JSON is not an object", hint=hint)
    return pairs


def decode_base64(name: str, value: object, limit_bytes: int) -> bytes:
    """Return the bytes of a member; a data URL is taken too.

    Raises BadRequest or PayloadTooLarge.
    """
    if not isinstance(value, str):
        raise BadRequest(f"`{name}` is not a string")
    head, comma, rest = value.partition(",")
    text = rest if comma and head.startswith("data:") else value
    try:
        data = binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"`{name}` is not base64") from None
    if len(data) > limit_bytes:
        raise refuse_size("file", limit_bytes, len(data))
    return data
