"""Which combinations a sweep runs, and what makes two of them the same."""

import math

import pytest

from cgcnn.labels import DataError
from cgcnn.sweep.combination import Settler, data_digest
from cgcnn.sweep.entry import Entry
from cgcnn.sweep.flags import parse_sweep
from cgcnn.sweep.plan import Listed, Suggested, make_plan


@pytest.fixture
def folder(data_folder):
    return data_folder()


def plan_of(*words: object) -> Listed | Suggested:
    flags = parse_sweep([str(word) for word in words])
    return make_plan(flags, Settler(flags))


def complete(plan: Listed | Suggested, score) -> list[Entry]:
    """Run the plan to its end with a function in the place of training."""
    entries: list[Entry] = []
    while missing := plan.missing(entries):
        entries += [Entry(one, "complete", score(one.values)) for one in missing]
    return entries


def test_a_grid_is_every_combination_the_last_axis_fastest(folder):
    plan = plan_of(folder, "--grid", "pooling=mean,attention", "lr=0.1,0.2,0.3")
    values = [one.values for one in plan.missing([])]
    assert len(values) == 6 == plan.total([])
    assert values[:2] == [{"pooling": "mean", "lr": 0.1}, {"pooling": "mean", "lr": 0.2}]
    assert len({one.key for one in plan.missing([])}) == 6


def test_what_is_in_the_queue_is_not_missing(folder):
    before = plan_of(folder, "--grid", "lr=0.1,0.2").missing([])
    plan = plan_of(folder, "--grid", "lr=0.2,0.3")
    entries = [Entry(one, "waiting") for one in before]
    assert [one.values for one in plan.missing(entries)] == [{"lr": 0.3}]
    assert plan.total(entries) == 3


def test_the_key_is_that_of_the_settings_however_they_are_given(folder):
    def key(*words: object) -> str:
        return plan_of(folder, *words).combinations[0].key

    one = key("--grid", "lr=0.02", "pooling=attention")
    assert one == key("--grid", "pooling=attention", "--lr", 0.02)
    assert one == key("--grid", "pooling=attention", "n-conv=3", "--lr", 0.02, "--threads", 2, "--workers", 1)
    assert one != key("--grid", "lr=0.02", "pooling=mean")
    assert one != key("--grid", "lr=0.02", "pooling=attention", "--epochs", 3)


def test_combinations_that_differ_in_nothing_that_counts_are_noticed(folder):
    def repeats(*words: str) -> int:
        flags = parse_sweep([str(folder), "--grid", *words])
        settle = Settler(flags)
        assert len(make_plan(flags, settle).combinations) == math.prod(word.count(",") + 1 for word in words)
        return settle.num_repeats

    assert repeats("conditional-loss=on,off", "sc-metal-ratio=1.0,1.1,1.2", "lr=0.1,0.2") == 4
    assert repeats("conditional-loss=on", "sc-metal-ratio=1.0,1.1") == 0
    assert repeats("aux-task1-weight=0.1,0.2", "auxiliary-tasks=off,on") == 1


def test_flags_that_mean_nothing_beside_others_make_no_further_combination(folder):
    words = ["model=cgcnn,csgann", "edge-features=gaussian,rbf", "num-rbf=6,10", "residual=on,off", "num-heads=2,4"]
    flags = parse_sweep([str(folder), "--grid", *words])
    settle = Settler(flags)
    found = make_plan(flags, settle).combinations
    assert len(found) == 3 * (1 + 2 * 2) and settle.num_same == 32 - 15
    assert str(found[0]) == "model=cgcnn edge-features=gaussian"
    assert {"num-rbf", "residual", "num-heads"} == set(found[0].idle) and found[-1].idle == []
    assert flags.command(found[0].values) == [str(folder), "--model=cgcnn", "--edge-features=gaussian"]


