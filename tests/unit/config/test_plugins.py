"""A recipe's file names code only of packages somebody allowed; showing one imports nothing."""

import sys

import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import explain_recipe, list_recipes, read_recipe
from labelkit.config.tables import list_plugins, read_tables
from labelkit.errors import InvalidInput
from labelkit.registry import allowing

# What a module of somebody else's does when it is imported, and what it offers.
MODULE = """
from dataclasses import dataclass
from pathlib import Path
(Path(__file__).parent / "was-imported").touch()

@dataclass(frozen=True)
class Change:
    strength: float = 0.5
    def __call__(self, x, rng):
        return x

def choose(labels, probs, *, share: float = 0.5):
    (Path(__file__).parent / "was-called").touch()
    return labels.any(axis=1)
"""

STAGE = "[stages.one]\nepochs = 1\n"
# Every place where a name may stand, and some where it may hide.
NAMED = {
    "a loss": f'{STAGE}loss = "theirs:choose"',
    "of noisy labels": f'{STAGE}noisy_loss = "theirs.deep:choose"',
    "a schedule": f'{STAGE}schedule = "theirs:choose"',
    "an optimizer": f'{STAGE}optimizer = "theirs:choose"',
    "a network": f'{STAGE}[model]\nname = "theirs:choose"',
    "a spectrogram": f'{STAGE}[features]\nkind = "theirs:choose"',
    "a classifier": '[probe]\nclassifier = "theirs:choose"',
    "with options": '[probe]\nclassifier = "theirs:choose"\noptions.args = "touch x"',
    "an embedder": '[probe]\nclassifier = "svm"\n[embedding]\nembedder = "theirs:choose"',
    "of hear": '[probe]\nclassifier = "svm"\n[embedding]\nembedder = "hear:theirs"',
    "a selection": f'{STAGE}[stages.two]\nstart = "one"\n'
    'select = {rule = "theirs:choose", judges = ["one"]}',
    "a removal": f'{STAGE}[stages.two]\nremove = {{rule = "theirs:choose", judges = ["one"]}}',
    "an augmentation": f'{STAGE}augment.mine.kind = "theirs:Change"',
    "by its key": f'{STAGE}[stages.one.augment."theirs:Change"]\nstrength = 0.1',
    "by a key alone": f'{STAGE}[stages.one.augment."theirs:Change"]',
    "by a key like prose": f'{STAGE}augment.notes.kind = "theirs:Change"',
    "within another": f'{STAGE}augment.one_of.of.mine.kind = "theirs:Change"',
    "shared": f'[common]\nloss = "theirs:choose"\n{STAGE}',
    "in a flavour": f"{STAGE}[flavours.as_coded]\n[flavours.as_written.stages.one]\n"
    'loss = "theirs:choose"',
    "in a variant": f'{STAGE}[variants.v.stages.one]\nloss = "theirs:choose"',
    "in its flavour": f"{STAGE}[variants.v.flavours.as_coded]\n"
    '[variants.v.flavours.as_written.stages.one]\nloss = "theirs:choose"',
    "in a list": f'{STAGE}[[stages.one.extra]]\nloss = "theirs:choose"',
    "in words": f'{STAGE}[[stages.one.extra]]\nnames = ["lsoft", "theirs:choose"]',
    "like a file": f'{STAGE}[features]\nkind = "onnx:choose"',
}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("LABELKIT_PLUGINS", raising=False)
    yield tmp_path
    sys.modules.pop("theirs", None)


def was_run(folder):
    return (folder / "was-imported").exists() or (folder / "was-called").exists()


def write(folder, text):
    path = folder / "mail.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
def test_a_file_names_no_code(theirs, text):
    package = "onnx" if "onnx:" in text else "theirs"
    with pytest.raises(InvalidInput, match=f"names code outside labelkit.*plugins {package}"):
        read_recipe(write(theirs, text))
    assert not was_run(theirs)


@pytest.mark.parametrize(
    "verb", ["train", "verify", "features", "score", "embed", "rehearse --kind extra --rate 0.1"]
)
def test_commands_refuse_it_in_one_line(theirs, verb):
    path = write(theirs, NAMED["with options"])
    option = "--probe" if verb in ("score", "embed") else "--recipe"
    done = CliRunner().invoke(cli, [*verb.split(), option, path])
    assert done.exit_code == 2 and done.stdout == "" and not was_run(theirs)
    assert done.stderr.startswith("Error: recipe ") and done.stderr.count("\n") == 1
    assert "probe.classifier" in done.stderr and "--allow-plugins theirs" in done.stderr


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("allowed", [False, True])
def test_showing_imports_nothing(theirs, text, allowed):
    path = write(theirs, text)
    with allowing(["theirs"] if allowed else []):
        done = CliRunner().invoke(cli, ["recipes", "show", path])
        CliRunner().invoke(cli, ["recipes", "show", path, "--all", "--json"])
    assert not was_run(theirs)
    assert done.exit_code in (0, 2) and (done.exit_code == 0 or done.stderr.startswith("Error: "))


def test_showing_says_whose_code_it_is(theirs):
    rows = explain_recipe(write(theirs, NAMED["an augmentation"]))[1]
    [row] = [row for row in rows if row.value == "theirs:Change"]
    assert row.key == "stages.one.augment.mine.kind"
    assert row.note == "code of theirs, which runs in a training"
    rows = explain_recipe(write(theirs, NAMED["a selection"]), ["one.loss=bce"])[1]
    assert {row.note for row in rows if row.key == "stages.two.select.rule"} == {
        "code of theirs, which runs in a training"
    }


