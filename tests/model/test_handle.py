"""A handle as text and as JSON, for every platform."""

from __future__ import annotations

import json
import uuid

import pytest

from duende.model.handle import DaemonHandle
from duende.model.ids import DaemonId
from duende.model.platform import Platform

ID = DaemonId(uuid.UUID("0b7c1a2e-9d0f-4a53-8f0e-3d6a1c2b4e5f"))
APPLIES = ("pid", "systemd_unit", "launchd_label", "container_id", "vsock_cid")

HANDLES = [
    (DaemonHandle.native(ID, 42), Platform.NATIVE, "native:pid42", {"pid": 42}),
    (DaemonHandle.native(ID, 42, start_ticks=7, boot_id="b"), Platform.NATIVE, "native:pid42", {"pid": 42}),
    (DaemonHandle.systemd(ID, "duende-web.service"), Platform.LINUX, "systemd:duende-web.service",
     {"systemd_unit": "duende-web.service"}),
    (DaemonHandle.launchd(ID, "com.example.web"), Platform.MACOS, "launchd:com.example.web",
     {"launchd_label": "com.example.web"}),
    (DaemonHandle.container(ID, "podman", "abc123"), Platform.CONTAINER, "podman:abc123", {"container_id": "abc123"}),
    (DaemonHandle.pepita(ID, "vm1", 3), Platform.PEPITA_MICROVM, "pepita:vm1@cid3", {"vsock_cid": 3}),
    (DaemonHandle.wos(ID, 9), Platform.WOS, "wos:pid9", {"pid": 9}),
]  # fmt: skip


@pytest.mark.parametrize(("handle", "platform", "text", "properties"), HANDLES, ids=lambda value: str(value)[:20])
def test_handle(handle: DaemonHandle, platform: Platform, text: str, properties: dict[str, object]) -> None:
    assert handle.platform is platform
    assert str(handle) == text
    assert {name: getattr(handle, name) for name in APPLIES} == {name: properties.get(name) for name in APPLIES}
    assert DaemonHandle.from_json(json.loads(json.dumps(handle.to_json()))) == handle


def test_every_platform_has_a_handle() -> None:
    assert {platform for _, platform, _, _ in HANDLES} == set(Platform)


def test_native_keeps_what_tells_it_apart_from_a_reused_pid() -> None:
    stored = DaemonHandle.native(ID, 42, start_ticks=7, boot_id="b").to_json()
    assert stored["data"] == {"pid": 42, "start_ticks": 7, "boot_id": "b"}


@pytest.mark.parametrize("broken", [{"id": "no uuid"}, {"platform": "amiga"}])
def test_a_broken_handle_is_refused(broken: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        DaemonHandle.from_json({**DaemonHandle.wos(ID, 9).to_json(), **broken})
