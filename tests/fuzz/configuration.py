"""Configuration files: any bytes are a configuration or one line that says what is wrong."""

import json
import os
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deviceplugin.config.config import (
    Config,
    Setting,
    parse_address,
    parse_choice,
    parse_directory,
    parse_node_name,
    parse_vendors,
)
from deviceplugin.config.effective import effective
from deviceplugin.config.load import CORE_SECTIONS, load
from deviceplugin.config.schema import decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.health.section import HealthSection, with_defaults
from deviceplugin.resources.plan import Plan, sharing_of
from deviceplugin.vendors.nvidia import HEALTH_DEFAULTS
from tests.fuzz.surface import Source, Surface, directory, is_line, text_of
from tests.resources.builders import gpu, instance, inventory

GPUS = (gpu(0), gpu(1, product="Tesla T4"), gpu(2, resource=None))
NODE = inventory(*GPUS, instance(GPUS[2], 0), instance(GPUS[2], 1))
MAX_IDS = 200_000  # a list of 4 MiB has fewer


def files(data: bytes) -> None:
    """A file, loaded as the daemon loads it, planned, shown by `check` and loaded again."""
    config = _loaded(data)
    if config is None:
        return
    shown = yaml.safe_dump(json.loads(json.dumps(effective(config))), sort_keys=False)
    again = _loaded(shown.encode())
    assert again is not None
    assert again.sections == config.sections
    assert effective(again) == effective(config)
    _planned(config)


def _loaded(data: bytes) -> Config | None:
    with directory() as folder:
        path = folder / "config.yaml"
        path.write_bytes(data)
        try:
            return load({"config": str(path), "node_name": "node-1"})[0]
        except ConfigError as error:
            assert is_line(str(error)), str(error)
            assert error.expected
            return None


def _planned(config: Config) -> Plan:
    sharing = sharing_of(config.sections)
    plan = sharing.plan(NODE)
    ids = [entry.id for resource in plan.resources.values() for entry in resource.devices]
    assert len(ids) == len(set(ids)) < MAX_IDS
    assert all(is_line(p.reason) and is_line(p.action) for p in plan.problems)
    assert sharing.plan(NODE, previous=plan).resources == plan.resources
    return plan


def values(data: bytes) -> None:
    """A configuration of which some values are others, of any kind."""
    source = Source(data)
    document = yaml.safe_load(source.choice((OURS, RULES, HEALTH, NVIDIA)))
    for _ in range(1 + source.number(3)):
        _replace(source, document)
    files(yaml.safe_dump(document).encode())


def _replace(source: Source, document: Any) -> None:
    """One value somewhere; a key of a mapping may become another too."""
    while True:
        keys = list(document) if isinstance(document, dict) else range(len(document))
        key = source.choice(list(keys))
        inner = document[key]
        if not inner or not isinstance(inner, dict | list) or source.number(4) == 0:
            break
        document = inner
    if isinstance(document, dict) and source.number(8) == 0:
        document[str(source.choice(ODD))] = document.pop(key)
    else:
        document[key] = source.choice(ODD)


def settings(data: bytes) -> None:
    """One value, as a flag or a variable gives it."""
    source = Source(data)
    parse = source.choice(_parsers())
    text = text_of(source.rest())
    try:
        value = parse(Setting(text, "--flag"))
    except ConfigError as error:
        assert is_line(str(error))
        assert str(error).startswith("--flag: ")
        return
    assert parse(Setting(_written(value), "--flag")) == value


@cache
def _parsers() -> tuple[Callable[[Setting], Any], ...]:
    return (
        parse_address,
        lambda setting: parse_choice(setting, ("debug", "info")),
        parse_directory,
        lambda setting: parse_vendors(setting, ("nvidia", "amd")),
        parse_node_name,
    )


def _written(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int):
        host = f"[{value[0]}]" if ":" in value[0] else value[0]
        return f"{host}:{value[1]}"
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else os.fspath(value) if isinstance(value, Path) else str(value)


def variables(data: bytes) -> None:
    """DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS: no text of theirs stops the daemon."""
    first, _, second = text_of(data).partition("|")
    environ = {"DP_DISABLE_HEALTHCHECKS": first, "DP_ENABLE_HEALTHCHECKS": second}
    raw, _ = with_defaults({}, environ, HEALTH_DEFAULTS)
    section = decode_sections(raw, {"health": CORE_SECTIONS["health"]})["health"]
    assert isinstance(section, HealthSection)
    assert set(section.disable) <= {item.strip().lower() for item in first.split(",")}
    assert set(section.enable) <= {item.strip().lower() for item in second.split(",")}


