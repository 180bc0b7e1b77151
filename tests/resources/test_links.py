"""A file that a program made gets a second name, for clients who shall see no other."""

import socket
from pathlib import Path

import pytest

from deviceplugin.errors import DevicePluginError
from deviceplugin.resources.program import _link


def test_a_socket_is_reached_by_its_second_name(short_dir: Path) -> None:
    for name in ("own", "client"):
        (short_dir / name).mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(short_dir / "own/control"))
        listener.listen()
        _link({str(short_dir / "own/control"): str(short_dir / "client/control")})
        client.connect(str(short_dir / "client/control"))
    assert [path.name for path in (short_dir / "client").iterdir()] == ["control"]


def test_the_name_is_that_of_the_newest_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    own, name = tmp_path / "own", tmp_path / "client" / "name"
    name.parent.mkdir()
    for text in ("first", "second"):
        own.unlink(missing_ok=True)
        own.write_text(text)
        for _ in range(2):
            _link({str(own): str(name)})
        assert name.read_text() == text
    assert list(name.parent.iterdir()) == [name]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DevicePluginError, match=r"control as .*client: No such file"):
        _link({str(tmp_path / "control"): str(tmp_path / "client")})