def test_showing_does_not_import_what_set_names_either(theirs):
    path = write(theirs, STAGE)
    for setting in ("one.augment.mine.kind=theirs:Change", "loss=theirs:choose"):
        done = CliRunner().invoke(cli, ["recipes", "show", path, "--set", setting])
        assert done.exit_code == 0 and "theirs:" in done.stdout
    assert not was_run(theirs)


def test_an_allowed_package_may_be_named(theirs):
    path = write(theirs, NAMED["an augmentation"])
    with allowing(["theirs"]):
        found = read_recipe(path).stages["one"].augment["mine"]
    assert found == {"kind": "theirs:Change", "strength": 0.5} and was_run(theirs)
    with pytest.raises(InvalidInput):
        read_recipe(path)


@pytest.mark.parametrize("value", ["theirs", "other, theirs", "theirs,other"])
def test_the_environment_may_allow_it(theirs, monkeypatch, value):
    monkeypatch.setenv("LABELKIT_PLUGINS", value)
    assert read_recipe(write(theirs, NAMED["an augmentation"])).stages["one"].augment
    assert was_run(theirs)


@pytest.mark.parametrize("value", ["", ",", "their", "theirs.deep", "theirs_", "*"])
def test_a_name_like_it_allows_nothing(theirs, monkeypatch, value):
    monkeypatch.setenv("LABELKIT_PLUGINS", value)
    with pytest.raises(InvalidInput, match="names code"):
        read_recipe(write(theirs, NAMED["an augmentation"]))
    assert not was_run(theirs)


def test_the_option_allows_it_for_one_command(theirs):
    path = write(theirs, NAMED["a loss"])
    done = CliRunner().invoke(cli, ["train", "--recipe", path, "--allow-plugins", "theirs"])
    # Past the recipe: only the project is missing.
    assert "names code" not in done.stderr and "no labelkit.toml" in done.stderr
    done = CliRunner().invoke(cli, ["train", "--recipe", path])
    assert "names code" in done.stderr


def test_the_command_line_is_the_users_own_word(theirs):
    recipe = read_recipe("quick", ["finetune.loss=theirs:choose"])
    assert recipe.stages["finetune"].loss == "theirs:choose"
    recipe = read_recipe(write(theirs, STAGE), ["one.augment.mine.kind=theirs:Change"])
    assert recipe.stages["one"].augment["mine"]["strength"] == 0.5


def test_recipes_of_ours_name_no_code():
    for name in list_recipes():
        assert list(list_plugins(read_tables(name))) == []


@pytest.mark.parametrize(
    "line",
    ['select = {rule = ["a:b"]}', "augment.m.kind = 5", 'augment.m.kind = ["x:y"]',
     'augment.m.kind = ":x"', 'augment.m.kind = "x:"', 'augment.m.kind = ".a:b"',
     'loss = "\\u0000a:b"', 'loss = ":x"', 'loss = "a b:c"', 'loss = ["a:b"]', "loss = 3",
     'select = {rule = 3, judges = ["one"]}', "augment.m = 3", 'augment = "a:b"',
     'loss = "a:b:c"', 'loss = "::"', 'remove = {rule = [["theirs:f"]], judges = ["one"]}',
     "unknowns = 3", 'notes = {"*" = 4}', 'notes = {"*" = ["a"]}', "about = 3", "unknowns = [3]"],
)  # fmt: skip
def test_odd_names_are_one_line(theirs, line):
    path = write(theirs, f"[stages.one]\nepochs = 1\n{line}\n")
    for read in (read_recipe, explain_recipe):
        try:
            read(path)
        except InvalidInput as error:
            assert "\n" not in str(error) and "--allow-plugins ," not in str(error)
        else:
            assert read is explain_recipe


@pytest.mark.parametrize("embedder", ["onnx:net.onnx", "vectors:mine.npz"])
def test_an_embedder_may_be_a_file(theirs, embedder):
    text = f'[probe]\nclassifier = "svm"\n[embedding]\nembedder = "{embedder}"'
    assert read_recipe(write(theirs, text)).embedding.embedder == embedder


@pytest.mark.parametrize("key", ["about", "notes.loss", "unknowns"])
def test_prose_may_have_colons(theirs, key):
    value = '["one: two"]' if key == "unknowns" else '"one: two:three"'
    recipe = read_recipe(write(theirs, f"{key} = {value}\n{STAGE}"))
    assert list(recipe.stages) == ["one"]


@pytest.mark.parametrize(
    "text",
    ["about = 3", "unknowns = 3", "unknowns = [3]", '[notes]\n"*" = 4', '[notes]\n"*" = ["a"]',
     "[model]\nwidth = inf", f"[model]\nwidth = 1{'0' * 400}", f"a = {'[' * 3000}",
     f"a = {'{a = ' * 900}1{'}' * 900}", f"[{'a.' * 900}a]", f"a = {'[' * 30}1{']' * 30}",
     "[features]\nsample_rate = nan", "[verify]\niterations = 99999999999999999999"],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_odd_shapes_are_one_line(theirs, text):
    path = write(theirs, f"{text}\n{STAGE}" if text.startswith(("about", "unk", "a =")) else
                 f"{STAGE}\n{text}\n")  # fmt: skip
    for read in (read_recipe, explain_recipe):
        with pytest.raises(InvalidInput) as caught:
            read(path)
        assert "\n" not in str(caught.value)
