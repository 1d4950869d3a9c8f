"""Multipart bodies: which part is a file, and what is said about bodies that are none."""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from urllib.parse import unquote

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import BadRequest

MAX_FIELDS = 64
MAX_NAME_BYTES = 4096
_EXTENDED_NAME = re.compile(rb"filename\*\s*=\s*\"?([\w-]*)'[^']*'([^\";]*)", re.IGNORECASE)
_FILE_NAME = re.compile(rb";\s*filename\s*=", re.IGNORECASE)


@asynccontextmanager
async def read_multipart(
    request: Request, file_names: Collection[str], *, max_files: int, max_field_bytes: int
) -> AsyncIterator[FormData]:
    """Yield the parts of a body; its files are gone afterwards.

    A part is a file when it has a file name, in either way of writing it (RFC 6266, RFC 7578), when
    its own content type is not text, or when its name is one of `file_names`. Raises BadRequest.
    """
    async with aclosing(request.stream()) as stream:
        parser = _Parser(
            request.headers,
            stream,
            max_files=max_files,
            max_fields=MAX_FIELDS,
            max_part_size=max_field_bytes,
        )
        parser.file_names = file_names
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise BadRequest(parser.explain(error.message)) from None
    try:
        if not parser.is_ended:
            parser.close()
            raise BadRequest(parser.explain_end(), hint="send the whole body and its last boundary")
        yield form
    finally:
        await form.close()


def read_text(part: UploadFile) -> str:
    """Return the text of a part that came as a file by its name alone, empty where it is none."""
    if part.filename or not part.size or part.size > MAX_NAME_BYTES:
        return ""
    content = part.file.read()
    part.file.seek(0)
    text = content.decode("ascii", "replace")
    return text if content.isascii() and text.isprintable() else ""


class _Parser(MultiPartParser):
    """Starlette's parser, which takes a part for a field unless it has `filename=`."""

    file_names: Collection[str] = ()
    is_ended = False
    _open_part: str | None = None

    def on_headers_finished(self) -> None:
        part = self._current_part
        disposition = part.content_disposition or b""
        if not _FILE_NAME.search(disposition):
            name = self._find_name(disposition)
            if name is not None:
                part.content_disposition = disposition + b'; filename="' + name + b'"'
        super().on_headers_finished()
        self._open_part = part.field_name

    def _find_name(self, disposition: bytes) -> bytes | None:
        """Return the file name of a part without `filename=`, None where it is no file."""
        if extended := _EXTENDED_NAME.search(disposition):
            try:
                text = unquote(extended[2].decode("latin-1"), extended[1].decode() or "utf-8")
            except LookupError:
                text = "file"
            return re.sub(rb'["\\\r\n]', b"_", text.encode())
        kind = next(
            (v for n, v in self._current_part.item_headers if n == b"content-type"), b"text/"
        )
        if not kind.strip().lower().startswith((b"text/", b"application/json")):
            return b"file"
        named = re.search(rb';\s*name\s*=\s*"?([^";]*)', disposition)
        is_file = named is not None and named[1].decode("latin-1") in self.file_names
        return b"" if is_file else None

    def on_part_end(self) -> None:
        super().on_part_end()
        self._open_part = None

    def on_end(self) -> None:
        self.is_ended = True

    def close(self) -> None:
        """Close the files of parts that did not end."""
        for file in self._files_to_close_on_error:
            file.close()

    def explain(self, message: str) -> str:
        """Return a message of Starlette's with the name of the field that it is about."""
        if message.startswith("Part exceeded") and self._open_part is not None:
            size = f"{self.max_part_size / 1024:g} kB"
            return (
                f"the field `{self._open_part[:64]}` has over {size}; files go as the part `file`"
            )
        return message

    def explain_end(self) -> str:
        if self._open_part is not None:
            return f"the body ended inside the part `{self._open_part[:64]}`"
        return "the body ended before its last boundary"
