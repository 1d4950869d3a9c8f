"""HTTP and WebSocket below ASGI: deadlines, limits, the server that drains."""
