from dataclasses import make_dataclass, replace
from pathlib import Path

import pytest
from featherdesk.agent import plugins as registry
from featherdesk.agent.errors import ConfigError
from featherdesk.compress import recipe as module
from featherdesk.compress.recipe import Recipe, load_recipe

EXPORT = '[[steps]]\nuse = "export"\n'
HEAL = '[[steps]]\nuse = "heal"\n'


@pytest.fixture(autouse=True)
def _export(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps that are registered, and an export whatever is."""
    known = registry.plugins()
    made = make_dataclass("Export", [], frozen=True, namespace={"kind": "export"})
    own = registry.Plugin("featherdesk.steps", "export", "other", "other:Export")
    found = [p for p in known if (p.group, p.name) != ("featherdesk.steps", "export")]
    monkeypatch.setattr(module, "plugins", lambda: [*found, own])
    keep = registry.load
    monkeypatch.setattr(
        module, "load", lambda group, name: made if name == "export" else keep(group, name)
    )


def _load(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(str(path))


def test_a_recipe_is_its_steps_in_order(tmp_path: Path) -> None:
    told = _load(
        tmp_path,
        'name = "mine"\nabout = "small"\n'
        '[[steps]]\nuse = "vocabulary"\nsize = 9000\n'
        '[[steps]]\nuse = "layers"\nwhich = [1, 2]\n'
        '[[steps]]\nuse = "heads"\nkeep = 2\n'
        '[[steps]]\nuse = "channels"\nkeep = 1024\n'
        '[[steps]]\nuse = "sparsity"\npattern = "2:4"\n'
        '[[steps]]\nuse = "sharing"\ngroups = 2\n'
        '[[steps]]\nuse = "heal"\ntokens = 1000\nlearning_rate = 1e-4\n' + EXPORT,
    )
    assert (told.name, told.about) == ("mine", "small")
    names = ["vocabulary", "layers", "heads", "channels", "sparsity", "sharing", "heal", "export"]
    assert [name for name, _ in told.steps] == names
    steps: dict[str, object] = dict(told.steps)
    assert steps["layers"].which == (1, 2)  # type: ignore[attr-defined]
    assert steps["heal"].tokens == 1000  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[steps]]\nuse = "layer"\n',
            r"own\.toml: step 1: no step 'layer'; did you mean 'layers'",
        ),
        (
            '[[steps]]\nuse = "heads"\nkep = 1\n',
            r"step 1 \(heads\): unknown key 'kep'; did you mean 'keep'",
        ),
        ('[[steps]]\nuse = "heads"\n', r"step 1 \(heads\): a setting is missing.*keep"),
        ('[[steps]]\nuse = "heads"\nkeep = "two"\n', "keep must be int, not str"),
        ('[[steps]]\nuse = "heads"\nkeep = true\n', "keep must be int, not bool"),
        ('[[steps]]\nuse = "heads"\nkeep = 0\n', r"step 1 \(heads\): keep must be at least 1"),
        ('[[steps]]\nuse = "layers"\nby = 3\n', "by must be str, not int"),
        ('[[steps]]\nuse = "layers"\nremove = 0\n', "remove must be at least 1"),
        ('[[steps]]\nuse = "layers"\nwhich = 3\n', "which must be a list, not int"),
        ('[[steps]]\nuse = "layers"\nwhich = ["3"]\n', "which, item 1 must be int, not str"),
        ('[[steps]]\nuse = "layers"\nwhich = [1, 1.5]\n', "which, item 2 must be int, not float"),
        ('[[steps]]\nuse = "layers"\nwhich = [true]\n', "which, item 1 must be int, not bool"),
        ("[[steps]]\nkeep = 1\n", "needs `use"),
        ("steps = 3\n", r"has no \[\[steps\]\]"),
        ("", r"has no \[\[steps\]\]"),
        ("stepps = 1\n", "unknown key 'stepps'; did you mean 'steps'"),
        ("name = \n", "not TOML"),
        (EXPORT + "[gate]\nlos = 3\n", r"\[gate\]: unknown key 'los'; did you mean 'loss'"),
    ],
)
def test_what_cannot_be_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _load(tmp_path, text)


@pytest.mark.parametrize(
    "text", [HEAL, EXPORT + HEAL, EXPORT + EXPORT, HEAL + EXPORT + HEAL + EXPORT]
)
def test_the_export_comes_last_and_once(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="the last step, and only the last, must be an export"):
        _load(tmp_path, text)


@pytest.mark.parametrize(
    "cut",
    [
        'use = "vocabulary"',
        'use = "layers"',
        'use = "heads"\nkeep = 1',
        'use = "channels"\nkeep = 64',
        'use = "sparsity"',
        'use = "sharing"',
    ],
)
def test_pruning_without_healing_behind_it_is_refused(tmp_path: Path, cut: str) -> None:
    step = f"[[steps]]\n{cut}\n"
    assert len(_load(tmp_path, step + HEAL + EXPORT).steps) == 3
    for text in (step + EXPORT, HEAL + step + EXPORT, step + HEAL + step + EXPORT):
        with pytest.raises(ConfigError, match="prunes and nothing heals behind it"):
            _load(tmp_path, text)


def test_healing_learns_the_rounding_of_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load", registry.load)
    healed = '[[steps]]\nuse = "heal"\nbits = {bits}\nblock_size = {block}\n'
    export = EXPORT + 'precision = "{kind}"\n'
    wrong = healed.format(bits=4, block=64) + export.format(kind="int4")
    with pytest.raises(ConfigError, match=r"step 1 \(heal\).*blocks of 64.*rounds in blocks of 32"):
        _load(tmp_path, wrong)
    assert _load(tmp_path, wrong + "block_size = 64\n").steps
    for bits, kind in ((0, "int4"), (4, "int8")):
        told = healed.format(bits=bits, block=64) + export.format(kind=kind)
        assert _load(tmp_path, told).steps


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe 'nothing': neither a file nor one of"):
        load_recipe("nothing")


def test_wider_margins_are_seen(tmp_path: Path) -> None:
    assert not _load(tmp_path, EXPORT).margins.wider
    told = _load(tmp_path, EXPORT + "[gate]\nloss = 3\n").margins
    assert told.wider
    assert told.loss == 3.0


@pytest.mark.parametrize("name", ["loss", "estimate", "fallback"])
def test_narrower_margins_are_not_wider(tmp_path: Path, name: str) -> None:
    assert not _load(tmp_path, EXPORT + f"[gate]\n{name} = 0.5\n").margins.wider
    mixed = _load(tmp_path, EXPORT + f"[gate]\n{name} = 0.5\n").margins
    other = {"loss", "estimate", "fallback"} - {name}
    assert replace(mixed, **dict.fromkeys(other, 5.0)).wider
