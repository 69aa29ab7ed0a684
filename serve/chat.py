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
from .widgets import Widgets
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
    """What happens to the widgets."""

    def __init__(self, bot: LiveBot) -> None:
        self.bot = bot

    def lay_out(self, title: str) -> None:
        """Make the widgets."""
        contact = self._contact(bot_handoff(self.bot))
        self.widgets = Widgets(title, self._suggested("en"), contact)

    def connect(self, blocks: gr.Blocks) -> None:
        """Say what happens on which event."""
        self._connect_talk()
        self._connect_thumbs()
        self._connect_person()
        self._connect_page(blocks)

    def _connect_talk(self) -> None:
        """Questions: typed, suggested, or chosen from those that may be meant."""
        on = self.widgets
        talk = [on.chatbot, on.question, on.ids, on.choices]
        given = [on.question, on.chatbot, on.ids, on.key, on.language]
        for trigger in (on.question.submit, on.send.click):
            trigger(self.turn, given, talk, show_progress="hidden", api_visibility="private").then(
                self.invite, on.key, on.reach, api_visibility="private"
            )
        for button in on.suggestions:
            button.click(
                self.turn,
                [button, *given[1:]],
                talk,
                show_progress="hidden",
                api_visibility="private",
            )
        on.choices.input(
            self.turn,
            [on.choices, *given[1:]],
            talk,
            show_progress="hidden",
            api_visibility="private",
        )

    def _connect_thumbs(self) -> None:
        """Thumbs, and the reason of one that is down."""
        on = self.widgets
        on.chatbot.like(
            self.rate,
            [on.ids, on.language],
            [on.reason_row, on.rated],
            api_visibility="private",
        )
        for trigger in (on.reason.submit, on.reason_send.click):
            trigger(
                self.explain,
                [on.rated, on.reason, on.language],
                [on.reason_row, on.reason],
                api_visibility="private",
            )

    def _connect_person(self) -> None:
        """The way to a person, and back."""
        on = self.widgets
        on.person.click(
            self.hand_off,
            [on.chatbot, on.ids, on.key, on.language],
            [on.chatbot, on.ids, on.key, on.reach],
            api_visibility="private",
        )
        for trigger in (on.reach_at.submit, on.reach_note.submit, on.reach_send.click):
            trigger(
                self.reached,
                [on.chatbot, on.ids, on.key, on.language, on.reach_at, on.reach_note],
                [on.chatbot, on.ids, on.reach, on.reach_at, on.reach_note],
                api_visibility="private",
            )

    def _connect_page(self, blocks: gr.Blocks) -> None:
        """A new conversation, another language, and a page that is opened."""
        on = self.widgets
        for trigger in (on.fresh.click, on.chatbot.clear):
            trigger(
                self.forget,
                None,
                [on.chatbot, on.key, on.ids, on.choices, on.reach],
                api_visibility="private",
            )
        on.language.change(self.translate, on.language, on.labels, api_visibility="private")
        blocks.load(
            self.restore,
            [on.key],
            [on.key, on.chatbot, on.ids, on.language],
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
        title = self.bot.agent.config.page.title or self.bot.agent.manifest.name
        return Widgets.translated(words, title, self._suggested(language))

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


def bot_handoff(bot: LiveBot) -> Handoff:
    """How this bot's customers reach a person."""
    return bot.agent.config.handoff
