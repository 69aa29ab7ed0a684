"""The words of rewordings: what customers put around a question, and what they swap in it.

English and Chinese. None of it stands in `augment` or `corpora`, whose wordings models were
trained on. `{q}` is the question as it is, `{low}` with a small first letter, `{full}` as a
sentence, `{indirect}` in the order of an indirect question. Knows nothing of how it is used.
"""

from .shapes import Shape

__all__ = [
    "ABBREVIATED",
    "CONTRACTED",
    "FRAMES",
    "JOINTS",
    "LEADS",
    "OPENINGS",
    "SPELLINGS",
    "SWAPS",
    "SWAPS_ZH",
]

_OPENERS = (
    "Good afternoon. {full}",
    "Good evening, {low}",
    "Greetings, {low}",
    "Dear team, {low}",
    "To whoever reads this: {q}",
    "Maybe you can help: {q}",
    "Need some help here: {q}",
    "Not sure whom to ask: {q}",
    "Afternoon! {full}",
    "{full} Any help welcome.",
    "{full} Much obliged.",
    "{full} Ta!",
    "{full} Hope that makes sense.",
    "{full} Sorry if that was asked before.",
    "{full} Let me know.",
)
_ASKED = (
    "Could you tell me: {low}",
    "I would like to know: {low}",
    "Do you happen to know: {low}",
    "What interests me: {low}",
    "Here is what I am asking: {q}",
    "My question: {q}",
    "I was wondering - {low}",
    "Just to be sure: {low}",
    "Question from a customer: {q}",
    "I found nothing on this: {q}",
    "So, {low}",
    "Um, {low}",
    "{full} Any idea?",
    "{full} Does anybody know?",
    "{full} I could not find the answer.",
)
_INDIRECT = (
    "I would like to know {indirect}",
    "Can you tell me {indirect}",
    "Would you know {indirect}",
    "I have to find out {indirect}",
    "I could not find {indirect}",
    "No idea {indirect}",
)
_SEVERAL = (
    "Two things. {full}",
    "Two questions: {q}",
    "A couple of questions: {q}",
    "I have two questions. {full}",
    "Two issues: {q}",
    "I write about two things: {q}",
    "{full} Both, if you can.",
)
_LEANING = (
    "Okay, {low}",
    "I see, {low}",
    "Right, {low}",
    "Got it. {full}",
    "Good to know. {full}",
    "Understood, {low}",
    "Hm, {low}",
    "Ah, {low}",
    "Makes sense, {low}",
    "All right, {low}",
    "{full} Any idea?",
    "{full} Ta!",
    "{full} Let me know.",
)
_REPORTED = (
    "Here is my situation: {q}",
    "This is why I write: {q}",
    "The thing is, {low}",
    "So, {low}",
    "It's like this: {q}",
)
_SEARCHED = (
    "About: {q}",
    "Subject: {q}",
    "Looking for: {q}",
    "Search: {q}",
    "Info needed: {q}",
    "{q} - any info?",
)
_OPENERS_ZH = (
    "你好，{q}",
    "您好，{q}",
    "亲，{q}",
    "打扰一下，{q}",
    "有个问题：{q}",
    "咨询一下：{q}",
    "{q}，谢谢",
    "{q}，麻烦了",
    "{full}多谢！",
    "{q}，求解答",
)
_ASKED_ZH = (
    "请问{q}",
    "想问一下{q}",
    "想知道{q}",
    "麻烦问下，{q}",
    "我想了解一下，{q}",
    "{q}，能告诉我吗",
    "{q}，有人知道吗",
    "{full}没找到说明。",
    "那个，{q}",
)
_REPORTED_ZH = ("是这样的，{q}", "情况是这样：{q}", "跟你们说一下，{q}")
_LEANING_ZH = ("好的，{q}", "明白了，{q}", "知道了，{q}", "嗯，{q}", "原来如此，{q}")

FRAMES = {
    Shape.QUESTION: (*_OPENERS, *_ASKED, *_INDIRECT),
    Shape.SEVERAL: (*_OPENERS, *_SEVERAL),
    Shape.LEANING: _LEANING,
    Shape.REPORT: (*_OPENERS, *_REPORTED),
    Shape.ORDER: _OPENERS,
    Shape.KEYWORDS: (*_OPENERS, *_SEARCHED),
    Shape.BARE: (),
    Shape.QUESTION_ZH: (*_OPENERS_ZH, *_ASKED_ZH),
    Shape.PLAIN_ZH: _OPENERS_ZH,
    Shape.REPORT_ZH: (*_OPENERS_ZH, *_REPORTED_ZH),
    Shape.LEANING_ZH: _LEANING_ZH,
}
"""What stands around a text, by what it reads like."""

CONTRACTED = (
    ("what is", "what's"),
    ("where is", "where's"),
    ("who is", "who's"),
    ("do not", "don't"),
    ("does not", "doesn't"),
    ("did not", "didn't"),
    ("is not", "isn't"),
    ("are not", "aren't"),
    ("cannot", "can't"),
    ("will not", "won't"),
    ("have not", "haven't"),
    ("I am", "I'm"),
    ("it is", "it's"),
)
"""Long and contracted; both directions are taken."""

