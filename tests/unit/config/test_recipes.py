"""Recipes as data: flavours, variants, sources, and what is refused."""

import json
import re
from dataclasses import asdict, fields, replace

import pytest
from click.testing import CliRunner

from labelkit.cli import cli
from labelkit.config import (
    FeatureSpec,
    change_verify,
    explain_recipe,
    fingerprint,
    list_flavours,
    list_recipes,
    read_recipe,
    recipe_from_dict,
    round_stages,
    summarise_rows,
)
from labelkit.errors import InvalidInput, UnknownName
from tests.support.paths import ROOT

ALL = [(name, flavour) for name in list_recipes() for flavour in list_flavours(name) or [None]]


def call(*args):
    return CliRunner().invoke(cli, list(map(str, args)))


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("name", "flavour"), ALL)
def test_a_recipe_is_what_its_record_says(name, flavour):
    recipe = read_recipe(name, flavour=flavour)
    plain = json.loads(json.dumps(asdict(recipe)))
    assert recipe_from_dict(plain) == recipe
    assert recipe.name == name and recipe.flavour == flavour


@pytest.mark.parametrize(("name", "flavour"), ALL)
def test_every_setting_has_a_source(name, flavour):
    about, rows, unknowns = explain_recipe(name, flavour=flavour)
    assert about.endswith(".") and all(unknown.endswith(".") for unknown in unknowns)
    assert {row.source for row in rows} <= {"written", "coded", "inferred", "chosen", "default"}
    assert len({row.key for row in rows}) == len(rows)
    if name not in ("quick", "probe", "panel"):
        assert unknowns and any(row.source == "coded" for row in rows)
        own = [row for row in rows if row.source in ("written", "coded", "inferred")]
        assert len(own) > 30


def rows_of(name, flavour, *settings):
    return {row.key: row for row in explain_recipe(name, settings, flavour=flavour)[1]}


@pytest.mark.parametrize(
    ("name", "key", "coded", "written"),
    [
        ("dorfer", "verify.threshold", 0.0, 0.95),
        ("dorfer", "verify.accumulate", False, True),
        ("dorfer/spec1_1", "stages.pretrain.augment.mixup.alpha", 0.2, 0.3),
        ("dorfer/spec1_1", "model.width", 48, 64),
        ("dorfer/spec1_2", "stages.finetune.lr", 1e-4, 2e-4),
        ("dorfer/spec2", "stages.pretrain.batch_size", 50, 100),
        ("argus", "stages.train.augment.mixer.of.mixup.distribution", "uniform", "beta"),
        ("argus", "stages.train.pools.selected_stay_noisy", True, False),
        ("bouteillon", "features.hop_length", 694, 347),
        ("bouteillon", "input.normalise", "clip_8bit", "clip"),
        ("ninth", "inference.windows", "random", "regular"),
        ("ninth", "stages.stage_1.select.per_class", 50, 0),
        ("ninth", "stages.stage_1.weight_decay", 0.01, 0.001),
        ("ninth", "stages.stage_2a.lr", 1e-4, 1e-3),
    ],
)
def test_flavours_differ_where_text_and_code_do(name, key, coded, written):
    as_coded, as_written = rows_of(name, "as_coded")[key], rows_of(name, "as_written")[key]
    assert as_coded.value == coded and as_written.value == written
    assert as_coded.source == "coded" and as_written.source in ("written", "inferred")
    assert as_coded.other == f"as_written: {written}"


def test_as_coded_is_taken_if_nothing_is_said():
    assert read_recipe("dorfer").flavour == "as_coded"
    with pytest.raises(InvalidInput, match="quick has no flavour 'as_written'; write-up and code"):
        read_recipe("quick", flavour="as_written")


