import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner
from featherdesk.agent.cores import available_cores
from featherdesk.agent.errors import ConfigError, FeatherdeskError
from featherdesk.agent.types import Entry
from featherdesk.compress import plan_command, workshop
from featherdesk.compress.candidate import UNCOMPRESSED, Budget, Candidate, Trial
from featherdesk.compress.dataset import Question, Row, save
from featherdesk.compress.distill import Heal
from featherdesk.compress.export import Quantization, export
from featherdesk.compress.layers import RemoveLayers
from featherdesk.compress.material import Material
from featherdesk.compress.pareto import front
from featherdesk.compress.plan_files import recipe_text, table, told, write_plan
from featherdesk.compress.planner import Plan, candidates, choose, plan
from featherdesk.compress.recipe import load_recipe
from featherdesk.compress.steps import Done, Task, run_steps
from featherdesk.compress.workshop import FileJournal, Workshop, pruning_of
from safetensors.torch import load_file, save_file

from ..tiny_llama import make_llama
from .conftest import kin, task_of

WANTED = candidates(30, 49152, 2)
STEPS = ["vocabulary", "layers", "channels", "heal", "export"]


@dataclass
class Clock:
    """Time that passes only when somebody works."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Fake:
    """A measurer whose candidates are as small, quick and clever as a formula says.

    Healing brings back what pruning took, the more slowly the more it took.
    """

    clock: Clock
    work: float = 40.0
    slow: float = 1.0
    seen: list[tuple[str, int, float]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    prepared: list[float] = field(default_factory=list)
    ranked_s: float = 0.0

    def prepare(self, seconds: float) -> float:
        self.prepared.append(seconds)
        self.clock.now += 0.0 if self.ranked_s else seconds
        return self.ranked_s or seconds

    def measure(self, candidate: Candidate, rung: int, minutes: float) -> Trial:
        self.seen.append((candidate.key, rung, minutes))
        seconds = self.work + minutes * 60
        self.clock.now += seconds
        return trial(candidate, rung, minutes, seconds=seconds, slow=self.slow)

    def drop(self, candidate: Candidate) -> None:
        self.dropped.append(candidate.key)


@dataclass
class Memory:
    """A journal that forgets with the process."""

    kept: dict[tuple[str, int], Trial] = field(default_factory=dict)

    def known(self) -> Mapping[tuple[str, int], Trial]:
        return self.kept

    def add(self, trial: Trial) -> None:
        self.kept[trial.candidate.key, trial.rung] = trial


def trial(
    one: Candidate, rung: int = 0, minutes: float = 0.0, *, seconds: float = 40.0, slow: float = 1.0
) -> Trial:
    body = 106 * (1 - one.layers / 30) * (0.8 if one.channels else 1) + 28 * (
        (one.vocabulary or 49152) / 49152
    )
    bits = {"fp32": 32, "int8": 8.5}.get(one.precision, 4 + 20 / one.block_size)
    speed = {"fp32": 0.25, "int8": 0.8 * slow}.get(one.precision, slow) * 30 / (30 - one.layers)
    hurt = one.layers * 0.05 + (0.02 if one.vocabulary else 0) + (0.02 if one.channels else 0)
    correct = max(0.0, 0.94 - hurt / (1 + minutes))
    rate = 150 * speed * (0.6 if one.threads == 1 else 1)
    return Trial(
        one, rung, minutes, body * bits / 8, 330 / speed, 200 / speed, rate, 60 + body * bits / 8,
        correct, 0.05 + hurt, seconds, minutes * 60,
    )  # fmt: skip


def planned(budget: Budget, **settings: Any) -> tuple[Plan, Fake]:
    clock = Clock()
    fake = Fake(clock, **settings)
    return plan(WANTED, fake, budget, Memory(), clock=clock), fake


def test_candidates_vary_everything_that_a_plan_may_choose() -> None:
    assert WANTED[0] == UNCOMPRESSED
    assert {one.precision for one in WANTED} == {"fp32", "int4", "int8"}
    assert {one.block_size for one in WANTED} == {16, 32, 64, 128}
    assert {one.threads for one in WANTED} == {0, 1}
    assert {one.vocabulary for one in WANTED} == {0, 12288, 8192}
    assert {one.layers for one in WANTED} == {0, 4, 8}
    assert {one.channels for one in WANTED} == {0.0, 0.667}
    assert Candidate(4, 12288, block_size=64, channels=0.667) in WANTED  # as `balanced` is
    assert WANTED[2] == Candidate(8, 8192, block_size=64, channels=0.667)
    assert len({one.key for one in WANTED}) == len(WANTED)
    assert all(one.layers < 2 for one in candidates(2, 320, 1))


def test_the_plan_ends_in_time_and_heals_few_for_longer() -> None:
    budget = Budget(max_mb=60, minutes=90)
    found, fake = planned(budget)
    assert fake.clock.now <= 90 * 60
    assert fake.clock.now > 60 * 60
    assert fake.prepared == [pytest.approx(15 * 60, abs=30)]
    counts = [sum(rung == n for _, rung, _ in fake.seen) for n in range(3)]
    assert counts[0] == len(WANTED)
    assert counts[0] > counts[1] > counts[2] >= 1
    healed = [[minutes for _, rung, minutes in fake.seen if rung == n and minutes] for n in (1, 2)]
    assert min(healed[1]) > max(healed[0]) > 0
    assert found.pick is not None
    assert found.pick.size_mb <= 60
    assert found.pick.healing > 0
    assert fake.dropped


@pytest.mark.parametrize("minutes", [1, 5, 20, 240])
@pytest.mark.parametrize("work", [10.0, 120.0])
def test_no_candidate_is_begun_that_does_not_fit(minutes: float, work: float) -> None:
    clock = Clock()
    fake = Fake(clock, work)
    found = plan(WANTED, fake, Budget(minutes=minutes), Memory(), clock=clock)
    assert clock.now <= max(minutes * 60, work)
    times = {"not begun: no time", "not healed further: no time"}
    assert {one.reason for one in found.skipped} <= times
    begun = [one for one in found.skipped if one.reason == "not begun: no time"]
    assert {one.candidate.key for one in begun} == {one.key for one in WANTED} - {
        key for key, rung, _ in fake.seen if rung == 0
    }


def test_an_interrupted_plan_goes_on() -> None:
    class Stopped(Exception):
        pass

    journal, clock = Memory(), Clock()

    class Killed(Fake):
        def measure(self, candidate: Candidate, rung: int, minutes: float) -> Trial:
            if len(self.seen) == 15:
                raise Stopped
            return super().measure(candidate, rung, minutes)

    first = Killed(clock)
    with pytest.raises(Stopped):
        plan(WANTED, first, Budget(max_mb=60), journal, clock=clock)
    second = Fake(clock, ranked_s=first.prepared[0])
    found = plan(WANTED, second, Budget(max_mb=60), journal, clock=clock)
    assert len(first.seen) == 15
    assert not {s[:2] for s in first.seen} & {s[:2] for s in second.seen}
    assert clock.now <= 90 * 60
    assert found.pick is not None
    assert found.pick.candidate == planned(Budget(max_mb=60))[0].pick.candidate  # type: ignore[union-attr]


class Broken(Fake):
    """Cannot make some candidates: no channels are cut, and no block of 16 is like torch's."""

    every: bool = False

    def measure(self, candidate: Candidate, rung: int, minutes: float) -> Trial:
        if self.every or candidate.channels or candidate.block_size == 16:
            raise FeatherdeskError(f"{candidate.key} cannot be made")
        return super().measure(candidate, rung, minutes)