OURS = b"""\
node_name: node-1
vendors: [nvidia, amd]
metrics_address: "[::1]:9440"
state_dir: /var/lib/deviceplugin
log_level: debug
nvidia: {mig_strategy: mixed, device_list_strategy: [envvar], driver_root: /}
mig:
  instances:
    - {name: mig-1g.5gb, memory: 5GiB, compute_units: 14}
  scheduling: {policy: fair_share, isolation: hardware}
mxgpu: {instances: [{name: mxgpu-4gb, memory: 4GiB, rocm_cores: 7}]}
intel_xe: {instances: [{name: xe-4gb, memory: 4GiB}]}
"""
RULES = b"""\
isolation: none
sharing: {mps: {root: /run/nvidia/mps}}
rules:
  - match: {vendor: nvidia, product: "*A100*", index: [0, "2:1"], memory: {min: 40GiB}}
    count: 1
    offers: [{replicas: 4, name: nvidia.com/a100, max_per_container: 2, policy: spread}]
  - match: {uuid: ["MIG-*"], profile: 1g.*, driver: nvidia, resource: nvidia.com/*}
    offers: [whole, {memory: {unit: 256MiB, reserve: 1GiB}, variables: [CUDA_DEVICE_SM_LIMIT]}]
  - offers: [exclude]
"""
HEALTH = b"""\
health:
  disable: [xids, nvidia.xid/79]
  enable: ["31"]
  classes: {nvidia.xid/48: reset}
  repeats: {nvidia.clocks/hw_slowdown: {count: 6, window_s: 600.5, class: hardware}}
  hold_s: 3
  call_deadline_s: 5.0
scheduling: {policy: priority, priority: [{product: "*A100*", numa_node: 0}], proximity_to: eth0}
gpu_nodes: [{name: node-1, gpu_type: A100, gpu_count: 8, memory_per_gpu: 80GiB}]
"""
NVIDIA = b"""\
version: v1
flags:
  migStrategy: single
  plugin: {deviceListStrategy: "envvar, cdi-cri", deviceIDStrategy: index}
  gfd: {sleepInterval: 60s}
resources:
  gpus: [{pattern: "A100*", name: a100}]
  mig: [{pattern: "1g.*", name: nvidia.com/small}]
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources: [{name: nvidia.com/gpu, replicas: 4, rename: gpu.x, devices: [0, "1:0", GPU-1a]}]
imex: {channelIDs: [0], required: true}
nvidia: {driver_root: /driver}
rules: [{offers: [whole]}]
"""
# Each of these ended the daemon with a traceback, or kept it busy for minutes, before it was found.
FOUND = (
    b"a: " + b"[" * 3000,
    b"{a: " * 1000,
    b"node_name: 2001-99-99",
    b"a: " + b"9" * 5000,
    b"log_level: 0x" + b"f" * 5000,
    b"a: " + b"1" + b":1" * 20000,
    b"a: !!int text",
    b"a: !!float text",
    b"a: !!timestamp text",
    b'"a\\nb": 1',
    b'health: {"a\\nb": 1}',
    b'state_dir: "/\\0"',
    b'state_dir: "/\\ud800"',
    b'metrics_address: "a..b:1"',
    b"metrics_address: " + b"a" * 70 + b":1",
    b"version: v1\nnvidia: [1]",
    b"version: v1\nrules: 5",
    b"version: v1\nvgpu: text",
    b"rules: [{offers: [whole], match: {memory: {min: '" + b"9" * 400 + b"'}}}]",
    b"rules: [{offers: [{replicas: 100000000000}]}]",
    b"version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: 100000000000}]}}",
    b"rules: [{offers: [{memory: {unit: 1MiB}}]}]",
    b"".join(b"k%d: 1\n" % number for number in range(2000)),
)
WORDS = (
    *(b": ", b"\n  ", b"- ", b"[", b"]", b"{", b"}", b", ", b'"', b"'", b"*a", b"&a ", b"!!", b"?"),
    *(b"<<: ", b"null", b"true", b"-1", b".nan", b".inf", b"1e400", b"0x10", b"1_0", b"2001-01-01"),
    *(b"!!binary ", b"!!set ", b"!!omap ", b"!!int ", b"\xff\xfe", b"\\0", b"\\ud800", b"\x1b"),
    *(b"offers", b"replicas", b"memory", b"whole", b"name", b"nvidia.com/gpu", b"version: v1\n"),
    *(b"5GiB", b"policy", b"rules: ", b"health: ", b"%YAML 9.9\n---\n", b"\n---\n", b"#", b"|\n"),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 100, 1 << 40, 10**90, 0.5, -0.0, float("nan"), float("inf")),
    *("", " ", "a\nb", "\x1b[1m", "²", "5GiB", "0", "*", "/", "nvidia.com/gpu", "a" * 300, "a.b"),
    *(b"\xff", date(2001, 1, 1), {1}, (1, 2), "whole", "exclude", "fair_share"),
)
SURFACES = {
    "configuration_values": Surface(target=values, seeds=(b"", b"\1\2\3\4\5"), examples=250),
    "configuration": Surface(
        target=files, seeds=(OURS, RULES, HEALTH, NVIDIA, *FOUND), words=WORDS, examples=150
    ),
    "settings": Surface(
        target=settings,
        seeds=(b"\0[::1]:80", b"\0:9440", b"\1info", b"\2/var/lib", b"\3amd, nvidia", b"\4node-1"),
        words=(b":", b"[", b"]", b".", b"/", b",", b" ", "²".encode(), b"nvidia", b"65536", b"\n"),
    ),
    "health_variables": Surface(
        target=variables,
        seeds=(b"all|79", b"xids,13,nvidia.xid/48| 31 ,ALL"),
        words=(b",", b"|", b" ", b"/", b"xids", b"all", b"79", "²".encode(), b"\n"),
    ),
}