SPELLINGS = (
    ("colour", "color"),
    ("favourite", "favorite"),
    ("grey", "gray"),
    ("centre", "center"),
    ("litre", "liter"),
    ("kilometre", "kilometer"),
    ("instalment", "installment"),
    ("cancelled", "canceled"),
    ("cancelling", "canceling"),
    ("jewellery", "jewelry"),
    ("catalogue", "catalog"),
    ("organise", "organize"),
    ("personalise", "personalize"),
    ("fibre", "fiber"),
    ("traveller", "traveler"),
    ("travelling", "traveling"),
    ("neighbour", "neighbor"),
    ("mum", "mom"),
    ("e-mail", "email"),
)
"""British and American (and two habits), plural or not; both directions are taken."""

SWAPS = (
    (r"\bparcel(s?)\b(?! (?:shop|locker))", r"package\1"),
    (r"\bpackage(s?)\b(?! (?:deal|holiday|tour))", r"parcel\1"),
    (r"\b(the|your|a|this) shop\b", r"\1 store"),
    (r"\b(the|your|a|this) store\b(?! (?:credit|manager))", r"\1 shop"),
    (r"\byour shops\b", "your stores"),
    (r"\byour stores\b", "your shops"),
    (r"\brucksack(s?)\b", r"backpack\1"),
    (r"\bchristmas\b", "Xmas"),
    (r"^do i (?:have|need) to\b", "must I"),
    (r"\bwhich courier\b", "what courier"),
    (r"\bpick up\b", "collect"),
    (r"\bsomeone\b", "somebody"),
    (r"\banyone\b", "anybody"),
    (r"\bdo you close\b", "do you shut"),
    (r"\bdo you shut\b", "do you close"),
    (r"\bmobile phone\b", "cell phone"),
    (r"\bhow quickly?\b", "how fast"),
    (r"\bdamaged\b", "broken"),
    (r"\bsend back\b", "post back"),
)
"""Words that mean the same in a customer's question."""

OPENINGS = (
    (r"^how do i (?=\w)", "how would I "),
    (r"^how do i (?=\w)", "what is the way to "),
    (r"^how can i (?=\w)", "how would I "),
    (r"^can i (?=\w)", "would I be able to "),
    (r"^can i (?=\w)", "is there a way to "),
    (r"^could i (?=\w)", "would I be able to "),
    (r"^do you (?=have|sell|ship|deliver|take|accept|offer|send|buy|post|repair)", "do you folks "),
    (r"^can you (?=\w)", "are you able to "),
    (r"^what time do you\b", "at which time do you"),
)
"""Other beginnings of a question that ask the same."""

JOINTS = (" & ", "? And ", ", secondly ", " - and ", "? Second question: ")
"""What stands between two questions in place of "and"."""

_WH = r"(?:how|when|where|which|why|can|could|is|are|do|does|will|what (?!about))\b"
_AT = r"(?:for|to|by|from|on|in|at|with)\b"
LEADS = (
    (rf"^and (?={_AT})", "what about "),
    (rf"^and (?={_AT})", "how about "),
    (r"^what about\b", "how about"),
    (r"^what about\b", "and"),
    (rf"^and (?={_WH})", "also, "),
    (rf"^and (?={_WH})(?!.*\bthen\b)", "then "),
    (rf"^(?={_WH})", "and "),
    (r"^even\b", "and even"),
    (r"^also\b", "and"),
    (r"^or\b", "or else"),
)
"""Other beginnings of a follow-up."""

ABBREVIATED = (
    (r"\byour\b", "ur"),
    (r"\bwant to\b", "wanna"),
    (r"\bgoing to\b", "gonna"),
    (r"\btomorrow\b", "tmrw"),
    (r"\babout\b", "abt"),
    (r"\bsomething\b", "smth"),
    (r"\bwith\b", "w/"),
    (r"\bwithout\b", "w/o"),
    (r"\bbecause\b", "cos"),
    (r"\bminutes\b", "mins"),
    (r"\bquestion\b", "q"),
    (r"\binformation\b", "info"),
)
"""Short forms of chats."""

SWAPS_ZH = (
    ("(?<![要该])怎么(?!办|样|回|了|这|那|会|没|不|还|都|是)", "如何"),
    ("(?<![要该])怎么(?!办|样|回|了|这|那|会|没|不|还|都|是)", "要怎么"),
    ("什么时候", "啥时候"),
    ("什么时候", "几时"),
    ("能不能", "可不可以"),
    ("能不能", "能否"),
    ("可不可以", "能不能"),
    ("哪里", "哪儿"),
    ("哪儿", "哪里"),
    ("(?<![这那前好过])几天(?!前|后)", "多少天"),
    ("多久", "多长时间"),
    ("邮费", "运费"),
    ("账号", "账户"),
    ("你们店(?![员里长铺])", "你们店里"),
    ("(?<![邮退])寄(?!存|予|信)", "邮寄"),
    ("(?<!不)可以(?=.+[吗么])", "能"),
    ("^能(?=.+[吗么])", "可以"),
    ("吗(?=[？?]?$)", "么"),
    ("(?<!要)多少钱", "什么价"),
    ("要多少钱", "是多少钱"),
    ("我想(?!要|起|不)", "我想要"),
)
"""Words that mean the same in a Chinese question."""
