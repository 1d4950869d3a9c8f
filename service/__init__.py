"""Portrait matting over HTTP: MODNet in onnxruntime behind FastAPI."""

import importlib.metadata
import os

# Official Linux wheels of onnxruntime send telemetry from 1.29 on. The switch only works before
# onnxruntime is imported, so it is set where every import of the service passes first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# OpenCV reads these when it is imported. Its threads would otherwise spin while they wait for each
# other, which takes a tenth of a frame's time from the network and the codecs.
for _name in ("MAIN", "WORKER"):
    os.environ.setdefault(f"OPENCV_THREAD_POOL_ACTIVE_WAIT_{_name}", "0")

try:
    __version__ = importlib.metadata.version("matting-service")
except importlib.metadata.PackageNotFoundError:  # the source alone, not installed
    __version__ = "0.0.0+source"
