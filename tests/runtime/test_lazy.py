"""Modules that load at their first use: they cost nothing before, and are all there after."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow  # each starts an interpreter

LAZY = """
import sys
from deviceplugin.runtime.lazy import load_at_first_use
for name in ("ssl", "asyncio.sslproto"):
    load_at_first_use(name)
import asyncio
import ssl
assert "_ssl" not in sys.modules
"""


def run(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", LAZY + textwrap.dedent(program)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_openssl_is_not_loaded_before_somebody_uses_it() -> None:
    assert run('print("_ssl" in sys.modules, ssl.OP_ALL > 0, "_ssl" in sys.modules)').split() == [
        *("False", "True", "True")
    ]


def test_asyncio_speaks_tls_all_the_same() -> None:
    program = """
    def context(purpose):
        context = ssl.SSLContext(purpose)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH:@SECLEVEL=0")  # needs no certificate
        return context

    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main():
        tls = context(ssl.PROTOCOL_TLS_SERVER)
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls) as server:
            place = server.sockets[0].getsockname()
            tls = context(ssl.PROTOCOL_TLS_CLIENT)
            reader, writer = await asyncio.open_connection(*place, ssl=tls)
            writer.write(b"hello\\n")
            print((await reader.readline()).decode().strip())
            print(writer.get_extra_info("cipher")[0])
            writer.close()

    asyncio.run(main())
    """
    hello, cipher = run(program).split()
    assert hello == "hello"
    assert cipher.startswith("AECDH")


def test_threads_that_use_it_first_at_the_same_time_all_find_it_whole() -> None:
    program = """
    import threading
    ready, found = threading.Barrier(8), []

    def use():
        ready.wait()
        found.append(ssl.create_default_context().verify_mode)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(found))
    """
    assert run(program).strip() == "8"


def test_a_name_that_it_does_not_have_is_the_usual_error() -> None:
    program = """
    try:
        ssl.no_such_name
    except AttributeError as error:
        print(error)
    """
    assert run(program).strip() == "module 'ssl' has no attribute 'no_such_name'"


def test_a_module_that_is_not_there_stays_absent() -> None:
    program = """
    for name in ("no_such_module", "no_such_package.module", "json"):
        load_at_first_use(name)
    import importlib.util
    import json
    print(importlib.util.find_spec("no_such_module"), json.dumps(1))
    """
    assert run(program).strip() == "None 1"


def test_protobuf_and_msgspec_do_without_what_waits_and_have_it_when_asked() -> None:
    program = """
    names = ("google.protobuf.internal.python_message", "msgspec.inspect")
    for name in names:
        load_at_first_use(name)
    from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
    import msgspec
    device = pluginapi.Device.FromString(pluginapi.Device(ID="gpu-0").SerializeToString())
    print("google.protobuf.text_format" in sys.modules)
    from google.protobuf import text_format
    print(text_format.MessageToString(device).strip())
    print(msgspec.inspect.type_info(int))
    print(hasattr(sys.modules[names[0]], "GeneratedProtocolMessageType"))
    """
    assert run(program).splitlines() == [
        *("False", 'ID: "gpu-0"', "IntType(gt=None, ge=None, lt=None, le=None, multiple_of=None)"),
        "True",
    ]
