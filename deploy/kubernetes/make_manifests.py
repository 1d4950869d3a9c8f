"""Print the Kubernetes manifests that the Helm chart makes with its own values.

python deploy/kubernetes/make_manifests.py > deploy/kubernetes/matting.yaml
"""

from pathlib import Path
from typing import Any

from helm_python.chart import Chart

CHART = Path(__file__).parents[1] / "helm" / "matting"
RELEASE = "matting"
HEAD = (
    f"# Made from the Helm chart in deploy/helm/{RELEASE}:\n# {(__doc__ or '').splitlines()[-1]}\n"
)


def render(values: dict[str, Any] | None = None) -> dict[str, str]:
    """Return the manifests by the names of their templates, those that are not empty."""
    with Chart.load(CHART) as chart:
        found = chart.render(values=values, name=RELEASE)
    return {Path(name).name: text.strip() for name, text in sorted(found.items()) if text.strip()}


if __name__ == "__main__":
    print(HEAD + "".join(f"---\n{text}\n" for text in render().values()), end="")
