"""``zipeft demo``: what is refused before a page is served; and the page itself, in a real browser."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from support import TESTS
from support.toys import registered
from support.vision_adapters import COLOURS, save_images, saved
from zipeft.commands.demo import main
from zipeft.commands.generate import main as generate
from zipeft.tasks.vqa.task import VQA

QUESTION, NEW = "was the film so good", "6"


@pytest.fixture(autouse=True)
def toys():
    with registered():
        yield


def fails(capsys, *arguments):
    """The line in which a call is refused."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_an_adapter_that_is_shown_no_image_is_refused(tmp_path, capsys):
    folder, _ = saved(tmp_path, "lora_blind")
    assert f"the adapter {folder} is of lora_blind, which is shown no image" in fails(capsys, folder)
    record = (folder / "adapter.json").read_text().replace('"name": "vlm"', '"name": "toy_instruct"')
    (folder / "adapter.json").write_text(record)
    assert f"the adapter {folder} takes instructions: take one of a vision-language backbone" in fails(capsys, folder)
    assert "holds no adapter" in fails(capsys, tmp_path / "none")


def test_a_page_that_cannot_be_served_is_refused_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    folder, _ = saved(tmp_path)
    (folder / "adapter.safetensors").unlink()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert f"no page can be served on 127.0.0.1, port {port}" in fails(capsys, folder, "--port", port)
    assert "no page can be served on nowhere" in fails(capsys, folder, "--host", "nowhere")
    assert "give a number from 1 to 65,535" in fails(capsys, folder, "--port", "0")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "which the extra demo brings: pip install 'zipeft[demo]'" in fails(capsys, folder)


def test_sets_with_closed_options_offer_them():
    task = VQA()
    assert ("circle", "rectangle", "triangle") in task.closed_options("easy-vqa")
    assert all(len(options) >= 2 for name in task.datasets() for options in task.closed_options(name))


# --- in a browser -----------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PROGRAM = """
import sys
from support.toys import registered
from zipeft.commands.demo import main

with registered():
    sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def served(*arguments):
    """Serve a page by a process of its own; yield its address."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments), "--max-new-tokens", NEW]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            yield re.match(r"http://\S+", line)[0]
        finally:
            process.terminate()


def told(page):
    """The answer and the likelihoods (in per cent) on the page, once the model has answered."""
    page.click("#ask")
    page.wait_for_function("document.querySelector('#answer textarea').value != ''")
    page.wait_for_selector("#likelihoods")
    rows = re.findall(r"([a-z ]+)\s+(\d+)%", page.inner_text("#likelihoods"))
    return page.input_value("#answer textarea"), {name.strip(): int(value) for name, value in rows}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_answers_as_generate_does_and_reaches_nothing_else(tmp_path, capsys):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    folder, _ = saved(save_images(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"no image")
    seen, asked = [], []
    with served(folder) as address, playwright.sync_playwright() as browsers:
        assert address.startswith("http://127.0.0.1:")
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for colour in COLOURS:
            page = browser.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            page.set_input_files("#image input[type=file]", tmp_path / f"{colour}.png")
            page.wait_for_selector("#image img")
            page.fill("#question textarea", QUESTION)
            page.fill("#options input", "good|very bad")
            seen.append(told(page))
            page.close()
        page = browser.new_page()
        page.goto(address)
        page.set_input_files("#image input[type=file]", tmp_path / "broken.png")
        page.click("#ask")
        assert "broken.png" in page.wait_for_selector(".toast-body").inner_text()
        browser.close()
    for colour, (answer, likelihoods) in zip(COLOURS, seen, strict=True):
        image = ["--image", str(tmp_path / f"{colour}.png"), "--options", "good|very bad"]
        assert generate([str(folder), QUESTION, *image, "--max-new-tokens", NEW]) == 0
        line, *rest = capsys.readouterr().out.splitlines()
        assert answer == line
        expected = {name: float(value) for value, name in (row.split(" ", 1) for row in rest)}
        assert likelihoods == {name: pytest.approx(100 * value, abs=0.6) for name, value in expected.items()}
    assert len({str(each) for each in seen}) > 1  # images matter
    assert asked
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
