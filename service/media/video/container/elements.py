"""Elements of EBML (RFC 8794), of which Matroska and WebM consist (RFC 9559)."""

from collections.abc import Iterator

EBML, SEGMENT, CLUSTER, CUES = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1C53BB6B


def read_element(head: bytes) -> tuple[int, int, int] | None:
    """Return name, place of the content and size of an element; None where there is none."""
    if not head:
        return None
    name_bytes = 9 - head[0].bit_length()
    if not 1 <= name_bytes <= 4 or name_bytes >= len(head) or not head[name_bytes]:
        return None
    content = name_bytes + 9 - head[name_bytes].bit_length()
    mask = (1 << 7 * (content - name_bytes)) - 1
    size = int.from_bytes(head[name_bytes:content]) & mask
    return int.from_bytes(head[:name_bytes]), content, size


def list_elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield name and content of elements that follow one another."""
    at = 0
    while (element := read_element(data[at : at + 16])) is not None:
        name, content, size = element
        yield name, data[at + content : at + content + size]
        at += content + size
