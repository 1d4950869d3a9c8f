"""What `matte doctor` looks at: each check tries the thing, and says what to do when it fails."""

import io
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pillow_heif
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from PIL import Image

import service
from service.errors import MattingError
from service.inference.engine import InferenceError, OnnxEngine
from service.inference.models import ModelError, read_model
from service.inference.preprocessing import prepare_input
from service.inference.providers import DeviceError, count_threads
from service.media.decoder.client import Decoder
from service.media.image.types import FORMATS
from service.settings import Settings, SettingsError, load_settings

State = Literal["ok", "absent", "warning", "failed"]
PORTRAIT = Path(service.__file__).parent / "web" / "page" / "portrait.jpg"
PERSON_SHARE = (0.1, 0.9)  # of the portrait's pixels, whatever network looks at it
DEVICES = ("cuda", "openvino", "cpu")
ENCODERS = ("libx264", "libvpx-vp9", "prores_ks", "aac", "libopus")
DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "prores", "mpeg4", "gif", "aac", "opus", "mp3")
LITTLE_MEMORY_BYTES = 2 * 2**30
EXTRAS = {
    "pymatting": ("refine=fine", "pip install 'matting-service[fine]'"),
    "torch": ("training and export", "`make setup` in a checkout of the project"),
}


@dataclass(frozen=True)
class Finding:
    """One line: `absent` is something that need not be there; `advice` is what to do."""

    name: str
    state: State
    text: str
    advice: str = ""


def check_all() -> Iterator[Finding]:
    """Try everything, one after another."""
    yield Finding("version", "ok", f"{service.__version__}, Python {platform.python_version()}")
    try:
        settings = load_settings()
        yield Finding("settings", "ok", f"{len(settings.model_fields_set)} set by MATTING_*")
    except SettingsError as error:
        yield Finding("settings", "failed", str(error), "correct or unset the variable")
        settings = Settings()
    yield from check_models(settings)
    for device in DEVICES:
        yield check_device(device, settings)
    yield from check_photo_formats(settings)
    yield check_clip_codecs()
    yield check_threads(settings)
    yield check_memory()
    yield check_disk(settings)
    for module, (what, advice) in EXTRAS.items():
        if find_spec(module):
            yield Finding(module, "ok", f"for {what}")
        else:
            yield Finding(module, "absent", f"for {what}", advice)


def check_models(settings: Settings) -> Iterator[Finding]:
    """Compare the SHA-256 of each served file with the one of the exporter's report."""
    expected = {settings.model_path: settings.model_sha256}
    for path in dict.fromkeys((settings.model_path, *settings.other_models)):
        name = f"model {path.name}"
        try:
            file = read_model(path, expected.get(path))
        except ModelError as error:
            yield Finding(name, "failed", str(error), "fetch or export the file again")
            continue
        text = f"SHA-256 {file.sha256[:12]}..."
        if expected.get(path) or path.with_suffix(".json").exists():
            yield Finding(name, "ok", f"{text}, as expected")
        else:
            advice = "set MATTING_MODEL_SHA256, or keep the exporter's .json beside the file"
            yield Finding(name, "warning", f"{text}, nothing to compare it with", advice)


def check_device(device: str, settings: Settings) -> Finding:
    """Run a portrait through the network on a device, and look at the matte."""
    name = f"device {device}"
    asked = settings.device
    precision = settings.precision if device == "openvino" else "auto"
    settings = settings.model_copy(update={"device": device, "precision": precision})
    try:
        engine = OnnxEngine(settings)
        with Image.open(PORTRAIT) as picture:
            image = np.asarray(picture.convert("RGB"))
        trimap = np.full(image.shape[:2], 128, np.uint8) if engine.info.takes_trimap else None
        limit = settings.network_max_megapixels
        tensor, _ = prepare_input(image, engine.info, None, limit, trimap)
        engine.run(tensor[np.newaxis])  # the first run prepares the others
        start_s = time.perf_counter()
        share = float(engine.run(tensor[np.newaxis]).mean())
        took_ms = (time.perf_counter() - start_s) * 1000
    except DeviceError as error:
        reason, _, advice = str(error).partition("; ")
        state: State = "failed" if device in ("cpu", asked) else "absent"
        return Finding(name, state, reason, advice)
    except (InferenceError, ModelError) as error:
        return Finding(name, "failed", str(error), "set MATTING_DEVICE=cpu, and report this")
    low, high = PERSON_SHARE
    if not low < share < high:
        text = f"the matte of a portrait is wrong: {share:.0%} of it is person"
        return Finding(name, "failed", text, "set MATTING_DEVICE=cpu, and report this")
    return Finding(
        name, "ok", f"{engine.info.name} in {engine.precision}, {took_ms:.0f} ms for a portrait"
    )