def test_published_numbers():
    """Figures of the publications that no flavour changes."""
    argus = read_recipe("argus")
    train = argus.stages["train"]
    assert (train.pools.noisy, train.pools.selected, train.pools.curated) == (0.01, 0.42, 0.57)
    assert train.pools.draws // train.batch_size == 256 and train.lr == 9e-4
    assert train.head_weights == (1.0, 0.4, 0.2, 0.1) and train.beta == 0.7
    assert list(train.augment) == ["random_resized_crop", "spec_augment", "mixer"]
    assert argus.input.channels == 3 and argus.inference.fold_mean == "geometric"
    member = read_recipe("argus/corr_noisy_004").stages["train"].pools
    assert (member.noisy, member.selected, member.curated) == (0.07, 0.33, 0.6)
    old = read_recipe("argus/corrections_003")
    assert old.model.name == "skip_attention_k3" and old.model.dropout == 0.2
    assert old.stages["first"].augment["mixer"]["p"] == 0.66
    assert "random_resized_crop" not in old.stages["first"].augment
    wide = read_recipe("argus/auxiliary_019").stages["first"].augment["random_resized_crop"]
    assert (wide["scale_low"], wide["aspect_low"], wide["aspect_high"]) == (0.75, 1.6, 2.4)
    dorfer = read_recipe("dorfer")
    assert dorfer.stages["pretrain"].epochs == 500 and dorfer.verify.iterations == 10
    assert dorfer.input.frames == 384 and dorfer.input.fill_frames == 3000
    spec2 = read_recipe("dorfer/spec2").features
    assert (spec2.kind, spec2.hop_length, spec2.fmax_hz) == ("log_filter_bank", 128, 14000)
    bouteillon = read_recipe("bouteillon")
    assert list(bouteillon.stages["model_1"].augment) == [
        "zoom", "brightness_contrast", "mixup", "spec_mix",
    ]  # fmt: skip
    assert bouteillon.input.channels == 3 and bouteillon.inference.step == 48
    ninth = read_recipe("ninth")
    assert ninth.stages["stage_1"].augment["spec_augment"]["masks"] == 2
    assert "spec_augment" not in ninth.stages["stage_2a"].augment
    assert ninth.stages["stage_2a"].augment["mixup"]["alpha"] == 0.4
    assert [read_recipe(f"ninth/m{k}").model.name for k in (1, 2, 3)] == [
        "dense_m1", "dense_m2", "dense_m3",
    ]  # fmt: skip


def test_rows_of_stages_that_agree_are_one():
    recipe = read_recipe("ninth")
    rows = explain_recipe("ninth")[1]
    short = {row.key: row for row in summarise_rows(rows, list(recipe.stages))}
    assert short["stages.*.weight_decay"].value == 0.01
    assert short["stages.selector,stage_2a,stage_2b.clips"].value == "curated"
    assert "input.copies" not in short and len(short) < len(rows)


def test_a_changed_value_is_marked():
    row = rows_of("argus", "as_coded", "train.pools.noisy=0.2")["stages.train.pools.noisy"]
    assert row.value == 0.2 and row.source == "set"


@pytest.mark.parametrize(
    ("text", "stage", "value"),
    [
        ("epochs=3", "train", 3),
        ("train.epochs=3", "train", 3),
        ("stages.train.epochs=3", "train", 3),
        ("train.head_weights=1,0.5", "train", (1.0, 0.5)),
    ],
)
def test_set_reaches_stages(text, stage, value):
    changed = read_recipe("argus", [text]).stages
    key = text.split("=")[0].split(".")[-1]
    assert getattr(changed[stage], key) == value
    other = getattr(changed["first"], key)
    assert (other == value) == (text == "epochs=3")


def test_set_reaches_into_augmentations():
    recipe = read_recipe("argus", ["train.augment.mixer.of.mixup.uniform_high=0.25"])
    for stage, value in (("train", 0.25), ("first", 0.5)):
        mixer = recipe.stages[stage].augment["mixer"]
        assert mixer["of"]["mixup"]["uniform_high"] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first.epoch=3", "no setting stages.first.epoch; did you mean 'epochs'"),
        ("features.n_mel=3", "no setting features.n_mel; did you mean 'n_mels'"),
        ("frist.epochs=3", "no stage or table 'frist'; did you mean 'first'"),
        ("train.augment.mixer.of.mixup.alfa=1", "mixer.of.mixup.alfa; did you mean 'alpha'"),
        ("train.augment.mixop.p=1", "no augmentation called 'mixop'; did you mean 'mixup'"),
        ("train.pools.nosy=1", "no setting stages.train.pools.nosy; did you mean 'noisy'"),
        ("train.select.at_lest=1", "no setting stages.train.select.at_lest; did you mean 'at_le"),
        ("train.select.rule=lwrap", "no selection called 'lwrap'; did you mean 'lwlrap'"),
        ("train.select.judges=frist", "stages.train.select.judges: 'frist' is no earlier stage"),
        ("train.start=train", "stages.train.start: 'train' is no earlier stage; known: first"),
        ("train.augment.spec_augment.p=2", "spec_augment.p must be from 0 to 1, got 2"),
        ("train.head_weights=1,x", "stages.train.head_weights must be float, got 'x'"),
        ("train.monitor=acc", "monitor must be one of none, loss"),
        ("epochs", "--set takes key=value, got 'epochs'"),
        ("train..epochs=3", "--set takes key=value"),
    ],
)
def test_wrong_settings_name_the_nearest_right_one(text, message):
    with pytest.raises((InvalidInput, UnknownName), match=re.escape(message)):
        read_recipe("argus", [text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[featurs]\nn_fft = 3", "no recipe table [featurs]; did you mean 'features'"),
        ("[stages.a]\nepochz = 3", "no setting stages.a.epochz; did you mean 'epochs'"),
        ("stages = 3", "recipe: stages must be a table, got 3"),
        ("[stages]\na = 3", "recipe: stages.a must be a table, got 3"),
        ("common = 3", "recipe: common must be a table"),
        ("[stages.a]\naugment = 3", "recipe: stages.a.augment must be a table"),
        ("[stages.a.select]\njudges = ['b']", "stages.a.select.rule is missing; known: clean"),
        ("[stages.a.select]\nrule = 'lwlrap'", "stages.a.select.judges is empty"),
        ("[flavours]\nas_coded = 1", "recipe: flavours.as_coded must be a table"),
        ("[stages.a", "is not valid TOML"),
        ("[stages.'a/b']\nepochs=1", "a stage cannot be called 'a/b'"),
    ],
)
def test_a_faulty_file_is_named(tmp_path, text, message):
    with pytest.raises(InvalidInput, match=re.escape(message)):
        read_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nineth", "no recipe called 'nineth'; did you mean 'ninth'"),
        ("ninth/m9", "no recipe called 'ninth/m9'; did you mean 'ninth/m"),
        ("quick/m1", "no recipe called 'quick/m1'; did you mean 'quick'"),
        ("/no/such.toml", "no recipe file /no/such.toml"),
    ],
)
def test_unknown_recipes(name, message):
    done = call("recipes", "show", name)
    assert done.exit_code == 2 and message in done.stderr and done.stdout == ""


