"""Settings of the worker processes that generate and measure images: part of no run's identity."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from line_neurons.agent.settings_sources import flag_of

MOST_WORKERS = 512
_DEVICE = re.compile(r"(?P<kind>all|cpu|cuda|mps|xpu)(?::0*(?P<number>\d+))?")
_OF_RAY = ("workers", "worker_gpus", "worker_cpus", "worker_memory", "worker_files", "trust_network")
_ADDRESS = re.compile(r"local|auto|[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


class EngineSettings(BaseSettings):
    """Where images are generated and measured; ``Settings`` has these fields, too."""

    generator_device: str = Field("", description="Device of the generator; not set: device.")
    target_device: str = Field("", description="Device of the target; not set: device.")
    devices: str = Field(
        "", description="Devices with a worker process each: cuda:0,cuda:1 ..., all (of the GPUs), or cpu,cpu."
    )
    ray: str = Field("", description="Ray cluster of workers: local, auto or HOST:PORT.")
    workers: int | None = Field(
        None, ge=1, le=MOST_WORKERS, description="Workers on the Ray cluster; not set: all that fit."
    )
    worker_gpus: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="GPUs of each worker on Ray; 0.5: two share one; 0: CPU only."
    )
    worker_cpus: float = Field(1.0, gt=0, allow_inf_nan=False, description="CPU cores of each worker on Ray.")
    worker_memory: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Main memory of each worker on Ray in GB; 0: not looked at."
    )
    worker_files: str = Field(
        "",
        description="Folder of the store's images as workers see it, where they share it and write images.",
    )
    trust_network: bool = Field(False, description="Use a Ray cluster without token authentication.")

    @field_validator("devices")
    @classmethod
    def _each_gpu_once(cls, devices: str) -> str:
        names = device_names(devices)
        if devices and not all(map(_DEVICE.fullmatch, names)):
            raise ValueError(
                f"{devices!r:.60} are not devices separated by commas, such as cuda:0,cuda:1, nor all"
            )
        if "all" in names and len(names) > 1:
            raise ValueError("all stands for every GPU; name no others")
        for name in names:
            if name != "cpu" and names.count(name) > 1:
                raise ValueError(f"the GPU {name!r:.40} is named twice; one worker fills it")
        return ",".join(names)

    @field_validator("ray")
    @classmethod
    def _is_address(cls, ray: str) -> str:
        if ray.startswith("ray://"):
            raise ValueError(
                "ray:// (Ray Client) is not meant for long work; run line on a machine of the cluster, with auto "
                "or HOST:PORT"
            )
        if ray and not _ADDRESS.fullmatch(ray):
            raise ValueError(f"{ray!r:.60} is neither local, auto nor HOST:PORT")
        return ray

    @field_validator("worker_files")
    @classmethod
    def _absolute_path(cls, folder: str) -> str:
        if folder and not folder.startswith("/"):
            raise ValueError(f"{folder!r:.100} is no absolute path: workers have working folders of their own")
        return folder

    @field_validator("worker_gpus")
    @classmethod
    def _part_or_whole_gpus(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("must be a whole number, or a part of one GPU")
        return gpus

    @model_validator(mode="after")
    def _one_engine(self) -> EngineSettings:
        apart = [name for name in ("generator_device", "target_device") if getattr(self, name)]
        if self.devices and self.ray:
            raise ValueError("devices and ray exclude each other; Ray finds the devices itself")
        for_ray = [name for name in _OF_RAY if getattr(self, name) != EngineSettings.model_fields[name].default]
        if for_ray and not self.ray:
            raise ValueError(f"{for_ray[0]} is for workers on Ray; name a cluster with ray, or leave it out")
        if apart and (self.devices or self.ray):
            raise ValueError(
                f"{apart[0]} is for a single process; a worker holds generator and target on one device"
            )
        return self

    @property
    def uses_workers(self) -> bool:
        """Whether images are generated and measured by worker processes."""
        return bool(self.devices or self.ray)


ENGINE = tuple(EngineSettings.model_fields)
"""Settings that say where work is done: never recorded with a run."""


def device_names(devices: str) -> list[str]:
    """Return the devices of a list that is separated by commas; ``cuda`` is ``cuda:0``."""
    names = [name.strip() for name in devices.split(",")] if devices.strip() else []
    return ["cuda:0" if name == "cuda" else _DEVICE.sub(_numbered, name) for name in names]


def _numbered(device: re.Match[str]) -> str:
    return f"{device['kind']}:{device['number']}" if device["number"] else device["kind"]


def engine_flags(settings: Any) -> list[str]:
    """Return the flags of the command that name the same workers."""
    flags: list[str] = []
    for name, value in engine_of(settings).items():
        if value != EngineSettings.model_fields[name].default:
            flags += [flag_of(name)] if value is True else [flag_of(name), str(value)]
    return flags


def engine_of(settings: Any) -> dict[str, Any]:
    """Return the engine's settings, by name."""
    return {name: getattr(settings, name) for name in ENGINE}