def test_what_cannot_be_made_is_skipped_with_its_reason() -> None:
    clock = Clock()
    fake = Broken(clock)
    found = plan(WANTED, fake, Budget(max_mb=80), Memory(), clock=clock)
    assert found.pick is not None
    assert found.pick.healing > 0
    wrong = {one for one in WANTED if one.channels or one.block_size == 16}
    assert {one.candidate for one in found.skipped} == wrong
    assert {one.reason for one in found.skipped} == {f"{one.key} cannot be made" for one in wrong}
    assert set(fake.dropped) >= {one.key for one in wrong}
    listed = told(found)["skipped"]
    assert listed[0]["reason"] == f"{listed[0]['name']} cannot be made"
    assert f"{listed[0]['reason']}\n" in table(found)


def test_when_nothing_can_be_made_the_first_reason_is_told() -> None:
    clock = Clock()
    fake = Broken(clock)
    fake.every = True
    with pytest.raises(FeatherdeskError, match="no candidate can be made: fp32 cannot be made"):
        plan(WANTED, fake, Budget(), Memory(), clock=clock)


def test_a_budget_below_the_smallest_says_what_is_possible() -> None:
    clock = Clock()
    fake = Fake(clock)
    with pytest.raises(
        ConfigError, match=r"at most 20 MB: the smallest possible.*ask for --max-mb \d+"
    ):
        plan(WANTED, fake, Budget(max_mb=20), Memory(), clock=clock)
    assert len(fake.seen) == 3


