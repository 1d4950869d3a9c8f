"""Bringing clips as jobs over HTTP."""

from tests.helpers import wait_until

ASYNC = {"Prefer": "respond-async"}
MEMBERS = {
    "id state progress frames_done frames_total eta_s created_at expires_at results report error "
    "outputs options deliveries"
}


def bring(client, clip: bytes, headers: dict[str, str] = ASYNC, **options):
    return client.post("/v1/video", params=options, files={"file": clip}, headers=headers)


def wait_for_end(client, url: str) -> dict:
    return wait_until(
        lambda: (job := client.get(url).json())["state"] not in ("queued", "running") and job, 30
    )
