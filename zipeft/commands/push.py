"""``zipeft push``: publish a saved adapter on the Hugging Face hub, with a model card."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import UserError

EXAMPLES = """\
examples:
  zipeft push adapters/llama-instruct/alpaca/zero_gated-seed0 owner/name --dry-run \\
      --result results/llama-instruct/alpaca/zero_gated-seed0-0123456789abcdef.json
      write the model card, README.md, into the adapter's folder: read it, change it
  zipeft push adapters/llama-instruct/alpaca/zero_gated-seed0 owner/name --private
      upload the adapter with that card, or with a new one where there is none

`hf auth login` keeps the token that the hub asks for; HF_TOKEN may hold it too.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Write the card where there is none, upload the adapter, and return the exit status."""
    options = _parser().parse_args(argv)
    from zipeft.adapters import hub
    from zipeft.adapters.card import CARD, write_card

    hub.check_name(options.repository)
    card = options.adapter / CARD
    content = {name: value for name in ("result", "base_model", "dataset") if (value := getattr(options, name))}
    if not card.exists():
        write_card(options.adapter, options.repository, **content)
    elif content:
        raise UserError(
            f"{card} is there already and is taken as it is: delete it for a new one, or leave out its options"
        )
    if options.dry_run:
        print(f"{card}: the model card; nothing was uploaded")
    else:
        print(hub.push(options.adapter, options.repository, private=options.private))
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft push",
        "Publish a saved adapter on the Hugging Face hub: adapter.safetensors, adapter.json, README.md.",
        EXAMPLES,
    )
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="folder that --save-adapters or convert wrote")
    parser.add_argument("repository", metavar="OWNER/NAME", help="where it goes on the hub; it is made if need be")
    parser.add_argument("--private", action="store_true", help="make the repository a private one")
    parser.add_argument("--dry-run", action="store_true", help="write the model card, and upload nothing")
    card = parser.add_argument_group("for the model card")
    card.add_argument("--result", type=Path, metavar="FILE", help="file or archive with the result of its run")
    card.add_argument("--base-model", metavar="OWNER/NAME", help="the backbone on the hub (default: on record)")
    card.add_argument("--dataset", metavar="OWNER/NAME", help="the data set on the hub, if it is there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
