"""The configuration of nginx, which leads each request to the worker that has what it asks for.

An id of a session, a job or a kept result begins with the name of its worker. What has no id goes
to the worker with the fewest requests; jobs of one key, or of one `Idempotency-Key` where there
are no keys, always to the same one, so that their list is whole and no key makes two jobs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import NotReady
from service.settings import Settings, is_loopback

MARGIN_S = 60  # nginx waits so much longer than the service, whose answers say more
TEMPLATE = """\
worker_processes auto;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    server_tokens off;
    access_log off;
    error_log stderr warn;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/octet-stream;

    map $http_upgrade $upgrade {{ default upgrade; "" ""; }}
    map $uri $from_id {{ default ""; "~^/v1/[a-z]+/(?<id>{names})\\." $id; }}
    map $http_authorization $bearer {{ default ""; "~*^bearer +(?<token>.+)$" $token; }}
    map "$bearer$http_x_api_key" $affinity {{
        default "$bearer$http_x_api_key";
        "" $http_idempotency_key;
    }}
    map "$uri $http_prefer" $is_job {{
        default 0;
        "~^/v1/(jobs|uploads)" 1;
        "~*^/v1/video .*respond-async" 1;
    }}
    map "$from_id:$is_job:$affinity" $pool {{
        default any;
        "~^(?<name>{names}):" $name;
        "~^:{by_key}:." by_key;
    }}

    upstream any {{ least_conn; keepalive 16;{servers} }}
    upstream by_key {{ hash $affinity consistent; keepalive 16;{lasting} }}
{upstreams}

    server {{
        listen {listen};
        absolute_redirect off;
        client_max_body_size 0;
        large_client_header_buffers 4 {header_kb}k;
        client_header_timeout {header_s}s;
        client_body_timeout {body_s}s;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_buffering off;
        proxy_read_timeout {read_s}s;
        proxy_send_timeout {body_s}s;
        proxy_set_header Host {host};
        proxy_set_header Connection $upgrade;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        recursive_error_pages on;
        error_page 418 = @any;
        error_page 502 504 = @away;

        location / {{
            if ($pool = any) {{ return 418; }}
            proxy_next_upstream off;
            proxy_pass http://$pool;
        }}
        location @any {{
            proxy_next_upstream error;
            proxy_pass http://any;
        }}
        location = /metrics {{ proxy_pass http://127.0.0.1:{metrics_port}; }}
        location @away {{
            internal;
            default_type application/problem+json;
            add_header Retry-After 1 always;
            add_header X-Request-ID $request_id always;
            return 503 '{away}';
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Worker:
    """One process of the service, on a port of loopback."""

    name: str
    port: int


def make_config(
    settings: Settings,
    workers: Sequence[Worker],
    *,
    folder: str,
    metrics_port: int,
    has_quotas: bool,
) -> str:
    """Return nginx.conf; `folder` is for its files in between.

    With quotas all requests of a key go to one worker, which alone knows what it has used.
    """
    # A worker on loopback knows itself by the names of loopback alone.
    any_host = not settings.allowed_hosts and not is_loopback(settings.host)
    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    longest_s = max(settings.video_timeout_s, settings.chunk_timeout_s, settings.request_timeout_s)
    problem = NotReady("the process that answers this is away", hint="try again soon")
    servers = [f" server 127.0.0.1:{worker.port}" for worker in workers]
    return TEMPLATE.format(
        folder=folder,
        names="|".join(worker.name for worker in workers),
        by_key="[01]" if has_quotas else "1",
        servers="".join(f"{server} max_fails=1 fail_timeout=1s;" for server in servers),
        lasting="".join(f"{server} max_fails=0;" for server in servers),
        upstreams="\n".join(
            f"    upstream {worker.name} {{ server 127.0.0.1:{worker.port} max_fails=0;"
            " keepalive 16; }"
            for worker in workers
        ),
        listen=f"{address}:{settings.port}",
        header_kb=max(8, -(-settings.header_max_bytes // 1024)),
        header_s=round(settings.header_timeout_s) + 1,
        body_s=round(settings.body_idle_timeout_s) + MARGIN_S,
        read_s=round(longest_s) + MARGIN_S,
        host="localhost" if any_host else "$http_host",
        metrics_port=metrics_port,
        away=json.dumps(problem.describe() | {"instance": "$request_id"}),
    )
