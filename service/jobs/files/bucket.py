"""Object storage by its URL: S3, what speaks like it, Google's, Azure's, or a folder.

Needs the extra `storage` (obstore), which is imported when a storage is opened.
"""

import io
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from service.errors import StorageUnavailable
from service.jobs.rows.schema import JobStoreError

if TYPE_CHECKING:
    from obstore import ReadableFile
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)
READ_BYTES = 4 << 20  # of one request while a file is read
SIGNED_S = 900
# The first word of the variables that say where a storage is, and who may use it.
VARIABLES = {
    "s3": "AWS",
    "s3a": "AWS",
    "gs": "GOOGLE",
    "az": "AZURE_STORAGE",
    "abfs": "AZURE_STORAGE",
    "abfss": "AZURE_STORAGE",
}
# What a server answers while it is overloaded or started again is over within these tries.
RETRIES: dict[str, Any] = {
    "max_retries": 7,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=4),
        "base": 2,
    },
}
CLIENT: dict[str, Any] = {
    "allow_http": True,  # the operator has named the endpoint
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(seconds=60),  # of one request: 5 MiB at most are sent by one
}


@dataclass(frozen=True)
class StoredObject:
    """What a storage tells of one object."""

    key: str
    bytes: int
    changed: datetime


class Bucket:
    """The objects below a URL; methods block.

    They raise StorageUnavailable when the storage does not answer, or refuses, after several tries,
    and call `on_failure`.
    """

    def __init__(self, store: "ObjectStore") -> None:
        from obstore.store import AzureStore, GCSStore, S3Store

        self._store = store
        self._signing = store if isinstance(store, S3Store | GCSStore | AzureStore) else None
        self.on_failure: Callable[[], object] = lambda: None

    def put(
        self, key: str, file: BinaryIO | Path, attributes: Mapping[str, str] | None = None
    ) -> int:
        """Store an open file, or one at a path; return its bytes as the storage counts them.

        `attributes` are headers for those who download; only some storages keep them.
        """
        import obstore

        if not isinstance(file, Path):
            file.seek(0)
        kept = dict(attributes) if attributes and self._signing is not None else None
        with self._translate_errors():
            obstore.put(self._store, key, file, attributes=kept)
            return int(obstore.head(self._store, key)["size"])

    def open(self, key: str) -> BinaryIO:
        """Open an object, which is read as it is asked for; raises FileNotFoundError."""
        import obstore

        with self._translate_errors(may_be_missing=True):
            reader = obstore.open_reader(self._store, key, buffer_size=READ_BYTES)
        return ObjectReader(reader, self._translate_errors)  # type: ignore[return-value]

    def list(self, folder: str) -> list[StoredObject]:
        """Return the objects in a folder and those below it."""
        import obstore

        with self._translate_errors():
            found = obstore.list(self._store, folder).collect()
        return [StoredObject(one["path"], one["size"], one["last_modified"]) for one in found]

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; it is no error when they are gone."""
        import obstore

        batches = keys if self._signing is None else [keys] if keys else []
        for key in batches:
            try:
                with self._translate_errors(may_be_missing=True):
                    obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    def sign(self, key: str) -> str | None:
        """Return a URL that gives an object to everybody for SIGNED_S, None: not possible here."""
        import obstore

        if self._signing is None:
            return None
        with self._translate_errors():
            return obstore.sign(self._signing, "GET", key, timedelta(seconds=SIGNED_S))

    @contextmanager
    def _translate_errors(self, *, may_be_missing: bool = False) -> Iterator[None]:
        """Raise StorageUnavailable for what obstore raises.

        FileNotFoundError passes where an object `may_be_missing`; elsewhere the bucket is missing.
        """
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (BaseError, OSError) as error:
            if may_be_missing and isinstance(error, FileNotFoundError):
                raise
            self.on_failure()
            log.warning("object storage failed", extra={"fields": {"why": describe_cause(error)}})
            state = "does not answer"
            if isinstance(error, PermissionDeniedError | UnauthenticatedError):
                state = "refuses the credentials of the service"
            raise StorageUnavailable(
                f"the object storage of jobs {state}",
                hint="send the request again after Retry-After seconds",
                retry_after_s=5,
            ) from error


class ObjectReader(io.RawIOBase):
    """An object as an open file."""

    def __init__(
        self, reader: "ReadableFile", translate_errors: Callable[..., AbstractContextManager[None]]
    ) -> None:
        self._reader = reader
        self._translate_errors = translate_errors

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: Any) -> int:
        with self._translate_errors(may_be_missing=True):
            data = memoryview(self._reader.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def open_bucket(url: str, retries: Mapping[str, Any] = RETRIES) -> Bucket:
    """Open the storage at a URL, and try that it can be written, read, listed and cleared.

    Raises JobStoreError.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise JobStoreError(
            'MATTING_STORAGE_URL needs obstore: pip install "matting-service[storage]"'
        ) from None
    try:
        if url.startswith("file:"):
            bucket = Bucket(from_url(url, mkdir=True, automatic_cleanup=True))
        else:
            bucket = Bucket(from_url(url, client_options=CLIENT, retry_config=retries))  # type: ignore[call-overload]
    except (BaseError, OSError, ValueError) as error:
        raise refuse_storage(url, error) from None
    try:
        try_bucket(bucket)
    except StorageUnavailable as error:
        raise refuse_storage(url, error.__cause__ or error) from None
    return bucket


def try_bucket(bucket: Bucket) -> None:
    """Do with a small object what is done with the files of jobs."""
    folder = f"check-{uuid.uuid4().hex}"
    bucket.put(f"{folder}/object", io.BytesIO(b"check"))
    with bucket.open(f"{folder}/object") as file:
        file.read()
    bucket.remove([one.key for one in bucket.list(folder)])


def refuse_storage(url: str, error: BaseException) -> JobStoreError:
    family = VARIABLES.get(url.partition(":")[0])
    told = f"; {family}_* variables name its endpoint and credentials" if family else ""
    return JobStoreError(
        f"the storage of MATTING_STORAGE_URL cannot be used: {describe_cause(error)}{told}"
    )


def describe_cause(error: BaseException) -> str:
    """Return the text of an error of obstore, without its dump of Rust structures."""
    text = " ".join(str(error).partition("\n\nDebug source")[0].split())
    return re.sub(r"<.*<Code>(.*)</Code>.*<Message>(.*)</Message>.*", r"\1, \2", text)
