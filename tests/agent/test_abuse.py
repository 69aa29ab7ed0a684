"""Abuse gets one calm line; swearing at a product, and real questions, get their answer."""

import sys
from pathlib import Path

import pytest
from featherdesk.agent.abuse import Abuse
from featherdesk.agent.guards import Asked, Finding
from featherdesk.agent.stages import BotConfig
from featherdesk.agent.texts import say
from featherdesk.agent.types import HandoffReason, Turn

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure_guards

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

ABUSE = [
    "you are a useless piece of junk",
    "fuck you",
    "f u c k  y o u",
    "f.u.c.k you",
    "fuuuuuck you",
    "fck you all",
    "F**k off",
    "go fuck yourself",
    "you stupid bot",
    "what a moron",
    "you're all idiots",
    "your staff are morons",
    "are you retarded",
    "you d1ckheads",
    "you 1d10ts",
    "a$$hole",
    "you b!tch",
    "shut up you dumb machine",
    "stfu",
    "kys",
    "go kill yourself",
    "I hope you all die",
    "I'm going to kill you",
    "I know where you live",
    "I will burn your shop down",
    "drop dead",
    "you people are scum",
    "screw you and your company",
    "kiss my ass",
    "eat shit",
    "you incompetent clowns",
    "stupid chatbot",
    "dumb as a rock, that's what you are, idiot",
    "you suck",
    "you motherfuckers",
    "piss off",
    "bunch of wankers",
    "you twat",
    "go to hell",
    "rot in hell you bastards",
    "send nudes",
    "suck my dick",
    "your mother is a whore",
    "you absolute muppet",
    "youre so stupid",
    "u r an idiot",
    "why are you so fucking useless",
    "what a waste of space you are",
    "lazy incompetent morons",
    "n1gger",
    "傻逼",
    "你们都是傻B",
    "煞笔客服",
    "你妈死了",
    "操你妈",
    "滚蛋",
    "去死吧",
    "你是不是有病",
    "垃圾客服",
    "你们这群废物",
    "脑残",
    "王八蛋",
    "sb客服",
    "弄死你",
    "祝你全家死光",
    "智障机器人",
    "你真蠢",
    "闭嘴",
    "不要脸的东西",
]
HARMLESS = [
    "this damn zip broke again, how do I get it repaired?",
    "where is my fucking order",
    "how the hell do I return these boots?",
    "the bloody tent leaks, what now?",
    "the zip is shit, can I send it back?",
    "wtf is this charge on my card",
    "my boots are full of crap from the trail, how do I clean them?",
    "I stepped in dog shit, are the soles washable?",
    "is this a stupid question?",
    "sorry for the dumb question",
    "I feel stupid asking this, how do I log in?",
    "I was an idiot and ordered twice, can you cancel one?",
    "my idiot brother broke the pole, are spare parts sold?",
    "do you sell dumbbells",
    "is the Dick King-Smith book in stock?",
    "I bought it at Dick's Sporting Goods",
    "do you sell shiitake growing kits?",
    "Scunthorpe store hours",
    "cockpit cover for a kayak",
    "which screw do you use for the crampon?",
    "the screws you sent do not fit",
    "how do I kill the mould in my tent?",
    "can I shoot arrows with it?",
    "is this knife good to stab tent pegs?",
    "my dog is a bitch, which coat size?",
    "do you have a garden hoe",
    "trash bags for the trail",
    "can you trash my old account?",
    "where do I put the rubbish at the campsite?",
    "is junk mail included?",
    "jerky and trail food",
    "are the pigs on the shirt embroidered?",
    "size 455 ass. colours",
    "assorted carabiners",
    "class A parts",
    "5h delivery possible?",
    "I hate you changed the colour",
    "I hate it when parcels are late",
    "your website sucks up my data, how do I stop it?",
    "the suction sucks, is there a replacement?",
    "you are useful, thanks",
    "you're the best",
    "you are awesome",
    "black people's hair care for helmets?",
    "chink in the armour of the jacket, is it covered?",
    "spic and span cleaner",
    "is the jacket flame retardant?",
    "can I talk to a fucking human",
    "damn, I forgot my password",
    "holy crap that's expensive, any discount?",
    "you charged me twice",
    "you sent me garbage instead of my order 4411",
    "the service was terrible, I want my money back",
    "the driver was rude",
    "your delivery is the worst, where is my parcel?",
    "does the bear spray hurt you?",
    "will the strap beat the competition?",
    "can I burn your wood pellets in another stove?",
    "what are you wearing out faster, soles or heels?",
    "garbage disposal parts",
    "f 16 poster",
    "do you have the size u need for kids",
    "I'd kill for a discount",
    "你们有垃圾袋吗？",
    "垃圾分类桶怎么买",
    "滚筒洗衣机能洗吗",
    "去死皮的工具有吗",
    "给你妈妈买礼物用哪个券",
    "智障人士有优惠吗",
    "卧槽这个太贵了，有优惠吗",
    "他妈的我的快递到哪了",
    "这破拉链又坏了，怎么修",
    "人渣这部电影的周边有吗",
    "订单2b023怎么查",
    "猪头肉能寄吗",
    "闭嘴拉链怎么换",
    "有病假期间能改送货时间吗",
    "干你们这行累吗",
    "操作失败了怎么办",
    "草地帐篷钉有吗",
    "这鞋丑得恶心，能退吗",
]


def _found(text: str, *turns: Turn) -> Finding | None:
    language = "zh" if any("一" <= c <= "鿿" for c in text) else "en"
    return Abuse(BotConfig()).inspect(Asked(text, language, turns))


@pytest.mark.parametrize("text", ABUSE)
def test_abuse_gets_the_calm_line_and_the_offer_of_a_person(text: str) -> None:
    found = _found(text)
    assert found is not None
    assert found.reason is HandoffReason.ANGRY
    assert found.reply in {say("calm", "en"), say("calm", "zh")}


@pytest.mark.parametrize("text", HARMLESS)
def test_swearing_at_a_product_and_look_alikes_get_their_answer(text: str) -> None:
    assert _found(text) is None


def test_abuse_is_not_answered_the_same_twice() -> None:
    history = (Turn("user", "you idiot"), Turn("assistant", say("calm", "en")))
    found = _found("you moron", *history)
    assert found is not None
    assert (found.reply, found.reason) == (say("still_here", "en"), None)


def test_an_insult_beside_a_question_waits_for_the_answer() -> None:
    found = _found("you morons, where is my refund for order 4411?")
    assert found is not None
    assert found.unless_answered


def test_a_threat_beside_a_question_does_not() -> None:
    found = _found("I will kill you all, where is my refund for order 4411?")
    assert found is not None
    assert not found.unless_answered


@pytest.mark.needs_shared
def test_customers_and_other_posts_are_left_alone() -> None:
    shares = measure_guards.measure_abuse(DATA)
    assert shares["customer's question, calm line"] < 0.001
    assert shares["other post"] < 0.02
    assert shares["offensive post"] > shares["other post"]
