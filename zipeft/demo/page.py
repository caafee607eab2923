"""The page on which one drops an image and asks, by gradio. It loads nothing from elsewhere and reports nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from zipeft.errors import UserError
from zipeft.generation.questions import Question, options_of

if TYPE_CHECKING:
    import gradio

    from zipeft.generation.generator import TextGenerator

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported, which it would report

NOTHING = "(it wrote nothing)"

KEPT = 3600
"""Seconds for which an image that was dropped stays on disk."""

LAUNCH: Mapping[str, Any] = {
    **{"share": False, "ssr_mode": False, "mcp_server": False, "pwa": False, "enable_monitoring": False},
    **{"inbrowser": False, "quiet": True, "prevent_thread_lock": True},
    **{"show_error": True, "footer_links": [], "run_history": False, "max_file_size": "50mb"},
}
"""What a local page needs not: a public address, a server of its own for each visitor, a history in the browser."""

FONT, FIXED_FONT = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
"""Fonts that every machine has."""


def check_installed() -> None:
    """Raise ``ModuleNotFoundError`` where gradio is missing, before a model is loaded for it."""
    import gradio  # noqa: F401


def ask(
    generator: TextGenerator, image: str | None, asked: str | None, options: str | None, context: str | None
) -> tuple[str, dict[str, float]]:
    """Return the answer to what stands in the fields, as the model writes it, and the likelihood of each option.

    ``image`` is the path of a file. A field that nobody touched is None. Raises ``UserError`` as
    ``VisualGenerator.prompt``, and for an empty question.
    """
    text, choices, given = ((field or "").strip() for field in (asked, options, context))
    if not text:
        raise UserError("the question is empty: ask something")
    of_field = options_of(choices, "the field") if choices else ()
    question = Question(1, text, given, place="the question", image=image or "", options=of_field)
    (ids,) = generator.answer([generator.prompt(question)])
    return generator.text(ids), dict(generator.likelihoods(question))


def page(generator: TextGenerator, title: str, about: str, choices: Sequence[Sequence[str]]) -> gradio.Blocks:
    """Return the page. ``choices`` are sets of options that it offers; others can be typed."""
    import gradio

    def shown(*fields: Any) -> tuple[str, Any]:
        try:
            answer, likelihoods = ask(generator, *fields)
        except UserError as error:
            raise gradio.Error(escape(str(error)), title="Not asked", print_exception=False) from error
        return answer or NOTHING, gradio.update(value=likelihoods or None, visible=bool(likelihoods))

    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(KEPT, KEPT)) as blocks:
        gradio.HTML(f"<h1>{escape(title)}</h1><p>{escape(about)}</p>")
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(
                    label="Image",
                    type="filepath",
                    image_mode=None,  # the file as it is: in another mode it would be written anew, with other pixels
                    sources=["upload", "clipboard"],
                    height=320,
                    buttons=[],
                    elem_id="image",
                )
            with gradio.Column():
                asked = gradio.Textbox(label="Question", autofocus=True, elem_id="question")
                options = gradio.Dropdown(
                    ["|".join(some) for some in choices],
                    value=None,
                    label="Options",
                    info="To see how likely each of them is, such as yes|no",
                    allow_custom_value=True,
                    elem_id="options",
                )
                with gradio.Accordion("Context", open=False):
                    context = gradio.Textbox(show_label=False, container=False, lines=3, elem_id="context")
                button = gradio.Button("Ask", variant="primary", elem_id="ask")
                answer = gradio.Textbox(label="Answer", interactive=False, elem_id="answer")
                likely = gradio.Label(label="Likelihood of each option", visible=False, elem_id="likelihoods")
        fields = [image, asked, options, context]
        for event in (button.click, asked.submit):
            event(shown, fields, [answer, likely], api_visibility="private")
    return blocks


def serve(blocks: gradio.Blocks, host: str, port: int | None) -> str:
    """Serve the page from a thread of its own and return its address; ``port`` None takes the first that is free."""
    import gradio

    theme = gradio.themes.Default(font=FONT, font_mono=FIXED_FONT)
    _, address, _ = blocks.launch(server_name=host, server_port=port, theme=theme, **LAUNCH)
    return address
