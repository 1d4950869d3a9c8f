"""Portrait matting over HTTP: MODNet in onnxruntime behind FastAPI."""

import os

# Official Linux wheels of onnxruntime send telemetry from 1.29 on. The switch only works before
# onnxruntime is imported, so it is set where every import of the service passes first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
