"""Variables are judged as files are: a spelling mistake is an error."""

import pytest

from deviceplugin.config.load import load
from deviceplugin.config.origins import unknown_variables
from deviceplugin.errors import ConfigError


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("DEVICEPLUGIN_LOGLEVEL", "DEVICEPLUGIN_LOG_LEVEL"),
        ("DEVICEPLUGIN_VENDOR", "DEVICEPLUGIN_VENDORS"),
        ("DEVICEPLUGIN_HOSTROOT", "DEVICEPLUGIN_HOST_ROOT"),
    ],
)
def test_a_mistyped_variable_is_an_error_with_the_near_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigError, match=f"^{variable}: 'x' .* did you mean {meant}\\?"):
        load({})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEVICEPLUGIN_SERVICE_HOST", "10.0.0.1"),
        ("DEVICEPLUGIN_SERVICE_PORT", "9440"),
        ("DEVICEPLUGIN_SERVICE_PORT_METRICS", "9440"),
        ("DEVICEPLUGIN_PORT", "tcp://10.0.0.1:9440"),
        ("DEVICEPLUGIN_PORT_9440_TCP", "tcp://10.0.0.1:9440"),
        ("DEVICEPLUGIN_PORT_9440_TCP_ADDR", "10.0.0.1"),
        ("DEVICEPLUGIN_METRICS_PORT_9440_TCP_PROTO", "tcp"),
        ("DEVICEPLUGIN_METRICS_PORT", "tcp://10.0.0.1:9440"),
        ("_DEVICEPLUGIN_COMPLETE", "bash_source"),
        ("NVIDIA_VISIBLE_DEVICES", "all"),
    ],
)
def test_variables_of_others_are_no_mistakes(variable: str, value: str) -> None:
    assert unknown_variables({variable: value}, ("log_level",)) == []


def test_a_port_that_no_service_has_is_a_mistake() -> None:
    (error,) = unknown_variables({"DEVICEPLUGIN_METRICS_PORT": "9440"}, ("metrics_address",))
    assert "known are DEVICEPLUGIN_METRICS_ADDRESS" in str(error)


def test_a_wrong_variable_and_a_wrong_flag_are_both_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICEPLUGIN_LOGLEVEL", "x")
    with pytest.raises(ConfigError) as refused:
        load({"log_format": "xml", "vendors": "voodoo"})
    keys = [error.key for error in refused.value.errors]
    assert keys == ["DEVICEPLUGIN_LOGLEVEL", "--log-format", "--vendors"]
