"""What goes into the image, on a base that is a few files."""

import sys
from pathlib import Path

import pytest

from image.assemble import Assembly, Packages, assemble

VERSION = "{}.{}".format(*sys.version_info[:2])
LIB = "usr/lib/x86_64-linux-gnu"
STATUS = (
    "Package: libc6\nVersion: 2.36\n\nPackage: apt\nVersion: 2.6\n\nPackage: libz\nVersion: 1\n"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base image's root: its library folder is below /usr, as Debian has it."""
    root = tmp_path / "base"
    files = {
        f"usr/local/bin/python{VERSION}": "\x7fELF python",
        f"usr/local/lib/python{VERSION}/json/__init__.py": "",
        f"usr/local/lib/python{VERSION}/test/test_json.py": "",
        f"usr/local/lib/python{VERSION}/site-packages/pip/__init__.py": "",
        f"usr/local/lib/python{VERSION}/ensurepip/pip.whl": "",
        f"{LIB}/libc.so.6": "\x7fELF libc",
        f"{LIB}/libnss_dns.so.2": "\x7fELF",
        f"{LIB}/gconv/EUC-KR.so": "\x7fELF",
        f"{LIB}/libz.so.1.2": "\x7fELF",
        f"{LIB}/libapt.so.6": "\x7fELF",
        "usr/bin/dash": "\x7fELF",
        "usr/share/doc/libc6/copyright": "LGPL",
        "etc/passwd": "root:x:0:0::/root:/bin/sh",
        "opt/program/bin/start": "#!",
        "opt/program/lib/part.so": "\x7fELF",
        "var/lib/dpkg/status": STATUS,
        "var/lib/dpkg/info/libc6:amd64.list": "/lib/x86_64-linux-gnu/libc.so.6\n"
        "/lib/x86_64-linux-gnu/libnss_dns.so.2\n/usr/lib/x86_64-linux-gnu/gconv/EUC-KR.so\n",
        "var/lib/dpkg/info/libz.list": "/lib/x86_64-linux-gnu/libz.so.1\n"
        "/lib/x86_64-linux-gnu/libz.so.1.2\n",
        "var/lib/dpkg/info/apt.list": "/usr/lib/x86_64-linux-gnu/libapt.so.6\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "lib").symlink_to("usr/lib")
    (root / "bin").symlink_to("/usr/bin")
    (root / "usr/local/bin/python").symlink_to(f"python{VERSION}")
    (root / LIB / "libz.so.1").symlink_to("libz.so.1.2")
    return root


def needed(program: str) -> list[str]:
    return ["/lib/x86_64-linux-gnu/libz.so.1"] if program == "/opt/program/lib/part.so" else []


@pytest.fixture
def image(base: Path, tmp_path: Path) -> set[str]:
    """Every file of what is made of that base."""
    target = tmp_path / "image"
    assemble(base, target, "/usr/local", ["/opt/program"], needed)
    return {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}


def test_the_program_and_its_python_are_there(image: set[str]) -> None:
    python = f"usr/local/lib/python{VERSION}"
    assert {"opt/program/bin/start", f"{python}/json/__init__.py"} <= image
    assert {"usr/local/bin/python", f"usr/local/bin/python{VERSION}"} <= image


def test_no_shell_no_package_manager_no_pip_and_no_tests_are_there(image: set[str]) -> None:
    assert not any("apt" in name or "dash" in name or "pip" in name for name in image)
    assert not any("/test" in name for name in image)


def test_a_library_comes_with_the_links_that_lead_to_it(image: set[str], tmp_path: Path) -> None:
    assert {f"{LIB}/libz.so.1", f"{LIB}/libz.so.1.2"} <= image
    assert (tmp_path / "image/lib").readlink() == Path("usr/lib")
    assert (tmp_path / "image/lib/x86_64-linux-gnu/libz.so.1").resolve().name == "libz.so.1.2"


def test_what_a_driver_may_ask_for_is_there_though_no_program_does(image: set[str]) -> None:
    assert f"{LIB}/libnss_dns.so.2" in image
    assert f"{LIB}/gconv/EUC-KR.so" not in image


def test_scanners_find_the_packages_and_readers_their_licences(
    image: set[str], tmp_path: Path
) -> None:
    noted = {name for name in image if "dpkg" in name}
    assert noted == {f"var/lib/dpkg/status.d/{name}" for name in ("libc6", "libz")}
    entry = (tmp_path / "image/var/lib/dpkg/status.d/libc6").read_text()
    assert entry == "Package: libc6\nVersion: 2.36\n"
    assert "usr/share/doc/libc6/copyright" in image


def test_everybody_may_write_to_tmp_alone(image: set[str], tmp_path: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o1777 for path in (tmp_path / "image").iterdir()}
    assert modes["tmp"] == 0o1777
    assert not any(mode & 0o022 for name, mode in modes.items() if name not in {"tmp", "lib"})


def test_an_absolute_link_is_followed_below_the_base(base: Path, tmp_path: Path) -> None:
    Assembly(base, tmp_path / "image").add("/bin/dash")
    assert (tmp_path / "image/usr/bin/dash").read_text() == "\x7fELF"
    assert (tmp_path / "image/bin").readlink() == Path("/usr/bin")


def test_a_base_that_is_not_debian_s_is_refused_with_what_works(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--target=slim"):
        Packages(tmp_path)


def test_a_file_that_the_base_has_not_is_left_out(base: Path, tmp_path: Path) -> None:
    Assembly(base, tmp_path / "image").add("/etc/debian_version")
    assert not (tmp_path / "image").exists()
