"""Check the machine: what its processor can do, cores against threads, a CUDA device, room on the disks."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from schemas.settings import Settings
from tasks.doctor.finding import Finding
from tasks.models.hardware import cpu_flags

# Instructions that decide how fast a model runs, in Linux's words; the first is what ONNX Runtime's fp32 lives on.
FEATURES = {
    "x86_64": ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    "aarch64": ("asimd", "asimddp", "i8mm", "bf16"),
}

# Bytes that should be free, besides: a model's export takes 90 MB twice over, a compaction writes what it merges again
# before the old files go.
CACHE_ROOM = 500_000_000
STORE_ROOM = 1_000_000_000
# Bytes without which nothing can be published any more.
LEAST = 100_000_000


def cpu(_: Settings) -> Finding:
    """Instruction sets that the models' speed depends on."""
    return instructions(platform.machine(), cpu_flags())


def instructions(architecture: str, flags: set[str]) -> Finding:
    """What a processor with `flags` is good for; Linux lists them, other systems have other ways."""
    features = FEATURES.get(architecture, ())
    if not flags or not features:
        return Finding("ok", f"{architecture}; its instruction sets are not looked at on this system")
    found = ", ".join(feature for feature in features if feature in flags)
    missing = ", ".join(feature for feature in features if feature not in flags)
    detail = f"{architecture} with {found or 'none'}; without {missing or 'none'}"
    if features[0] not in flags:
        return Finding("warning", detail, f"embedding is several times slower than with {features[0]}")
    return Finding("ok", detail)


def threads(settings: Settings) -> Finding:
    """Cores that this process may use, by affinity and cgroup limit, against the threads that the settings ask for."""
    import joblib

    cores, embed, parse = joblib.cpu_count(), settings.embed_threads, settings.parse_workers
    detail = f"{cores} cores for this process; embed_threads={embed}, parse_workers={parse}"
    if embed > cores:
        return Finding("warning", detail, f"threads wait for each other: set embed_threads={cores}")
    return Finding("ok", detail, f"embed_threads={cores} is faster" if cores >= 2 * embed else "")


def cuda(settings: Settings) -> Finding:
    """A CUDA device, and whether the embedder can use it. torch is imported only where it would."""
    device = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    if not device:
        return Finding("ok", "no device, the processor embeds")
    if settings.embed_backend == "onnx":
        return Finding(
            "ok",
            "a device that embed_backend=onnx does not use",
            "to embed on it: set embed_backend=sentence-transformers",
        )
    import torch

    if torch.cuda.is_available():
        return Finding("ok", f"{torch.cuda.get_device_name()}, by torch {torch.__version__}")
    return Finding(
        "warning",
        f"a device that torch {torch.__version__} cannot use, the processor embeds",
        "install a torch built for CUDA, and the device's driver",
    )


def disk(settings: Settings) -> Finding:
    """Free bytes where the store and the cache lie or will lie."""
    held = sum(path.stat().st_size for path in settings.store.rglob("*") if path.is_file())
    places = {"store": (settings.store, STORE_ROOM + held), "cache": (settings.cache, CACHE_ROOM)}
    free = {name: shutil.disk_usage(_existing(path)).free for name, (path, _) in places.items()}
    detail = ", ".join(f"{room / 1e9:,.1f} GB free for the {name}" for name, room in free.items())
    short = {name: wanted for name, (_, wanted) in places.items() if free[name] < wanted}
    if not short:
        return Finding("ok", detail)
    advice = " and ".join(f"{wanted / 1e9:,.1f} GB for the {name}" for name, wanted in short.items())
    return Finding("failed" if min(free.values()) < LEAST else "warning", detail, f"make room: {advice}")


def _existing(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
