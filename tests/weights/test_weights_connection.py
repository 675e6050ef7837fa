"""How fast a missing network is told, and by which way the hub is reached."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from quiet_clock import quiet_seconds

from ric.weights import connection, require_connection, resolve_weights

IP2P = "timbrooks/instruct-pix2pix"


def test_an_unreachable_hub_is_told_with_the_size_and_three_ways_out(refusal):
    error = refusal(resolve_weights, IP2P, needs="ric edit")
    assert error.message.startswith(
        f"{IP2P} (about 4.27 GB), which ric edit needs, is not on this machine, and 127.0.0.1 "
        "cannot be reached: Connection refused"
    )
    assert f"ric weights get {IP2P}" in error.hint
    assert "--weights" in error.hint
    assert error.hint.endswith("--preset tiny needs no download.")


def test_a_model_outside_the_table_is_fetched_with_the_hubs_own_command(refusal):
    error = refusal(resolve_weights, "someone/model")
    assert error.message.startswith("someone/model is not on this machine")
    assert error.hint.startswith("With a connection: hf download someone/model. Or give --weights")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_does_not_even_try(monkeypatch, variable, refusal):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it tried"))
    error = refusal(require_connection, "a model (1 GB)", "Fetch it.")
    assert error.message == f"a model (1 GB) is not on this machine, and {variable} is set."
    assert error.hint == "Fetch it. --preset tiny needs no download."


def test_a_name_look_up_that_hangs_is_given_up(monkeypatch, refusal):
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.2)
    enough = threading.Event()

    def hang(*_, **__):
        enough.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = quiet_seconds()
    error = refusal(require_connection, "a model", "Fetch it.")
    assert quiet_seconds() - start < 2
    enough.set()
    assert "no answer in 0.2 s" in error.message


def test_a_hub_that_answers_is_enough():
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_connection("a model", "", url=f"http://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_is_asked_in_the_hubs_place(monkeypatch, variable, refusal):
    monkeypatch.setenv("HF_ENDPOINT", "https://no-such-host.invalid")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.getsockname()[1]}")
        require_connection("a model", "")
    assert "127.0.0.1 cannot be reached" in refusal(require_connection, "a model", "").message


def test_no_proxy_reaches_around_the_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        require_connection("a model", "")


def test_without_any_network_it_takes_seconds_and_no_torch(tmp_path, monkeypatch):
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0:
        pytest.skip("unshare -rn is not permitted here")
    monkeypatch.delenv("HF_ENDPOINT")
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from quiet_clock import quiet_seconds\n"
        "start = quiet_seconds()\n"
        "from ric.errors import RicError\n"
        "from ric.weights import resolve_weights\n"
        "try: resolve_weights('timbrooks/instruct-pix2pix')\n"
        "except RicError as error: print(error.message, '|', error.hint)\n"
        "print(quiet_seconds() - start, 'torch' in sys.modules)\n"
    )
    command = ["unshare", "-rn", sys.executable, "-c", code, Path(__file__).parents[1]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, measured = done.stdout.strip().splitlines()
    assert "timbrooks/instruct-pix2pix (about 4.27 GB) is not on this machine" in said
    assert "huggingface.co cannot be reached" in said
    assert "--preset tiny needs no download" in said
    seconds, torch_loaded = measured.split()
    assert float(seconds) < 6
    assert torch_loaded == "False"


def test_a_host_that_cannot_be_reached_is_tried_once_a_minute(monkeypatch, refusal):
    tried = []

    def is_gone(address, timeout):
        tried.append(address[0])
        raise OSError("No route to host")

    now = 1000.0
    monkeypatch.setattr(connection.time, "monotonic", lambda: now)
    monkeypatch.setattr(socket, "create_connection", is_gone)
    monkeypatch.setenv("HF_ENDPOINT", "https://far-away.invalid")
    first = refusal(require_connection, "a model", "")
    second = refusal(resolve_weights, IP2P, needs="ric edit")
    assert tried == ["far-away.invalid"]
    assert "far-away.invalid cannot be reached: No route to host" in first.message
    assert "far-away.invalid cannot be reached: No route to host" in second.message
    refusal(require_connection, "a model", "", url="https://other.invalid")
    assert tried == ["far-away.invalid", "other.invalid"]
    now += connection.REMEMBERED_SECONDS
    refusal(require_connection, "a model", "")
    assert tried == ["far-away.invalid", "other.invalid", "far-away.invalid"]
    monkeypatch.undo()  # a host that answers is asked every time
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        require_connection("a model", "", url=address)
    assert "Connection refused" in refusal(require_connection, "a model", "", url=address).message
