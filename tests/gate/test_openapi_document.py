"""Thousands of requests made from /openapi.json: no answer that the document does not have."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.gate.figures import choose, report

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def run_schemathesis(url: str, examples: int, folder: Path) -> tuple[int, str, list[dict]]:
    """Return exit code, output and the report of a run of schemathesis, line by line."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(examples), "--seed", "17", "--continue-on-failure"),
        *("--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"),
        *("--report", "ndjson", "--report-ndjson-path", str(folder / "events"), "--no-color"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)
    events = [json.loads(line) for line in (folder / "events").read_text().splitlines()]
    return done.returncode, done.stdout + done.stderr, events


def count_answers(events: list[dict]) -> Counter[int]:
    """Return how often each status was answered."""
    found: Counter[int] = Counter()
    waiting: list[object] = list(events)
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("status_code"), int):
                found[one["status_code"]] += 1
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_requests_made_from_the_document_get_what_it_says(live_server, tmp_path: Path) -> None:
    server = live_server(decoders=2, queue_s=60)
    code, output, events = run_schemathesis(server.url, choose(3, 150), tmp_path)
    statuses = count_answers(events)
    report(
        "requests made from the API document",
        {
            "requests": statuses.total(),
            "answers by status": dict(sorted(statuses.items())),
            "against the document": "none" if code == 0 else "see the output of the test",
        },
    )
    assert code == 0, output[-6000:]
    assert statuses.total() > 200 and max(statuses) < 500
    assert server.is_alive() and "Traceback" not in server.log.read_text()
