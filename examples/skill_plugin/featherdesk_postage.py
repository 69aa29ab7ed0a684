"""A skill in thirty lines: what it costs to send a parcel, by weight and country."""

from featherdesk.agent.skills import Risk, SkillResult, take

KG = {"en": "How heavy is it, in kg?", "zh": "包裹有多重（公斤）？"}
WHERE = {"en": "To which country: UK, France or China?", "zh": "寄到英国、法国还是中国？"}
COUNTRIES = {"UK": ["England", "英国"], "France": ["法国"], "China": ["中国"]}
WEIGHT = {"type": "number", "minimum": 0.1, "maximum": 30, "x-ask": KG}
COUNTRY = {"type": "string", "enum": list(COUNTRIES), "x-words": COUNTRIES, "x-ask": WHERE}


class Postage:
    name = "postage"
    description = "Tells what it costs to send a parcel of some weight to a country."
    risk, confirm, timeout = Risk.READ, False, 5.0
    examples = ("How much is it to send a parcel to France?", "postage for 2 kg", "寄包裹多少钱？")

    def __init__(self, settings):
        self.per_kg = take(settings, "per_kg").get("per_kg", {"UK": 2, "France": 4, "China": 9})
        self.parameters = {
            "type": "object",
            "properties": {"kg": WEIGHT, "country": COUNTRY},
            "required": ["kg", "country"],
        }

    def run(self, arguments):
        price = f"{self.per_kg[arguments['country']] * arguments['kg']:.2f}"
        text = f"Postage to {arguments['country']} is £{price}."
        return SkillResult(text, {"price": price}, {"zh": f"邮费是 £{price}。"})
