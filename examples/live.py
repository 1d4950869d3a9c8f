"""A clip or a webcam through the live socket, as Motion JPEG on stdout; Ctrl-C ends it.

A window: python examples/live.py 0 | ffplay -f mjpeg -
A camera: python examples/live.py 0 | ffmpeg -f mjpeg -i - -f v4l2 -pix_fmt yuv420p /dev/video9

Needs httpx, websockets and OpenCV. `matte live` is the whole program, with options, files and keys.
"""

import json
import sys

import cv2
import httpx
from websockets.sync.client import ClientConnection, connect


def show(socket: ClientConnection) -> None:
    """Write the next picture; its times go to stderr."""
    facts = json.loads(socket.recv())
    print(facts, file=sys.stderr)
    if "problem" not in facts:
        sys.stdout.buffer.write(socket.recv())


source = sys.argv[1]
server = sys.argv[2] if len(sys.argv) > 2 else "http://localhost:8000"
options = {"background": "blur", "packaging": "frames", "format": "jpeg"}
session = httpx.post(f"{server}/v1/sessions", json=options).raise_for_status().json()
camera = cv2.VideoCapture(int(source) if source.isdigit() else source)
waiting = 0
with connect(f"{server.replace('http', 'ws', 1)}/v1/sessions/{session['id']}/live") as socket:
    while (read := camera.read())[0]:
        if waiting == 2:  # a third without an answer may take the place of both
            show(socket)
            waiting -= 1
        socket.send(cv2.imencode(".jpg", read[1])[1].tobytes())
        waiting += 1
    if waiting > 1:  # the last one waits for a follower, which does not come
        show(socket)