def test_too_slow_for_so_many_users_names_the_quickest() -> None:
    found, _ = planned(Budget(max_ms=5, users=8))
    assert found.pick is None
    assert "within 5 ms with 8 users at once: the quickest is" in found.reason
    assert "with one user it takes" in found.reason


def test_what_is_pruned_and_not_healed_is_never_picked() -> None:
    pruned = trial(Candidate(layers=3))
    pick, reason = choose([pruned], Budget())
    assert pick is None
    assert "give more --minutes" in reason
    healed = replace(pruned, healing=2.0, correct=0.93)
    assert choose([healed], Budget())[0] == healed


def test_the_uncompressed_model_is_better_when_compressed_is_slower() -> None:
    found, _ = planned(Budget(), slow=0.1)
    assert found.pick is not None
    assert found.pick.candidate == UNCOMPRESSED
    slow = [trial(UNCOMPRESSED), trial(Candidate(), slow=0.2)]
    pick, reason = choose([slow[0], replace(slow[1], correct=0.96)], Budget())
    assert pick == slow[0]
    assert "the uncompressed model is better" in reason
    assert "compressed but slower here" in reason


def test_the_uncompressed_model_is_better_when_answers_are_lost() -> None:
    quick = replace(trial(Candidate()), correct=0.90)
    base = replace(trial(UNCOMPRESSED), rate=10.0, correct=0.905)
    assert choose([base, quick], Budget())[0] == quick
    pick, reason = choose([replace(base, correct=0.95), quick], Budget())
    assert pick is not None
    assert pick.candidate == UNCOMPRESSED
    assert "uncompressed model is better" in reason


def test_a_pick_that_loses_much_is_said_to() -> None:
    base, small = trial(UNCOMPRESSED), replace(trial(Candidate()), correct=0.80)
    pick, reason = choose([base, small], Budget(max_mb=100))
    assert pick == small
    assert "loses 14.0 points" in reason


def test_of_equal_answers_the_fastest_is_picked() -> None:
    one, other = trial(Candidate()), trial(Candidate(threads=1))
    assert choose([other, one], Budget())[0] == one


def test_the_front_holds_results_alone() -> None:
    found, _ = planned(Budget(max_mb=60))
    assert found.front
    assert all(one.result for one in found.front)


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"users": 0}, {"max_mb": -1}, {"max_ms": -1}])
def test_a_budget_checks_itself(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="minutes above 0"):
        Budget(**wrong)


def test_what_is_tried_is_told_with_the_time_gone() -> None:
    clock, heard = Clock(), []
    plan(
        WANTED,
        Fake(clock),
        Budget(),
        Memory(),
        lambda what, gone: heard.append((what, gone)),
        clock,
    )
    assert heard[0] == ("fp32", 0.0)
    assert any("healed" in what for what, _ in heard)
    shares = [gone for _, gone in heard]
    assert shares == sorted(shares)
    assert shares[-1] < 1


