"""Checkpoint to ONNX: the only package that knows both torch and onnx."""


class ExportError(ValueError):
    """The export cannot go on; the message is one line for the person at the command line."""
