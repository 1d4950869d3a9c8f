"""Print the Grafana dashboard.

python deploy/monitoring/make_dashboard.py > deploy/monitoring/dashboard.json
"""

import json
from dataclasses import dataclass, field
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, ACROSS = 8, 8, 3
# Grafana takes the window from what it shows; a panel of a day needs no point a second.
RATE = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """One picture: a title, its unit, and for each legend an expression of PromQL."""

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    help: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[{RATE}]))"


def quantile(metric: str, share: float, by: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket[{RATE}])))"


ERRORS = 'matting_requests_total{status=~"5.."}'
ROWS: dict[str, list[Panel]] = {
    "Service": [
        Panel(
            "Ready",
            "none",
            {"{{instance}} {{worker}}": "matting_ready", "{{worker}} up": "matting_worker_up"},
            "stat",
            "1 when the service takes work.",
        ),
        Panel(
            "Models",
            "none",
            {"{{name}} {{provider}} {{precision}}": "matting_model_info"},
            "stat",
            "What is loaded, and on which device it runs.",
        ),
        Panel("Build", "none", {"{{version}}, Python {{python}}": "matting_build_info"}, "stat"),
    ],
    "Requests": [
        Panel(
            "Requests",
            "reqps",
            {"{{route}} {{status}}": rate("matting_requests_total", "route, status")},
        ),
        Panel(
            "Errors",
            "percentunit",
            {"5xx": f"sum(rate({ERRORS}[{RATE}])) / sum(rate(matting_requests_total[{RATE}]))"},
            help="The share of requests that failed here; 5xx is a bug or a full disk.",
        ),
        Panel(
            "Refused", "reqps", {"{{reason}}": rate("matting_requests_rejected_total", "reason")}
        ),
        Panel(
            "Latency",
            "s",
            {
                f"p{share * 100:g} {{{{route}}}}": quantile(
                    "matting_request_duration_seconds", share, "route"
                )
                for share in (0.5, 0.95)
            },
        ),
        Panel("In progress", "none", {"requests": "sum(matting_requests_in_progress)"}),
        Panel("Bodies on their way", "bytes", {"bytes": "sum(matting_upload_bytes)"}),
    ],
    "Network": [
        Panel(
            "Stages, p95",
            "s",
            {"{{stage}}": quantile("matting_stage_duration_seconds", 0.95, "stage")},
        ),
        Panel("Queue", "none", {"{{instance}} {{worker}}": "matting_queue_depth"}),
        Panel(
            "Batch size",
            "none",
            {
                "mean": f"sum(rate(matting_batch_size_sum[{RATE}]))"
                f" / sum(rate(matting_batch_size_count[{RATE}]))"
            },
        ),
        Panel("Frames", "fps", {"{{kind}}": rate("matting_frames_total", "kind")}),
        Panel(
            "Real-time factor of clips",
            "none",
            {
                "clips": f"sum(rate(matting_clip_seconds_total[{RATE}]))"
                f" / sum(rate(matting_clip_work_seconds_total[{RATE}]))"
            },
            help="Seconds of video for one second of work; below 1 a clip takes longer than it is.",
        ),
        Panel(
            "Failures",
            "none",
            {
                "network: {{kind}}": rate("matting_inference_failures_total", "kind"),
                "decoder children": f"sum(rate(matting_decoder_restarts_total[{RATE}]))",
            },
        ),
    ],
    "Sessions and jobs": [
        Panel("Sessions", "none", {"open": "sum(matting_sessions_active)"}),
        Panel("Memory of sessions", "bytes", {"bytes": "sum(matting_session_buffer_bytes)"}),
        Panel(
            "Live frames left out",
            "fps",
            {"dropped": f"sum(rate(matting_live_frames_dropped_total[{RATE}]))"},
        ),
        Panel("Jobs", "none", {"{{state}}": "sum by (state) (matting_jobs)"}),
        Panel(
            "Webhooks and results sent",
            "none",
            {"{{kind}} {{state}}/s": rate("matting_deliveries_total", "kind, state")},
        ),
        Panel(
            "Failures of the object storage",
            "none",
            {"failures/s": f"sum(rate(matting_storage_failures_total[{RATE}]))"},
        ),
        Panel(
            "Use of keys",
            "none",
            {"{{key}} {{unit}}/s": rate("matting_key_use_total", "key, unit")},
        ),
    ],
    "Process": [
        Panel("Memory", "bytes", {"{{instance}} {{worker}}": "process_resident_memory_bytes"}),
        Panel(
            "Processor",
            "none",
            {"{{instance}} {{worker}}": f"rate(process_cpu_seconds_total[{RATE}])"},
            help="Cores in use, those of decoder children left out.",
        ),
        Panel(
            "Open files",
            "percentunit",
            {"{{instance}} {{worker}}": "process_open_fds / process_max_fds"},
        ),
    ],
}


def make_dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": WIDTH * ACROSS, "h": 1}
        number = len(panels) + 1
        panels.append({"id": number, "type": "row", "title": title, "gridPos": place, "panels": []})
        top += 1
        for index, panel in enumerate(row):
            down, right = divmod(index, ACROSS)
            place = {"x": right * WIDTH, "y": top + down * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(describe_panel(panel, len(panels) + 1, place))
        top += -(-len(row) // ACROSS) * HEIGHT
    return {
        "uid": "matting",
        "title": "Matting service",
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "tags": ["matting"],
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": panels,
    }


def describe_panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """Return one panel as JSON; histograms show their exemplars."""
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": panel.options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
                "exemplar": "_bucket" in expression,
            }
            for index, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    print(json.dumps(make_dashboard(), indent=1))