def test_the_journal_is_read_back_and_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "plan" / "journal.jsonl"
    journal = FileJournal(path, "model-a")
    assert journal.known() == {}
    kept = trial(Candidate(layers=3), 1, 2.0)
    journal.add(kept)
    with path.open("a") as file:
        file.write('{"identity": "model-a", "candi')
    other = trial(Candidate())
    journal.add(other)
    assert journal.known() == {(kept.candidate.key, 1): kept, (other.candidate.key, 0): other}
    assert FileJournal(path, "model-b").known() == {}


@pytest.mark.parametrize(
    "better",
    [{"size_mb": 1.0}, {"first_ms": 1.0}, {"rate": 9e9}, {"peak_mb": 1.0}, {"correct": 1.0}],
)
def test_who_is_best_by_one_measure_stays_on_the_front(better: dict[str, float]) -> None:
    best, other = trial(Candidate()), trial(Candidate(layers=9), 2, 9.0)
    worse = {"size_mb": 900.0, "first_ms": 900.0, "rate": 1.0, "peak_mb": 900.0, "correct": 0.1}
    alone = replace(other, **(worse | better))
    assert front([one.costs for one in (best, alone)]) == [0, 1]
    assert front([best.costs, replace(other, **worse).costs]) == [0]


def test_the_picked_recipe_is_one_that_compress_reads(tmp_path: Path) -> None:
    picked = trial(Candidate(6, 16384, channels=0.667), 2, 9.0)
    found = Plan(Budget(max_mb=60), (picked,), (picked,), picked, 'small, and "quick"')
    pruning = pruning_of(picked.candidate, [9, 4, 7, 2, 11, 20, 3])
    write_plan(tmp_path, found, pruning, {"model": "m"})
    recipe = tomllib.loads((tmp_path / "plan.toml").read_text())
    assert [step["use"] for step in recipe["steps"]] == STEPS
    assert recipe["steps"][0] == {"use": "vocabulary", "size": 16384}
    assert recipe["steps"][1]["which"] == [2, 4, 7, 9, 11, 20]
    assert RemoveLayers(**{k: v for k, v in recipe["steps"][1].items() if k != "use"}).remove == 6
    assert recipe["steps"][2] == {"use": "channels", "compensate": True, "share": 0.667}
    assert Heal(**{k: v for k, v in recipe["steps"][3].items() if k != "use"}).bits == 4
    assert recipe["steps"][4] == {"use": "export", "precision": "int4", "block_size": 32}
    read = load_recipe(str(tmp_path / "plan.toml"))
    assert [name for name, _ in read.steps] == STEPS
    data = json.loads((tmp_path / "plan.json").read_text())
    assert data["pick"] == picked.candidate.key
    assert data["front"] == [picked.candidate.key]
    assert data["trials"][0]["fits"] is True
    assert (tmp_path / "plan.png").stat().st_size > 5000
    assert "*" in table(found)


def test_without_a_compressed_pick_there_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text("of an earlier plan")
    base = trial(UNCOMPRESSED)
    write_plan(tmp_path, Plan(Budget(), (base,), (base,), base, "better"), [], {})
    assert not (tmp_path / "plan.toml").exists()
    with pytest.raises(ValueError, match="nothing was picked"):
        recipe_text(Plan(Budget(), (), (), None, ""), [])


@dataclass(frozen=True)
class Export:
    """Stands for the step `export`."""

    kind: ClassVar[str] = "export"
    precision: str = "fp32"

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        return asdict(export(source, out, Quantization(precision="fp32")))


@pytest.fixture(scope="module")
def material() -> Material:
    entry = Entry("1", "Is it open?", "Yes, until 9.")
    rows = tuple(
        Row((entry,), (Question(f"open on day {n}?", "Yes, until 9."),), f"g{n}", "topics")
        for n in range(12)
    )
    return Material(rows[2:], rows[:2])