def test_a_split_file_counts_by_its_content(folder, tmp_path):
    def key(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return plan_of(folder, "--grid", "lr=0.1", "--split-file", tmp_path / name).combinations[0].key

    assert key("a.csv", "one") == key("b.csv", "one") != key("c.csv", "two")


def test_settings_are_the_columns_of_the_published_summary(folder):
    (one,) = plan_of(folder).missing([])
    assert one.settings["Scheduler"] == "step" and one.settings["Pooling"] == "attention"
    assert one.settings["SC-Metal Ratio"] == pytest.approx(1.1)
    assert one.settings["SC Weight"] == pytest.approx(2.2 / 2.1)
    assert one.settings["Learning Rate"] == 0.011 and one.settings["Epochs"] == 80
    (one,) = plan_of(folder, "--grid", "metal-weight=0").missing([])
    assert one.settings["SC-Metal Ratio"] == math.inf


def test_random_combinations_are_the_same_for_every_worker_and_differ_from_each_other(folder):
    words = ["--grid", "lr=0.001..0.1:log", "n-conv=2..5", "pooling=mean,attention", "--sampler", "random"]
    plan = plan_of(folder, *words, "--trials", 8)
    drawn = plan.missing([])
    assert len({one.key for one in drawn}) == 8
    assert drawn == plan_of(folder, *words, "--trials", 8).missing([])
    assert drawn == plan_of(folder, *words, "--trials", 12).missing([])[:8]
    assert all(0.001 <= one.values["lr"] <= 0.1 and one.values["n-conv"] in (2, 3, 4, 5) for one in drawn)
    assert all(one.values["lr"] == float(f"{one.values['lr']:.4g}") for one in drawn)
    assert drawn != plan_of(folder, *words, "--trials", 8, "--seed", 7).missing([])


def test_random_ends_where_the_space_does(folder):
    plan = plan_of(folder, "--grid", "lr=0.1,0.2,0.3", "--sampler", "random", "--trials", 9)
    assert sorted(one.values["lr"] for one in plan.missing([])) == [0.1, 0.2, 0.3]


def test_tpe_comes_closer_to_the_minimum_than_chance(folder):
    words = ["--grid", "lr=0.0001..1:log", "momentum=0..1", "--trials", 30]

    def distance(values: dict) -> float:
        return abs(math.log10(values["lr"]) + 2) + abs(values["momentum"] - 0.3)

    ends = {}
    for sampler in ("random", "tpe"):
        entries = complete(plan_of(folder, *words, "--sampler", sampler), distance)
        assert len(entries) == 30
        ends[sampler] = sorted(entry.score for entry in entries)[4]
    assert ends["tpe"] < ends["random"]


def test_tpe_suggests_nothing_twice_and_ends_where_the_space_does(folder):
    plan = plan_of(folder, "--grid", "lr=0.1,0.2", "pooling=mean,attention", "--sampler", "tpe", "--trials", 9)
    entries = complete(plan, lambda values: values["lr"])
    assert len(entries) == len({entry.combination.key for entry in entries}) == 4


def test_tpe_waits_while_a_suggestion_waits_and_learns_from_what_runs_and_fits(folder):
    plan = plan_of(folder, "--grid", "lr=0.1..0.2", "--sampler", "tpe", "--trials", 3)
    (one,) = plan.missing([])
    assert plan.missing([Entry(one, "waiting")]) == []
    (elsewhere,) = plan_of(folder, "--grid", "lr=0.5").missing([])
    (other,) = plan.missing([Entry(one, "running"), Entry(elsewhere, "complete", 1.0)])
    assert 0.1 <= other.values["lr"] <= 0.2 and other.key != one.key
    assert plan.total([Entry(one, "running")]) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grid", "swa=1,100"], "swa=100: --swa 100 must be less than --epochs 80"),
        (["--grid", "lr=0.1..0.2"], "a range needs --sampler random or tpe"),
        (["--grid", "lr=0.1", "--sampler", "tpe"], "needs --trials"),
        (["--grid", "lr=0.1", "--trials", "3"], "--trials is for --sampler random or tpe"),
        (["--grid", "lr=0.1", "--lr", "0.2"], "--lr is a flag and an axis"),
        (["--grid", "sc-metal-ratio=1", "--metal-weight", "1"], "--metal-weight is a flag and an axis"),
        (["--grid", "lr=0.1", "--resume", "x"], "--resume: a sweep goes on when the same command"),
        (
            ["--grid", "lr=0.1", "--transfer-study", "b1", "b0"],
            "--transfer-study: is several runs, and a trial is one",
        ),
        (["--grid", "transfer-study=b1 b0"], "cannot be an axis of a sweep"),
        (["--grid", "lr=0.1", "--epochs", "x"], "'x' is not a whole number"),
        (["--grid", "lr=0.1", "--study", "a/b"], "letters, digits and"),
        (["--jobs", "0"], "0 is not 1 or more"),
    ],
)
def test_what_cannot_be_a_sweep_is_one_line(folder, words, said):
    with pytest.raises(DataError) as caught:
        plan_of(folder, *words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["learning_curve = [0.5, 1]", "transfer_study = ['b1', 'b0']"])
def test_what_a_trial_cannot_be_is_refused_in_a_configuration_file_too(folder, tmp_path, name):
    path = tmp_path / "c.toml"
    path.write_text(name)
    with pytest.raises(DataError, match="is several runs, and a trial is one"):
        plan_of(folder, "--grid", "lr=0.1", "--config", path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        parse_sweep([str(tmp_path / "nowhere")])


def test_flags_of_a_preset_or_a_configuration_stand_before_the_published_sweep(folder, tmp_path):
    names = [axis.name for axis in parse_sweep([str(folder), "--preset", "accurate"]).axes]
    assert "lr" not in names and "scheduler" not in names and "pooling" in names
    (tmp_path / "run.toml").write_text("lr = 0.5\n")
    names = [axis.name for axis in parse_sweep([str(folder), "--config", str(tmp_path / "run.toml")]).axes]
    assert "lr" not in names and "pooling" in names


def test_a_sweep_shares_the_cores_among_its_jobs(folder, monkeypatch):
    monkeypatch.setattr("cgcnn.sweep.flags._cores", lambda: 8)
    assert parse_sweep([str(folder), "--jobs", "3"]).threads == 2
    assert parse_sweep([str(folder), "--jobs", "16"]).threads == 1
    assert parse_sweep([str(folder), "--jobs", "3", "--threads", "5"]).threads == 5


def test_the_digest_of_a_folder_is_of_its_tables_and_structures(data_folder):
    one = data_digest(data_folder(count=3, name="a"))
    assert one == data_digest(data_folder(count=3, name="b"))
    folder = data_folder(count=3, name="c")
    (folder / "all.csv").write_text("cif_id,category\nc000,1\n")
    assert one != data_digest(folder)
    folder = data_folder(count=3, name="d")
    (folder / "c002.cif").unlink()
    assert one != data_digest(folder)
    folder = data_folder(count=3, name="e")
    (folder / "notes.txt").write_text("nothing")
    assert one == data_digest(folder)
