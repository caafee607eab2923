"""``zipeft demo``: a local page on which one drops an image and asks a saved adapter about it."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft import registry
from zipeft.commands.answering import SEEING, Sampling, of_adapter
from zipeft.commands.common import ArgumentParser, command_parser, exit_status, positive_int, whole
from zipeft.errors import UserError, printable

if TYPE_CHECKING:
    from zipeft.adapters.record import AdapterRecord

LOCAL = "127.0.0.1"

EXAMPLES = """\
examples:
  zipeft demo adapters/vlm-vqa/easy-vqa/zero_gated-seed0
      prints the address of the page; Ctrl-C ends it
  zipeft demo ADAPTER --port 8080
  zipeft demo ADAPTER --host 0.0.0.0
      a page for all who can reach this machine

It needs the extra demo (pip install 'zipeft[demo]'). Without --host no other machine reaches the page; it loads nothing
from elsewhere and reports nothing.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until it is interrupted."""
    options = _parser().parse_args(argv)
    from zipeft.adapters.saved import read_record

    record = read_record(options.adapter)
    _check_sees(record, options.adapter)
    _check_free(options.host, options.port)
    from zipeft.demo.page import check_installed, page, serve

    check_installed()
    generator, _ = of_adapter(options.adapter, None, Sampling(options.max_new_tokens))
    blocks = page(generator, "Ask about an image", _about(record, options.adapter), _closed_options(record))
    address = serve(blocks, options.host, options.port)
    print(printable(f"{address} shows {options.adapter}; Ctrl-C ends it"), flush=True)
    try:
        threading.Event().wait()
    finally:
        blocks.close(verbose=False)
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft demo", "Open a local page on which one drops an image and asks a saved adapter about it.", EXAMPLES
    )
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="folder that --save-adapters wrote")
    parser.add_argument("--port", type=whole(1, 65_535), metavar="N", help="(default: the first that is free)")
    parser.add_argument("--host", default=LOCAL, metavar="ADDRESS", help="where to listen (default: %(default)s)")
    parser.add_argument(
        "--max-new-tokens", type=positive_int, default=32, metavar="N", help="of the longest answer (default: 32)"
    )
    return parser


def _check_sees(record: AdapterRecord, folder: Path) -> None:
    """Raise ``UserError`` for an adapter that is not shown images."""
    modality = registry.backbones.get(record.backbone.name).modality
    if modality != SEEING:
        raise UserError(f"the adapter {folder} takes {modality}s: take one of a vision-language backbone, such as vlm")
    if registry.methods.get(record.method.name).image_entry == "none":
        raise UserError(f"the adapter {folder} is of {record.method.name}, which is shown no image: take another one")


def _check_free(host: str, port: int | None) -> None:
    """Raise ``UserError`` where no page can be served: gradio would try a hundred times."""
    try:
        socket.create_server((host, port or 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, UnicodeError) as error:
        where = host if port is None else f"{host}, port {port}"
        raise UserError(
            f"no page can be served on {where}: give an address of this machine, and a free port"
        ) from error


def _about(record: AdapterRecord, folder: Path) -> str:
    learnt = f"{record.method.name}, trained on {record.task.dataset} ({record.task.name})"
    return f"{folder.resolve().name}: {learnt}, on {record.backbone.checkpoint}."


def _closed_options(record: AdapterRecord) -> Sequence[Sequence[str]]:
    """Return the sets of options that many questions of an adapter's data set share."""
    from zipeft.adapters.saved import task_of
    from zipeft.vqa.task import VQATask

    task = task_of(record)
    return task.closed_options(record.task.dataset) if isinstance(task, VQATask) else ()


if __name__ == "__main__":
    sys.exit(main())
