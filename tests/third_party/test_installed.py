"""What is said of vendors that an installation brings: usable or not, and never in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from deviceplugin import vendor as contract
from deviceplugin.config.load import CORE_SECTIONS, RESERVED, SETTINGS
from deviceplugin.discovery.capabilities import attribute_problem, method_problem
from deviceplugin.discovery.registry import load_vendors
from tests.rig import run_command
from tests.third_party.plugin import WELL_BEHAVED, install, spoilt

OTHER = WELL_BEHAVED.replace('NAME = "example"', 'NAME = "other"')


def listed(path: str, *flags: str) -> dict[str, Any]:
    ended = run_command("vendors", "--format", "json", *flags, PYTHONPATH=path)
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def entry(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [vendor for vendor in document["vendors"] if vendor["name"] == name]
    return dict(found)


def refusal(path: str, *flags: str, command: str = "check") -> str:
    """The one line with which a command ends."""
    ended = run_command(command, *flags, PYTHONPATH=path)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    return line


def test_a_vendor_is_listed_with_its_package_and_what_is_taken_up(tmp_path: Path) -> None:
    source = spoilt("def probe_health(self, device):\n    pass\ndef describe(self):\n    pass")
    document = listed(install(tmp_path, source))
    assert document["contract"] == contract.CONTRACT
    assert entry(document, "example") == {
        "name": "example",
        "package": "example_vendor",
        "version": "1.0",
        "module": "example_vendor",
        "contract": contract.CONTRACT,
        "served": True,
        "sections": ["example"],
        "methods": ["probe_health"],
        "attributes": [],
        "not_in_contract": ["describe", "thing"],
        "error": None,
    }


def test_the_table_says_what_is_not_taken_up_and_what_is_not_served(tmp_path: Path) -> None:
    path = install(tmp_path, WELL_BEHAVED)
    text = run_command("vendors", PYTHONPATH=path).stdout
    assert "example: not a part of the contract, never called: thing()" in text
    text = run_command("vendors", "--vendors", "amd", PYTHONPATH=path).stdout
    assert "example is not served" in text


def test_ours_are_listed_and_have_nothing_beside_the_contract() -> None:
    vendors = listed("")["vendors"]
    assert {v["name"] for v in vendors} == {"amd", "intel", "nvidia"}
    assert [v["name"] for v in vendors if v["error"] or v["not_in_contract"]] == []
    assert all(v["package"] == "deviceplugin" and v["served"] for v in vendors)


def test_a_vendor_of_a_later_contract_is_left_out_with_one_line(tmp_path: Path) -> None:
    later = contract.CONTRACT + 1
    path = install(tmp_path, f"{WELL_BEHAVED}\nCONTRACT = {later}\n")
    needed = f"needs contract {later}, this daemon has {contract.CONTRACT}"
    assert needed in entry(listed(path), "example")["error"]
    assert needed in refusal(path, "--vendors", "example")
    assert needed in run_command("check", PYTHONPATH=path).stderr


@pytest.mark.parametrize("name", ["health", "rules", "log_level", "telemetry", "version"])
def test_a_section_with_a_name_of_the_daemons_own_is_refused(tmp_path: Path, name: str) -> None:
    path = install(tmp_path, WELL_BEHAVED.replace('{"example": E', f'{{"{name}": E'))
    line = refusal(path, "--vendors", "example")
    assert f"its section '{name}' has a name that the daemon reserves" in line


def test_every_name_that_the_daemon_has_is_reserved() -> None:
    assert {*CORE_SECTIONS, *SETTINGS} < RESERVED


def test_no_section_of_ours_is_reserved() -> None:
    assert RESERVED.isdisjoint(key for module in load_vendors(None) for key in module.SECTIONS)


@pytest.mark.parametrize("asked", ["example", "other"])
def test_either_of_two_vendors_with_one_section_can_be_asked_for(
    tmp_path: Path, asked: str
) -> None:
    path = install(tmp_path, WELL_BEHAVED)
    install(tmp_path, OTHER, "other")
    shown = run_command("check", "--vendors", asked, PYTHONPATH=path)
    assert (shown.returncode, shown.stderr) == (0, "configuration is valid\n")


def test_two_vendors_with_one_section_are_an_error_that_names_both(tmp_path: Path) -> None:
    path = install(tmp_path, WELL_BEHAVED)
    install(tmp_path, OTHER, "other")
    for command in ("check", "run", "discover", "vendors"):
        line = refusal(path, "--vendors", "example,other", command=command)
        assert "'other'" in line
        assert "its section 'example' is that of vendor 'example' (example_vendor 1.0)" in line


def test_of_two_packages_with_one_vendor_it_is_said_which_is_used(tmp_path: Path) -> None:
    path = install(tmp_path / "a", WELL_BEHAVED)
    second = tmp_path / "b"
    install(second, WELL_BEHAVED, "another")
    (second / "another_vendor-1.0.dist-info/entry_points.txt").write_text(
        "[deviceplugin.vendors]\nexample = another_vendor\n"
    )
    path = f"{path}:{second}"
    line = (
        "two installed packages have a vendor of the name 'example': another_vendor of"
        " another_vendor 1.0 is used, example_vendor of example_vendor 1.0 is ignored"
    )
    assert line in run_command("check", PYTHONPATH=path).stderr
    document = listed(path)
    assert entry(document, "example")["package"] == "another_vendor"
    (ignored,) = document["ignored"]
    assert ignored["package"] == "example_vendor"
    assert (
        "example of example_vendor 1.0 is ignored" in run_command("vendors", PYTHONPATH=path).stdout
    )


@pytest.mark.parametrize(
    ("method", "meant"),
    [
        ("probe_helth", "probe_health"),
        ("watchHealth", "watch_health"),
        ("cdi_spec", "cdi_specs"),
        ("unchangd", "unchanged"),
    ],
)
def test_a_misspelt_optional_method_is_an_error_that_names_both(
    tmp_path: Path, method: str, meant: str
) -> None:
    path = install(tmp_path, spoilt(f"def {method}(self, *_):\n    pass"))
    error = entry(listed(path), "example")["error"]
    assert f"{method}() is not a part of the contract: did you mean {meant}()?" in error


def test_a_name_near_to_one_that_is_there_is_a_name_of_the_vendors_own() -> None:
    class Vendor:
        name = "x"
        closed = False  # no method

        def discover(self) -> None: ...
        def container_edits(self) -> None: ...
        def probe_health(self) -> None: ...
        def probe_health2(self) -> None: ...

    assert method_problem(Vendor()) is None


def test_a_misspelt_attribute_of_a_module_is_an_error_that_names_both(tmp_path: Path) -> None:
    path = install(tmp_path, f"{WELL_BEHAVED}\nCONTRCT = 1\n")
    line = refusal(path, "--vendors", "example")
    assert "its CONTRCT is not a part of the contract: did you mean CONTRACT?" in line


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"NAME": "x"}, "it has no SECTIONS"),
        ({"SECTIONS": {}}, "it has no NAME"),
        ({"NAME": "x", "SECTIONS": 5}, "its SECTIONS is not a mapping"),
        ({"NAME": "x", "SECTION": {}}, "its SECTION is not a part of the contract"),
    ],
    ids=str,
)
def test_what_a_module_lacks_is_named(values: dict[str, object], problem: str) -> None:
    module = type("Module", (), values)
    assert (attribute_problem(module) or "").startswith(problem)


def test_the_optional_methods_are_those_of_the_contracts_protocols() -> None:
    protocols = [
        kind
        for kind in vars(contract).values()
        if isinstance(kind, type) and getattr(kind, "_is_runtime_protocol", False)
    ]
    own = (n for kind in protocols for n, v in vars(kind).items() if callable(v))
    methods = {name for name in own if not name.startswith("_")}
    assert methods == set(contract.OPTIONAL_METHODS)
