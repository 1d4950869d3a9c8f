"""The settings class: every `MATTING_*` variable, its default and its meaning."""

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.settings.sections import (
    DEFAULT_MODEL,
    SECTIONS,
    AccessSettings,
    AdmissionSettings,
    DecoderSettings,
    ImageSettings,
    InferenceSettings,
    JobSettings,
    OutgoingSettings,
    ServerSettings,
    SessionSettings,
    TimeSettings,
    VideoSettings,
)

ENV_PREFIX = "MATTING_"
CLIENT_VARIABLES = {"MATTING_SERVER"}  # read by the command line, and no setting of a service
AUTO_MODEL = "auto"  # stands for the service's own choice


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the variable and what it may be."""


class Settings(
    ServerSettings,
    AccessSettings,
    InferenceSettings,
    AdmissionSettings,
    ImageSettings,
    VideoSettings,
    JobSettings,
    OutgoingSettings,
    SessionSettings,
    TimeSettings,
    DecoderSettings,
    BaseSettings,
):
    """What the operator decides; defaults serve one CPU machine.

    Units are in the names: `_s` seconds, `_bytes` bytes, `_megapixels` 10^6 pixels.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", allow_inf_nan=False
    )

    def name_id(self, token: str) -> str:
        """Return an id of a session, a job or a kept result, by which its worker is found."""
        return f"{self.worker}.{token}" if self.worker else token

    @property
    def other_models(self) -> tuple[Path, ...]:
        """The files served beside `model_path`."""
        if self.models is not None:
            return self.models
        if self.model_path != DEFAULT_MODEL:
            return ()
        return tuple(sorted({*DEFAULT_MODEL.parent.glob("*.onnx")} - {DEFAULT_MODEL}))

    @field_validator("api_keys", "allowed_hosts", "cors_origins", "outgoing_allow", mode="before")
    @classmethod
    def split_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key for part in value.split(",") if (key := part.strip()))
        return value

    @field_validator("models", mode="before")
    @classmethod
    def split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(path) for part in value.split(",") if (path := part.strip()))
        return value

    @field_validator("data_dir")
    @classmethod
    def check_folder(cls, value: Path) -> Path:
        if not value.exists():
            raise ValueError(f"there is no such folder; make it: mkdir -p {value}")
        if not value.is_dir():
            raise ValueError("this is not a folder")
        if not os.access(value, os.W_OK | os.X_OK):
            raise ValueError("the user of the service cannot write to this folder")
        return value


def is_loopback(host: str) -> bool:
    """Say whether an address to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposure(settings: Settings) -> None:
    """Raise SettingsError for a service that strangers could use without anybody's will."""
    has_keys = settings.api_keys or settings.keys_file is not None
    if not has_keys and not settings.allow_anonymous and not is_loopback(settings.host):
        raise SettingsError(
            f"MATTING_HOST={settings.host} is open to others and there are no keys: set "
            "MATTING_API_KEYS or MATTING_KEYS_FILE, or MATTING_ALLOW_ANONYMOUS=1 to serve everybody"
        )


def load_settings(environ: Mapping[str, str] = os.environ, **overrides: object) -> Settings:
    """Read the environment and return the settings.

    Raises SettingsError naming the variable when a value is out of range, or when a `MATTING_*`
    variable is not a setting (a typing mistake would otherwise be ignored without a word).
    """
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | CLIENT_VARIABLES
    for name in environ:
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting{hint}")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except FileNotFoundError as error:  # nothing can be written, and data_dir was not given
        raise SettingsError(f"{error.strerror}; name a folder with MATTING_DATA_DIR") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = ENV_PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(f"{name}={first['input']!r}: {first['msg']}") from None


def describe_settings() -> str:
    """Return Markdown: for each section a table of its settings: variable, default, meaning."""
    lines: list[str] = []
    for title, section in SECTIONS.items():
        lines += [f"## {title}", "", section.__doc__ or "", ""]
        lines += ["| variable | default | meaning |", "|---|---|---|"]
        for name, field in section.model_fields.items():
            default = field.default
            if name == "data_dir":
                default = "`matting-PORT` in the system's temporary folder"
            elif name == "model_path":
                default = "the embedded weights"
            elif default in ((), None):
                default = ""
            text = field.description or ""
            lines.append(f"| `{ENV_PREFIX}{name.upper()}` | {default} | {text} |")
        lines.append("")
    return "\n".join(lines).rstrip()
