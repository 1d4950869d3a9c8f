"""The process that decoder children are forked from, with all loaded that they need.

Started as `python -m service.media.decoder.template FD`; FD is its end of a Unix stream socket. It
reads no file of a client, forks a child for each socket that it is sent, says how children ended,
and ends with its socket; the kernel then ends its children.
"""

import gc
import os
import socket
import sys
import traceback
from typing import NoReturn

from service.media.decoder.child import load, serve
from service.media.wire.channel import Channel, ChannelClosed


def answer_requests(channel: Channel) -> None:
    """Answer `fork` and `wait` until the socket closes."""
    while True:
        request, _, fd = channel.receive(max_payload_bytes=0)
        match request["op"]:
            case "fork":
                assert fd is not None
                channel.send({"pid": fork(channel, fd)})
            case "wait":
                _, status = os.waitpid(request["pid"], 0)
                channel.send({"code": os.waitstatus_to_exitcode(status)})


def fork(channel: Channel, fd: int) -> int:
    """Return the process id of a new child, which serves the socket `fd`."""
    own_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        channel.close()  # the child reaches the service by its own socket alone
        run_child(fd, own_pid)
    os.close(fd)
    return pid


def run_child(fd: int, parent_pid: int) -> NoReturn:
    code = 1
    try:
        serve(fd, parent_pid)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def main() -> None:
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    load()
    gc.freeze()  # else a collection in a child would write to, and so copy, every page
    try:
        answer_requests(channel)
    except ChannelClosed:
        pass


if __name__ == "__main__":
    main()
