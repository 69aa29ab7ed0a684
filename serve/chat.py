"""The chat page: Gradio over one bot, streaming, with sources, thumbs and the way to a person.

Nothing on the page comes from another host. Conversations are kept by a random key in the
browser; what is shown is what is stored, masked. Knows nothing of routing.
"""

from collections.abc import Iterator
from importlib.resources import files

import gradio as gr
from fastapi import FastAPI

from ..agent.conversations import new_key
from ..agent.engine import MAX_QUESTION
from ..agent.errors import BusyError, FeatherdeskError
from ..agent.handoff import ask_for_person, taken
from ..agent.stages import Handoff
from ..agent.texts import say, spoken
from ..agent.types import HandoffReason, Reply, RouteKind
from .bubbles import Bubble, bubble, reply_bubbles, stored_bubbles
from .live import LiveBot
from .render import safe_markdown
from .words import WORDS, Words, language_of

__all__ = ["create_page"]

_SUGGESTIONS = 4
GRACE = 45.0  # seconds in which a contact may be left before staff are told without it


def create_page(bot: LiveBot) -> FastAPI:
    """An ASGI app with the page at its root."""
    theme = gr.themes.Soft(
        primary_hue="emerald",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    css, js = ((files(__package__) / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    framed = (files(__package__) / "framed.html").read_text(encoding="utf-8")
    config = bot.agent.config
    page = _Page(bot)
    title = config.page.title or bot.agent.manifest.name
    with gr.Blocks(title=title, analytics_enabled=False, fill_height=True) as blocks:
        page.lay_out(title)
        page.connect(blocks)
        blocks.load(None, js=js)
    blocks.queue(default_concurrency_limit=8, max_size=64)
    shell = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted: FastAPI = gr.mount_gradio_app(
        shell,
        blocks,
        path="/",
        theme=theme,
        css=css,
        head=framed,
        show_error=False,
        footer_links=[],
    )
    return mounted


class _Page:
    """Widgets and what happens to them."""

    def __init__(self, bot: LiveBot) -> None:
        self.bot = bot

    def lay_out(self, title: str) -> None:
        """Make the widgets."""
        words = WORDS["en"]
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
        # A fixed secret: with Gradio's random one a restart of the server forgets every key.
        self.key = gr.BrowserState(
            "", storage_key="featherdesk-conversation", secret="featherdesk-conversation"
        )
        self.ids = gr.State([])
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
        with gr.Row(visible=False, elem_id="reason-row") as self.reason_row:
            self.reason = gr.Textbox(
                label=words.reason,
                placeholder=words.reason_hint,
                scale=4,
                max_length=400,
                elem_id="reason",
            )
            self.reason_send = gr.Button(words.reason_send, scale=1, min_width=120)
        with gr.Column(visible=False, elem_id="reach") as self.reach:
            self.reach_why = gr.Markdown(words.contact_why, elem_id="reach-why")
            with gr.Row(elem_id="reach-row"):
                self.reach_at = _field(words.contact, 120, "reach-at")
                self.reach_note = _field(words.note, 400, "reach-note")
                self.reach_send = gr.Button(
                    words.contact_send, scale=1, min_width=100, elem_id="reach-send"
                )
        with gr.Row(elem_id="suggestions"):
            self.suggestions = [
                gr.Button(text, size="sm", elem_classes="suggestion", min_width=160)
                for text in self._suggested("en")
            ]
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
        self.contact = gr.Markdown(self._contact(bot_handoff(self.bot)), elem_id="contact")
        self.rated = gr.State(None)

    def connect(self, blocks: gr.Blocks) -> None:
        """Say what happens on which event."""
        talk = [self.chatbot, self.question, self.ids, self.choices]
        given = [self.question, self.chatbot, self.ids, self.key, self.language]
        for trigger in (self.question.submit, self.send.click):
            trigger(self.turn, given, talk, show_progress="hidden", api_visibility="private").then(
                self.invite, self.key, self.reach, api_visibility="private"
            )
        for button in self.suggestions:
            button.click(
                self.turn,
                [button, *given[1:]],
                talk,
                show_progress="hidden",
                api_visibility="private",
            )
        self.choices.input(
            self.turn,
            [self.choices, *given[1:]],
            talk,
            show_progress="hidden",
            api_visibility="private",
        )
        self.chatbot.like(
            self.rate,
            [self.ids, self.language],
            [self.reason_row, self.rated],
            api_visibility="private",
        )
        for trigger in (self.reason.submit, self.reason_send.click):
            trigger(
                self.explain,
                [self.rated, self.reason, self.language],
                [self.reason_row, self.reason],
                api_visibility="private",
            )
        self.person.click(
            self.hand_off,
            [self.chatbot, self.ids, self.key, self.language],
            [self.chatbot, self.ids, self.key, self.reach],
            api_visibility="private",
        )
        for trigger in (self.reach_at.submit, self.reach_note.submit, self.reach_send.click):
            trigger(
                self.reached,
                [self.chatbot, self.ids, self.key, self.language, self.reach_at, self.reach_note],
                [self.chatbot, self.ids, self.reach, self.reach_at, self.reach_note],
                api_visibility="private",
            )
        for trigger in (self.fresh.click, self.chatbot.clear):
            trigger(
                self.forget,
                None,
                [self.chatbot, self.key, self.ids, self.choices, self.reach],
                api_visibility="private",
            )
        labels = [
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
        self.language.change(self.translate, self.language, labels, api_visibility="private")
        blocks.load(
            self.restore,
            [self.key],
            [self.key, self.chatbot, self.ids, self.language],
            api_visibility="private",
        )

    def turn(
        self, question: str, shown: list[Bubble], ids: list[int], key: str, language: str
    ) -> Iterator[tuple[object, ...]]:
        """One question: the words as they are released, then the reply with its sources."""
        words = WORDS[language]
        question = (question or "").strip()
        if not question:
            yield shown, "", ids, gr.skip()
            return
        if len(question) > MAX_QUESTION:
            gr.Warning(words.too_long.format(limit=MAX_QUESTION))
            yield shown, question, ids, gr.skip()
            return
        shown = [*shown, bubble("user", question), bubble("assistant", "…")]
        ids = [*ids, -1, -1]
        yield shown, "", ids, gr.Radio(visible="hidden")
        text = ""
        try:
            history = self.bot.store.turns(key) if key else []
            for event in self.bot.agent.asked_by(key).stream(question, history):
                if event.delta:
                    text += event.delta
                    shown[-1] = bubble("assistant", text)
                    yield shown, "", ids, gr.skip()
                if event.reply is not None:
                    settings = self.bot.agent.config.handoff
                    reply = taken(self.bot.store, key, event.reply, settings, delay=GRACE)
                    ids[-1] = self.bot.store.add(key, question, reply)
                    shown = [*shown[:-1], *reply_bubbles(self.bot.agent, reply, language)]
                    ids = ids + [ids[-1]] * (len(shown) - len(ids))
                    yield shown, "", ids, self._choices(reply, words)
        except FeatherdeskError as error:
            busy = isinstance(error, BusyError)
            shown[-1] = bubble("assistant", words.busy if busy else words.offline)
            yield shown, question if busy else "", ids, gr.skip()

    def _choices(self, reply: Reply, words: Words) -> gr.Radio:
        """The entries to choose from, when the bot asks which one is meant."""
        if reply.route.kind is not RouteKind.CLARIFY:
            return gr.Radio(visible="hidden")
        return gr.Radio(
            [c.question for c in reply.citations], label=words.choose, value=None, visible=True
        )

    def rate(self, ids: list[int], language: str, event: gr.LikeData) -> tuple[gr.Row, int | None]:
        """A thumb; down asks for the reason."""
        place = event.index[0] if isinstance(event.index, tuple | list) else event.index
        if not isinstance(place, int) or place >= len(ids) or ids[place] < 0:
            return gr.Row(visible=False), None
        good = event.liked is True or event.liked == "Like"
        self.bot.store.rate(ids[place], good=good)
        if good:
            gr.Info(WORDS[language].thanks)
        return gr.Row(visible=not good), None if good else ids[place]

    def explain(self, rated: int | None, reason: str, language: str) -> tuple[gr.Row, str]:
        """The reason of a thumb down."""
        if rated is not None:
            self.bot.store.rate(rated, good=False, reason=reason or "")
            gr.Info(WORDS[language].thanks)
        return gr.Row(visible=False), ""

    def hand_off(
        self, shown: list[Bubble], ids: list[int], key: str, language: str
    ) -> tuple[list[Bubble], list[int], str, gr.Column]:
        """Ask for a person; the customer gets a number, and the same one the second time."""
        key = key or new_key()
        store, settings = self.bot.store, bot_handoff(self.bot)
        known = store.open_request(key)
        number = known or ask_for_person(store, key, settings, delay=GRACE)
        said = say("asked_before" if known else "asked", language, number)
        contact = "" if known else self._contact(settings)
        shown, ids = self._say(shown, ids, key, said, contact)
        return shown, ids, key, gr.Column(visible=True)

    def reached(
        self,
        shown: list[Bubble],
        ids: list[int],
        key: str,
        language: str,
        contact: str,
        note: str,
    ) -> tuple[list[Bubble], list[int], gr.Column, str, str]:
        """Add how the customer can be reached to the request; the conversation keeps none of it."""
        contact, note = (contact or "").strip(), (note or "").strip()
        if key and (contact or note):
            number = self.bot.store.hand_off(
                key,
                HandoffReason.REQUESTED.value,
                note,
                contact=contact,
                channels=bot_handoff(self.bot).channels,
            )
            shown, ids = self._say(shown, ids, key, say("contact", language, number))
        return shown, ids, gr.Column(visible=False), "", ""

    def invite(self, key: str) -> gr.Column:
        """Ask for a contact when a person was wanted in the last turn, and none was left yet."""
        history = self.bot.store.history(key) if key else []
        said = spoken(history[-1].text) if history else None
        return gr.Column(visible=said is not None and said.name == "asked")

    def _say(
        self, shown: list[Bubble], ids: list[int], key: str, text: str, more: str = ""
    ) -> tuple[list[Bubble], list[int]]:
        """Say and store a sentence of ours, unless it was the last thing said."""
        history = self.bot.store.history(key)
        if history and history[-1].text == text:
            return shown, ids
        told = self.bot.store.tell(key, text)
        content = safe_markdown(text) + ("  \n" + more if more else "")
        return [*shown, {"role": "assistant", "content": content}], [*ids, told]

    def forget(self) -> tuple[list[Bubble], str, list[int], gr.Radio, gr.Column]:
        """Start a new conversation."""
        return [], new_key(), [], gr.Radio(visible="hidden"), gr.Column(visible=False)

    def restore(self, key: str, request: gr.Request) -> tuple[str, list[Bubble], list[int], str]:
        """Bring a conversation back after a reload."""
        accepted = request.headers.get("accept-language", "")
        language = language_of(request.query_params.get("lang") or accepted)
        if not key or len(key) > 64:
            return new_key(), [], [], language
        shown: list[Bubble] = []
        ids: list[int] = []
        for message in self.bot.store.history(key):
            told = stored_bubbles(self.bot.agent, message, language)
            shown += told
            ids += [message.id] * len(told)
        return key, shown, ids, language

    def translate(self, language: str) -> list[object]:
        """The page in another language."""
        words = WORDS.get(language, WORDS["en"])
        name = safe_markdown(self.bot.agent.config.page.title or self.bot.agent.manifest.name)
        return [
            gr.Textbox(placeholder=words.placeholder, label=words.placeholder),
            words.send,
            words.person,
            words.fresh,
            gr.Radio(label=words.choose),
            gr.Textbox(label=words.reason, placeholder=words.reason_hint),
            words.reason_send,
            gr.Chatbot(label=words.chat, placeholder=words.greeting.format(name=name)),
            words.contact_why,
            gr.Textbox(label=words.contact, placeholder=words.contact),
            gr.Textbox(label=words.note, placeholder=words.note),
            words.contact_send,
            *self._suggested(language),
        ]

    def _suggested(self, language: str) -> list[str]:
        """Configured suggestions, else questions of different categories."""
        agent = self.bot.agent
        own = list(agent.config.page.suggestions) if language == "en" else []
        known = [e for e in agent.router.index.entries if not e.skill]
        entries = [e for e in known if e.language == language] or known
        seen: set[str] = set()
        for entry in entries:
            if entry.category not in seen:
                seen.add(entry.category)
                own.append(entry.question)
        own.extend(e.question for e in entries)
        return list(dict.fromkeys(own))[:_SUGGESTIONS]

    def _contact(self, handoff: Handoff) -> str:
        parts = [handoff.email, handoff.phone, handoff.url, handoff.hours]
        return " · ".join(safe_markdown(part) for part in parts if part)


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


def bot_handoff(bot: LiveBot) -> Handoff:
    """How this bot's customers reach a person."""
    return bot.agent.config.handoff
