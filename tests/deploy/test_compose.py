"""The Compose files: what they set is there, and object storage takes the place of the volume."""

from typing import Any

import pytest
import yaml

from service.settings import ENV_PREFIX, Settings, load_settings
from tests.helpers import ROOT

FILES = sorted((ROOT / "deploy" / "compose").glob("*.yaml"))


class Loader(yaml.SafeLoader):
    """Reads the tags by which Compose takes away what another file has said."""


Loader.add_constructor("!reset", lambda loader, node: None)
Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def read_service(name: str) -> dict[str, Any]:
    path = ROOT / "deploy" / "compose" / name
    return yaml.load(path.read_text(), Loader)["services"]["matting"]


@pytest.mark.parametrize("name", [path.name for path in FILES])
def test_files_name_settings_that_are_there(name: str) -> None:
    known = {ENV_PREFIX + field.upper() for field in Settings.model_fields}
    given = set(read_service(name)["environment"])
    assert {one for one in given if one.startswith(ENV_PREFIX)} <= known
    assert {one.split("_")[0] for one in given} <= {"MATTING", "AWS", "PGPASSWORD"}


def test_image_of_the_gpu_gets_a_gpu() -> None:
    service = read_service("gpu.yaml")
    assert service["build"]["target"] == "gpu" and service["image"].endswith(":gpu")
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_object_storage_takes_the_place_of_the_volume() -> None:
    shared, stored = read_service("shared.yaml"), read_service("storage.yaml")
    assert shared["volumes"] == ["jobs:/jobs"] and stored["volumes"] == ["data:/data"]
    assert stored["environment"]["MATTING_JOBS_DIR"] is None
    url = shared["environment"]["MATTING_DATABASE_URL"]
    settings = load_settings({}, database_url=url, storage_url="s3://bucket/x", data_dir="/tmp")
    assert settings.jobs_dir is None and settings.storage_redirect