@pytest.fixture(scope="module")
def shop(tiny: Path, material: Material, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("plan") / "shop"
    task = Task(tiny, material, folder / "scratch", progress=False)
    heal = Heal(batch=1, accumulate=1, compiled=False)
    return Workshop(folder, task, 2, 1, 1, lambda _: Export(), heal, limit=4)


def test_a_candidate_is_made_healed_on_and_measured(
    shop: Workshop, tiny: Path, material: Material
) -> None:
    one = Candidate(layers=1)
    found = shop.measure(one, 0, 0.0)
    base = shop.measure(UNCOMPRESSED, 0, 0.0)
    assert not found.result
    assert base.result
    assert found.size_mb < base.size_mb
    assert found.first_ms > 0
    assert found.seconds > 0
    ranking = json.loads((shop.folder / "ranking.json").read_text())
    assert len(ranking["order"]) == 1
    assert shop.prepare(0.0) == ranking["seconds"] > 0
    healed = shop.measure(one, 1, 0.02)
    assert healed.result
    assert healed.healed_s > 0
    assert shop._weights(one, 1).is_dir()
    rate = json.loads((shop.folder / "healing.json").read_text())["rate"]
    assert rate > 0
    once = load_file(shop._weights(one, 1) / "model.safetensors")
    again = shop.measure(one, 2, 0.02)
    assert again.size_mb == pytest.approx(found.size_mb, abs=0.01)
    twice = shop._weights(one, 2) / "model.safetensors"
    assert any(not torch.equal(once[name], weight) for name, weight in load_file(twice).items())
    shop.drop(one)
    assert not list((shop.folder / "weights").iterdir())
    assert (shop.generator(one) / "model.onnx").exists()
    assert not list((shop.folder / "work").iterdir())


def test_a_trial_that_was_never_written_down_is_healed_once_in_the_next_run(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, one = replace(shop, folder=tmp_path), Candidate(layers=1)
    sources: list[Path] = []

    def noted(steps: Any, source: Path, *rest: Any) -> list[Done]:
        sources.append(source)
        return run_steps(steps, source, *rest)

    monkeypatch.setattr(workshop, "run_steps", noted)
    for rung in (1, 1, 2):  # the first run was killed before its line stood in the journal
        mine.measure(one, rung, 0.001)
    assert sources == [shop.task.parent, shop.task.parent, mine._weights(one, 1)]


def test_texts_alone_are_enough_to_plan_with(shop: Workshop, tiny: Path, tmp_path: Path) -> None:
    """Asked is what ships; in bytes that needs room."""
    roomy = kin("llama", tiny, tmp_path / "model", max_position_embeddings=4096)
    texts = tuple(f"Parcel {n} takes {n} days." for n in range(30))
    task = replace(shop.task, parent=roomy, material=Material((), (), texts))
    mine = replace(shop, folder=tmp_path / "plan", task=task, users=1)
    assert mine.measure(UNCOMPRESSED, 0, 0.0).first_ms > 0
    assert mine.measure(Candidate(layers=1), 1, 0.001).result


def test_another_model_or_other_questions_are_measured_in_a_folder_of_their_own(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path] = []
    made: list[Fake] = []

    def fake(folder: Path, **_: Any) -> Fake:
        places.append(folder)
        made.append(Fake(Clock(), 0.0))
        return made[-1]

    monkeypatch.setattr(workshop, "Workshop", fake)
    model, texts = tmp_path / "bot", tmp_path / "faq.txt"
    shutil.copytree(tiny, model)
    texts.write_text("We open at 9.")
    asked = [str(model), "--out", str(tmp_path / "plan"), "--calibration", str(texts)]

    def planned_again() -> tuple[Path, bool]:
        done = CliRunner().invoke(plan_command.plan, asked)
        assert done.exception is None, done.output
        return places[-1], bool(made[-1].seen)

    first, measured = planned_again()
    assert measured
    assert planned_again() == (first, False)
    texts.write_text("We open at 10.")
    edited, measured = planned_again()
    assert measured
    kept = load_file(model / "model.safetensors")
    more = {name: weight + 1 for name, weight in kept.items()}
    save_file(more, model / "model.safetensors", {"format": "pt"})
    retrained, measured = planned_again()
    assert measured
    assert len({first, edited, retrained}) == 3


def test_threads_share_an_export(shop: Workshop) -> None:
    assert shop.generator(Candidate(threads=1)) == shop.generator(Candidate())
    assert shop.generator(Candidate(block_size=128)) != shop.generator(Candidate())


def test_the_command_plans_and_says_what_it_wrote(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Fake] = []

    def fake(**settings: Any) -> Any:
        made.append(Fake(Clock(), 0.0))
        return made[-1]

    monkeypatch.setattr(workshop, "Workshop", fake)
    out = tmp_path / "plan"
    asked = [str(tiny), "--out", str(out), "--max-mb", "90"]
    done = CliRunner().invoke(plan_command.plan, [*asked, "--json"])
    assert done.exception is None, done.output
    data = json.loads(done.stdout)
    assert data["pick"]
    assert data["command"].startswith(f"featherdesk plan {tiny} --max-mb 90.0")
    assert (out / "plan.toml").exists()
    assert "of the time: fp32" in done.stderr
    before = len((out / "journal.jsonl").read_text().splitlines())
    text = CliRunner().invoke(plan_command.plan, asked)
    assert f"recipe: {out}/plan.toml" in text.stdout
    assert made[1].seen == []
    assert len((out / "journal.jsonl").read_text().splitlines()) == before


def test_a_plan_that_failed_at_its_start_may_be_run_again(tmp_path: Path) -> None:
    model, out = make_llama(tmp_path / "model", 0), tmp_path / "plan"
    asked = [str(model), "--out", str(out), "--max-mb", "90"]
    for _ in range(2):  # the second time it is a folder of ours
        done = CliRunner().invoke(
            plan_command.plan, [*asked, "--calibration", str(tmp_path / "misspelt.txt")]
        )
        assert "misspelt.txt" in str(done.exception)


def test_the_command_measures_for_real_in_the_seconds_it_is_given(
    talkative: Path, tmp_path: Path
) -> None:
    """Which candidates there is time for is the machine's to say; the whole model always is one."""
    material = task_of(talkative, tmp_path).material
    save([*material.rows, *material.held], tmp_path / "rows.jsonl")
    out = tmp_path / "plan"
    asked = [str(talkative), "--out", str(out), "--minutes", "0.1", "--json"]
    asked += ["--calibration", str(tmp_path / "rows.jsonl")]
    done = CliRunner().invoke(plan_command.plan, asked)
    assert done.exception is None or "no candidate" in str(done.exception), done.output
    data = json.loads((out / "plan.json").read_text())
    wanted = candidates(2, 320, available_cores())
    tried = {one["name"] for one in data["trials"]}
    assert UNCOMPRESSED.key in tried
    assert len(tried) + len(data["skipped"]) >= len(wanted)
    assert all("no time" in one["reason"] for one in data["skipped"])
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    whole = lines[0]
    assert whole["candidate"]["precision"] == "fp32"
    generator = next((out / whole["identity"] / "generators").iterdir())
    assert (generator / "model.onnx").exists()
    assert whole["size_mb"] == pytest.approx(0.5, abs=0.4)
    for name in ("first_ms", "rate", "peak_mb", "surprise", "seconds"):
        assert whole[name] > 0, name
    again = CliRunner().invoke(plan_command.plan, asked)  # with what is left of its time
    assert again.exception is None or "no candidate" in str(again.exception), again.output
    told_again = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert told_again[: len(lines)] == lines


def test_the_command_fails_when_nothing_fits(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "Workshop", lambda **_: Fake(Clock(), 0.0))
    done = CliRunner().invoke(
        plan_command.plan, [str(tiny), "--out", str(tmp_path / "plan"), "--max-ms", "1"]
    )
    assert isinstance(done.exception, FeatherdeskError)
    assert "no candidate has its first token within 1 ms" in str(done.exception)
    assert (tmp_path / "plan" / "plan.json").exists()


def test_told_is_json_ready() -> None:
    found, _ = planned(Budget(max_mb=60))
    assert json.loads(json.dumps(told(found)))["pick"] == found.pick.candidate.key  # type: ignore[union-attr]
