"""What this machine offers to the engine, and what would make it faster."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass

import openslide
import torch

from wsi_engine.installing import install_command
from wsi_engine.models import quantised
from wsi_engine.models.compiling import COMPILERS, compiling_obstacle
from wsi_engine.models.devices import (
    CPU,
    precision_of,
    processor_instructions,
    processor_threads,
)
from wsi_engine.version import __version__

EXTRAS = {
    "tiatoolbox": ("HoVer-Net models", "tiatoolbox"),
    "torchvision": ("Mask R-CNN", "maskrcnn"),
    "onnxruntime": ("networks in ONNX, --model card.yaml", "onnx"),
    "geopandas": ("result.nuclei.to_geopandas()", "geopandas"),
}
"""What packages that may be absent are for, and the extra that each comes with, by module."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine, with advice where there is something to gain."""

    name: str
    value: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at the machine; nothing is changed and nothing is downloaded."""
    findings = [
        Finding("wsi-engine", __version__),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        Finding("processor", _processor()),
        Finding("torch", torch.__version__),
        _openvino(),
        _cuda(),
        _compiler(),
        _bf16(),
        Finding("openslide", f"{openslide.__library_version__} (python {openslide.__version__})"),
    ]
    findings += [_extra(name, *what) for name, what in EXTRAS.items()]
    return findings


def _processor() -> str:
    return f"{os.cpu_count()} cores, networks use {processor_threads()} threads"


def _openvino() -> Finding:
    if not quantised.is_usable():
        return Finding("openvino", "not installed", "the default network runs in torch, slower")
    return Finding("openvino", importlib.metadata.version("openvino"))


def _cuda() -> Finding:
    if not torch.cuda.is_available():
        return Finding("cuda", "none", "a GPU is not needed, but makes networks much faster")
    names = [
        f"cuda:{k} {torch.cuda.get_device_name(k)}, "
        f"{torch.cuda.get_device_properties(k).total_memory / 2**30:.0f} GiB"
        for k in range(torch.cuda.device_count())
    ]
    return Finding("cuda", "; ".join(names))


def _compiler() -> Finding:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), "none")
    advice = "networks run uncompiled here, at two thirds of the speed"
    obstacle = compiling_obstacle()
    return Finding("compiler", compiler, f"{advice}: {obstacle}" if obstacle else "")


def _bf16() -> Finding:
    if torch.cuda.is_available():
        return Finding("bf16", "yes" if torch.cuda.is_bf16_supported() else "no")
    native = precision_of(CPU) == "bfloat16"
    text = f"{'yes' if native else 'no'} ({processor_instructions('bfloat16')})"
    return Finding("bf16", text, "" if native else "networks that torch runs are in fp32 here")


def _extra(name: str, purpose: str, extra: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(name, "not installed", f"{purpose}: {install_command(extra)}")
    return Finding(name, importlib.metadata.version(name))