def test_a_file_of_ones_own_with_flavours_and_common(tmp_path):
    path = write(
        tmp_path,
        """
        about = "Mine."
        [common]
        epochs = 7
        augment.mixup.alpha = 0.2
        [stages.one]
        [stages.two]
        start = "one"
        augment = { mixup = false }
        [flavours.as_written.stages.two]
        epochs = 3
        [flavours.as_coded]
        """,
    )
    recipe = read_recipe(path)
    assert [stage.epochs for stage in recipe.stages.values()] == [7, 7]
    assert list(recipe.stages["one"].augment) == ["mixup"] and not recipe.stages["two"].augment
    assert read_recipe(path, flavour="as_written").stages["two"].epochs == 3


def test_the_commands_list_and_show():
    listed = json.loads(call("recipes", "--json").stdout)
    assert [row["recipe"] for row in listed] == list_recipes()
    shown = call("recipes", "show", "bouteillon", "--flavour", "as_written")
    assert shown.exit_code == 0
    assert re.search(
        r"features.hop_length +347 +written +as_coded: 694 +The text says 347", shown.stdout
    )
    assert "unknown: Optimiser" in shown.output
    rows = json.loads(call("recipes", "show", "bouteillon", "--json", "--set", "lr=1e-4").stdout)
    by_key = {row["key"]: row for row in rows}
    assert by_key["stages.model_1.lr"] == {
        "key": "stages.model_1.lr", "value": 1e-4, "source": "set", "other": "", "note": "",
    }  # fmt: skip


SEEDS = (
    [f"A{k}" for k in range(1, 31)]
    + [f"D{k}" for k in range(1, 27)]
    + [f"B{k}" for k in range(1, 15)]
    + [f"T{k}" for k in range(1, 17)]
)


def test_the_page_on_recipes_has_every_item():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| ([ADBT]\d+) \|", page, re.M)
    assert found == SEEDS
    for name in list_recipes():
        assert f"`{name}`" in page, name


def test_what_was_set_is_recorded():
    recipe = read_recipe("ninth", ["epochs=3", "stage_1.lr=1e-4"])
    assert recipe.changes == ("epochs=3", "stage_1.lr=1e-4")
    assert change_verify(read_recipe("quick"), {"windows": 3}).changes == ("verify.windows=3",)
    assert recipe_from_dict(asdict(recipe)) == recipe


@pytest.mark.parametrize("name", ["ninth", "argus/auxiliary_016"])
def test_a_recipe_that_cannot_self_verify_says_so(name):
    with pytest.raises(InvalidInput, match=f"recipe {name} cannot self-verify: that takes one"):
        round_stages(read_recipe(name))


@pytest.mark.parametrize("f", fields(FeatureSpec), ids=lambda f: f.name)
def test_any_audio_parameter_changes_the_features_fingerprint(f):
    value = getattr(FeatureSpec(), f.name)
    others = {"kind": "perceptual_mel", "trim": "sox", "short": "centre"}
    other = others[f.name] if f.name in others else (value or 0) + 1
    changed = replace(FeatureSpec(), **{f.name: other})
    assert fingerprint(changed) != fingerprint(FeatureSpec())
