"""What the page of each problem type says, by slug."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemText:
    """What a problem means and what to do about it; backticks enclose code."""

    meaning: str
    steps: tuple[str, ...]


TEXTS = {
    "bad-request": ProblemText(
        "The request itself is malformed: a body that is not valid multipart or JSON, or a header "
        "that cannot be read.",
        (
            "Let a library build the request, or `curl -F file=@photo.jpg`.",
            "Check that the `Content-Type` fits the body.",
        ),
    ),
    "unauthorized": ProblemText(
        "This service has API keys, and no valid one came with the request.",
        (
            "Send `Authorization: Bearer KEY` or `X-API-Key: KEY`, one of them, once.",
            "On the start page the key goes into the field behind “API key”.",
            "Keys are set by whoever runs the service, in `MATTING_API_KEYS`.",
        ),
    ),
    "forbidden": ProblemText(
        "The key is valid, and its scopes do not include this.",
        (
            "Use a key that allows it.",
            "Scopes are set by whoever runs the service, in the file `MATTING_KEYS_FILE`.",
        ),
    ),
    "unsupported-version": ProblemText(
        "Uploads by tus say their version, and this service speaks 1.0.0 alone.",
        (
            "Let a client of tus 1.0 send the clip.",
            "Without one, send it in one request: `POST /v1/video`.",
        ),
    ),
    "locked": ProblemText(
        "Another request is writing to this upload.",
        ("Wait until that one has ended, ask for the offset with `HEAD`, and go on from there.",),
    ),
    "checksum-mismatch": ProblemText(
        "The bytes have another checksum than `Upload-Checksum` says; they were left out.",
        ("Send them again from the same offset.",),
    ),
    "misdirected-request": ProblemText(
        "The header `Host` names another machine than this one.",
        (
            "Use the address that the operator gave you.",
            "Whoever runs the service adds names with `MATTING_ALLOWED_HOSTS`.",
        ),
    ),
    "headers-too-large": ProblemText(
        "The headers of the request have more bytes than the service takes.",
        ("Send fewer or shorter headers; cookies are not needed here.",),
    ),
    "quota-exceeded": ProblemText(
        "The key has used up what it may use in this minute.",
        (
            "Wait as long as `Retry-After` says; `RateLimit` tells what is left.",
            "Quotas are set by whoever runs the service, in the file `MATTING_KEYS_FILE`.",
        ),
    ),
    "not-found": ProblemText(
        "Nothing has this address: no route, or no job, session or result with this id that "
        "belongs to your key.",
        (
            "Compare the address with the list at `/docs`.",
            "Use the key that made the job, the session or the result.",
        ),
    ),
    "method-not-allowed": ProblemText(
        "The address exists, but not for this method.",
        ("The header `Allow` names the methods that it has.",),
    ),
    "not-acceptable": ProblemText(
        "The answer can have none of the types that the header `Accept` takes.",
        ("Send `Accept: */*` and choose with the option `format`.",),
    ),
    "request-timeout": ProblemText(
        "The body stopped arriving, or came so slowly that the service gave up waiting.",
        ("Send it again.", "On a slow line, send a smaller file."),
    ),
    "conflict": ProblemText(
        "The job or the session is not in a state that allows this, for example a result that is "
        "asked for before the job has ended.",
        ("Ask for its state first: `GET` its address.",),
    ),
    "in-progress": ProblemText(
        "The same request, or another one for the same session, is still being worked on.",
        ("Wait as long as `Retry-After` says, then send it again.",),
    ),
    "chunk-conflict": ProblemText(
        "A chunk with this number came before, with other bytes.",
        (
            "Repeat a chunk only with exactly its first content.",
            "Send new frames under the number in `expected_sequence`.",
        ),
    ),
    "chunk-out-of-order": ProblemText(
        "Chunks are numbered 0, 1, 2 and so on, and this one is not the next.",
        ("Go on with the number in `expected_sequence`.",),
    ),
    "gone": ProblemText(
        "This was here and has been removed: it expired, was deleted or finished.",
        (
            "Send the photo or the clip again.",
            "Open a new session; one that nobody uses ends after a minute by default.",
        ),
    ),
    "payload-too-large": ProblemText(
        "The body has more bytes than the service takes. Nothing was stored.",
        (
            "Send a smaller file: `limit` and `actual` are in bytes.",
            "`GET /v1/capabilities` lists all limits; each is a setting of the service.",
        ),
    ),
    "unsupported-media": ProblemText(
        "The service does not read this kind of file.",
        (
            "Photos: JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP, GIF.",
            "Clips: MP4, MOV, Matroska, WebM, MPEG-TS, GIF.",
            "Photos go to `/v1/image`, clips to `/v1/video`.",
        ),
    ),
    "range-not-satisfiable": ProblemText(
        "The header `Range` asks for bytes after the end of the file.",
        ("`Content-Range` of the answer says how long the file is.",),
    ),
    "invalid-option": ProblemText(
        "An option does not exist, has a value out of its range, or would have no effect beside "
        "the others. The service ignores nothing that it was asked for.",
        (
            "`errors` names each option, `hint` the nearest valid name.",
            "`/docs` lists all options with their values.",
        ),
    ),
    "impossible-output": ProblemText(
        "What is asked for cannot be put into this file, for example alpha into a JPEG.",
        ("Choose a format that can carry it: PNG, WebP or AVIF for photos, WebM for clips.",),
    ),
    "undecodable-media": ProblemText(
        "The file is damaged or ends too early, or is not what it says it is.",
        (
            "See whether another program opens it.",
            "Send it again if it may have been cut off on its way.",
            "Save it once more, as JPEG or PNG, or as MP4 with H.264.",
        ),
    ),
    "fetch-failed": ProblemText(
        "The `url` of the request could not be fetched: no answer in time, or one that is no file.",
        ("Open the URL from another network.", "Send the file itself."),
    ),
    "idempotency-key-reused": ProblemText(
        "This `Idempotency-Key` came before with another file or other options.",
        ("Make a new key for each new request; keep it only when you send the same again.",),
    ),
    "unknown-foreground": ProblemText(
        "Nobody was found in the picture. Only remove.bg's clients see this as an error.",
        ("Send a picture in which a person is large enough to see.",),
    ),
    "media-limit-exceeded": ProblemText(
        "The file can be read, but has more pixels, frames or seconds than the service takes.",
        (
            "Scale it down or cut it: `limit` and `actual` say by how much.",
            "Long clips can be sent as a job, with `Prefer: respond-async`, or in chunks, as a "
            "session.",
            "`GET /v1/capabilities` lists all limits; each is a setting of the service.",
        ),
    ),
    "media-too-complex": ProblemText(
        "Decoding the file takes more memory or time than one file may take, or its structure is "
        "out of all proportion: thousands of scans, tags or chunks around a picture.",
        ("Save it once more in a common format and a smaller size.",),
    ),
    "overloaded": ProblemText(
        "The service has as much work as it can do in time. Your request was not started.",
        (
            "Wait as long as `Retry-After` says, then send it again.",
            "Send clips as jobs, which wait for their turn.",
        ),
    ),
    "internal-error": ProblemText(
        "Something went wrong that the service did not foresee. This is a bug of the service, not "
        "of your request.",
        (
            "Try again; if it stays, tell whoever runs the service the id in `instance`.",
            "The log of the service has the details under this id.",
        ),
    ),
    "not-ready": ProblemText(
        "The service is starting, or its network has failed and is being tried again.",
        ("Wait as long as `Retry-After` says.", "`GET /readyz?verbose` says what is missing."),
    ),
    "draining": ProblemText(
        "The service is shutting down and takes nothing new. Jobs go on when it starts again.",
        ("Send the request again after `Retry-After`; another instance may answer it.",),
    ),
    "deadline-exceeded": ProblemText(
        "The work was started but not done in time.",
        (
            "Send it again when the service has less to do.",
            "Send a smaller picture, or a clip as a job.",
        ),
    ),
    "insufficient-storage": ProblemText(
        "The disk of the service is full, or too full to take another job.",
        (
            "Try again later.",
            "Whoever runs the service can delete jobs or give `MATTING_DATA_DIR` more room.",
        ),
    ),
}