def check_photo_formats(settings: Settings) -> Iterator[Finding]:
    """Write a small picture in each format and read it in a confined decoder child."""
    pillow_heif.register_heif_opener()
    picture = Image.new("RGB", (64, 48), (200, 120, 40))
    read, not_read = [], []
    decoder = Decoder(settings)
    try:
        for format in FORMATS:
            buffer = io.BytesIO()
            try:
                picture.save(buffer, format)
                decoder.open_image(buffer.getvalue())
                decoder.decode_image()
                read.append(format)
            except (MattingError, OSError, KeyError) as error:
                not_read.append(f"{format} ({error})")
                if not decoder.is_alive():
                    decoder = Decoder(settings)
    finally:
        decoder.close()
    if read:
        yield Finding("photos", "ok", f"read and written: {', '.join(read)}")
    if not_read:
        advice = "pip install --force-reinstall pillow pillow-heif"
        yield Finding("photos", "failed", f"not usable: {', '.join(not_read)}", advice)


def check_clip_codecs() -> Finding:
    """Look for the encoders of results and the usual decoders in PyAV's FFmpeg."""
    missing = [name for name in ENCODERS if not has_codec(name, "w")]
    missing += [name for name in DECODERS if not has_codec(name, "r")]
    if missing:
        text = f"missing: {', '.join(missing)}"
        return Finding("clips", "failed", text, "pip install --force-reinstall av")
    text = f"PyAV {av.__version__}; written: {', '.join(ENCODERS)}; read: {', '.join(DECODERS)}"
    return Finding("clips", "ok", text)


def has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def check_threads(settings: Settings) -> Finding:
    """Compare the threads of the network with the cores that may be used."""
    usable, there = count_threads(), os.cpu_count() or 1
    text = f"{settings.threads or usable} for the network, {usable} of {there} cores usable"
    if settings.threads > usable:
        advice = f"set MATTING_THREADS to {usable} or 0: more threads than cores slow each other"
        return Finding("threads", "warning", text, advice)
    return Finding("threads", "ok", text)


def check_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> Finding:
    """Look at what is free, on the machine and within the container's limit."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return Finding("memory", "warning", "this system does not say how much is free")
    try:
        limit = int((cgroup / "memory.max").read_text())
        free = min(free, limit - int((cgroup / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no container, or one without a limit
    text = f"{free / 2**30:.1f} GiB free"
    if free < LITTLE_MEMORY_BYTES:
        advice = "large photos may not fit: lower MATTING_IMAGE_MAX_MEGAPIXELS, MATTING_DECODERS"
        return Finding("memory", "warning", text, advice)
    return Finding("memory", "ok", text)


def check_disk(settings: Settings) -> Finding:
    """Compare the free space of the data folder with what jobs need."""
    usage = shutil.disk_usage(settings.data_dir)
    needed = max(settings.disk_min_free_bytes, usage.total * settings.disk_min_free_percent / 100)
    text = f"{usage.free / 2**30:.1f} GiB free in {settings.data_dir}"
    if usage.free < needed:
        advice = (
            f"the service takes no jobs below {needed / 2**30:.1f} GiB: free some, set "
            "MATTING_DATA_DIR, or lower MATTING_DISK_MIN_FREE_PERCENT"
        )
        return Finding("disk", "warning", text, advice)
    return Finding("disk", "ok", text)
