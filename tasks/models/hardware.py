"""What this machine can compute with, found without importing torch."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import platform
import sys
from pathlib import Path

# 8-bit dot products: x86 VNNI and AMX, Arm's dot product and matrix multiplication extensions
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}

# products of bfloat16: of x86 and of Arm
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def has_int8() -> bool:
    """Whether the processor multiplies 8-bit integers faster than floats; False where that cannot be known."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return apple or not _INT8_FLAGS.isdisjoint(cpu_flags())


@functools.cache
def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 faster than floats; False where that cannot be known."""
    return not _BF16_FLAGS.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """The first processor's features as Linux lists them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    # x86 says flags, ARM Features
    return next(
        (set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), set()
    )


def processor() -> str:
    """The processor's name and how many of its cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{os.cpu_count()} cores of {next(names, platform.processor() or platform.machine())}"


@functools.cache
def has_cuda() -> bool:
    """Whether there is a CUDA device, asked of its driver, and torch is built for it; torch takes seconds to import."""
    torch = importlib.util.find_spec("torch")
    return torch is not None and bool(list(Path(torch.origin or "").parent.glob("lib/*torch_cuda.*"))) and _has_device()


@functools.cache
def has_cuda_runtime() -> bool:
    """Whether there is a CUDA device, and the ONNX Runtime that is installed is built for it."""
    import onnxruntime as ort  # only after tasks.models has switched its telemetry off

    return "CUDAExecutionProvider" in ort.get_available_providers() and _has_device()


def _has_device() -> bool:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
