"""The widgets of the chat page, in the order in which they stand there.

Knows nothing of what happens to them, or of the bot.
"""

from collections.abc import Sequence

import gradio as gr

from .render import safe_markdown
from .words import WORDS, Words

__all__ = ["Widgets"]


class Widgets:
    """Makes them inside the current `gr.Blocks`, with English labels.

    `suggested` are questions to begin with, `contact` is how a person is reached.
    """

    def __init__(self, title: str, suggested: Sequence[str], contact: str) -> None:
        words = WORDS["en"]
        self._top(title, words)
        # A fixed secret: with Gradio's random one a restart of the server forgets every key.
        self.key = gr.BrowserState(
            "", storage_key="featherdesk-conversation", secret="featherdesk-conversation"
        )
        self.ids = gr.State([])
        self._conversation(title, words)
        self._reason(words)
        self._reach(words)
        with gr.Row(elem_id="suggestions"):
            self.suggestions = [
                gr.Button(text, size="sm", elem_classes="suggestion", min_width=160)
                for text in suggested
            ]
        self._ask(words)
        self.contact = gr.Markdown(contact, elem_id="contact")
        self.rated = gr.State(None)

    def _top(self, title: str, words: Words) -> None:
        """The title and the choice of a language."""
        with gr.Row(elem_id="top"):
            gr.Markdown(f"## {safe_markdown(title)}", elem_id="title")
            self.language = gr.Radio(
                [("English", "en"), ("中文", "zh")],
                value="en",
                label=words.language,
                show_label=False,
                container=False,
                elem_id="language",
                min_width=230,
                scale=0,
            )

    def _conversation(self, title: str, words: Words) -> None:
        """What was said, and the entries to choose from."""
        self.chatbot = gr.Chatbot(
            label=words.chat,
            show_label=False,
            elem_id="chat",
            sanitize_html=True,
            height="62vh",
            buttons=["copy"],
            placeholder=words.greeting.format(name=safe_markdown(title)),
            layout="bubble",
            feedback_options=("Like", "Dislike"),
        )
        self.choices = gr.Radio([], label=words.choose, visible="hidden", elem_id="choices")

    def _reason(self, words: Words) -> None:
        """What was wrong, after a thumb down."""
        with gr.Row(visible=False, elem_id="reason-row") as self.reason_row:
            self.reason = gr.Textbox(
                label=words.reason,
                placeholder=words.reason_hint,
                scale=4,
                max_length=400,
                elem_id="reason",
            )
            self.reason_send = gr.Button(words.reason_send, scale=1, min_width=120)

    def _reach(self, words: Words) -> None:
        """How a person can reach the customer."""
        with gr.Column(visible=False, elem_id="reach") as self.reach:
            self.reach_why = gr.Markdown(words.contact_why, elem_id="reach-why")
            with gr.Row(elem_id="reach-row"):
                self.reach_at = _field(words.contact, 120, "reach-at")
                self.reach_note = _field(words.note, 400, "reach-note")
                self.reach_send = gr.Button(
                    words.contact_send, scale=1, min_width=100, elem_id="reach-send"
                )

    def _ask(self, words: Words) -> None:
        """The question, and the buttons below it."""
        with gr.Row(elem_id="ask"):
            self.question = gr.Textbox(
                placeholder=words.placeholder,
                show_label=False,
                label=words.placeholder,
                lines=1,
                max_lines=5,
                scale=6,
                autofocus=True,
                elem_id="question",
                container=False,
            )
            self.send = gr.Button(
                words.send, variant="primary", scale=1, min_width=90, elem_id="send"
            )
        with gr.Row(elem_id="actions"):
            self.person = gr.Button(words.person, size="sm", elem_id="person", min_width=140)
            self.fresh = gr.Button(words.fresh, size="sm", elem_id="fresh", min_width=110)

    @property
    def labels(self) -> list[gr.Component]:
        """Everything that has words on it; `translated` tells them in this order."""
        return [
            self.question,
            self.send,
            self.person,
            self.fresh,
            self.choices,
            self.reason,
            self.reason_send,
            self.chatbot,
            self.reach_why,
            self.reach_at,
            self.reach_note,
            self.reach_send,
            *self.suggestions,
        ]

    @staticmethod
    def translated(words: Words, title: str, suggested: Sequence[str]) -> list[object]:
        """The labels in another language."""
        return [
            gr.Textbox(placeholder=words.placeholder, label=words.placeholder),
            words.send,
            words.person,
            words.fresh,
            gr.Radio(label=words.choose),
            gr.Textbox(label=words.reason, placeholder=words.reason_hint),
            words.reason_send,
            gr.Chatbot(
                label=words.chat, placeholder=words.greeting.format(name=safe_markdown(title))
            ),
            words.contact_why,
            gr.Textbox(label=words.contact, placeholder=words.contact),
            gr.Textbox(label=words.note, placeholder=words.note),
            words.contact_send,
            *suggested,
        ]


def _field(label: str, longest: int, elem_id: str) -> gr.Textbox:
    return gr.Textbox(
        label=label,
        placeholder=label,
        show_label=False,
        container=False,
        max_length=longest,
        scale=3,
        min_width=200,
        elem_id=elem_id,
    )
