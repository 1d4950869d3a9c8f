"""Portrait matting over HTTP: MODNet in onnxruntime behind FastAPI."""

import os

# Official Linux wheels of onnxruntime send telemetry from 1.29 on. The switch only works before
# onnxruntime is imported, so it is set where every import of the service passes first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# OpenCV reads these when it is imported. Its threads would otherwise spin while they wait for each
# other, which takes a tenth of a frame's time from the network and the codecs.
for _name in ("MAIN", "WORKER"):
    os.environ.setdefault(f"OPENCV_THREAD_POOL_ACTIVE_WAIT_{_name}", "0")

# The matrices of the service are those of colours: a thread a core would only cost its start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__`, which is looked up when it is needed: decoder children never do."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("matting-service")
    except PackageNotFoundError:  # the source alone, not installed
        return "0.0.0+source"
