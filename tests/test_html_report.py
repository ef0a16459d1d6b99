"""The page of a run: its numbers are those of the tables, it needs nothing from outside, and never costs a run."""

import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from helpers import copy_folder, read_rows, result_file, root_folder, train, write_rows

from cgcnn import task_sections
from cgcnn.arguments import parse_training

FLAGS = ("--threads", 1, "--epochs", 3, "--batch-size", 8, "--atom-fea-len", 8, "--h-fea-len", 8, "--n-conv", 1)
VOID = {"meta", "br", "link", "img", "input", "hr", "path", "use", "rect"}


class Page(HTMLParser):
    """A page's tables by id, headings, links, figures and text; `tags` that are not closed in their order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.source = path, path.read_text(encoding="utf-8")
        self.tables: dict[str, list[list[str]]] = {}
        self.ids, self.links, self.open, self.tags = [], [], [], []
        self.labels, self.headings = [], []
        self.text, self._table, self._cell = "", None, None
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "svg":
            self.labels.append(given["aria-label"])
        if tag == "table":
            self._table = self.tables.setdefault(given.get("id") or given.get("class") or "", [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")
        if tag in ("h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}>"

    def handle_data(self, data):
        self.text += data
        if "td" in self.open or "th" in self.open:
            self._table[-1][-1] += data
        if "h2" in self.open or "h3" in self.open:
            self.headings[-1] += data


def page(out: Path) -> Page:
    return Page(result_file(out, "report.html"))


def shown(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.4f}".replace("-", "−")


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    """One split, two targets, no category."""
    folder = tmp_path_factory.mktemp("single")
    train(root_folder(folder / "data"), folder, "--val-size", 3, "--test-size", 8, *FLAGS)
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """Three splits of two networks that stop by themselves, with a category and auxiliary tasks."""
    folder = tmp_path_factory.mktemp("several")
    more = ("--num-splits", 3, "--ensemble", 2, "--patience", 1, "--conditional-loss", "--auxiliary-tasks")
    train(root_folder(folder / "data"), folder, "--val-size", 3, "--test-size", 5, *FLAGS, *more)
    return folder


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory) -> Path:
    """A class without a name, and nothing else."""
    folder = tmp_path_factory.mktemp("unnamed")
    data = copy_folder("data/sample-classification", folder / "data")
    train(data, folder, "--task", "classification", "--val-size", 4, "--test-size", 8, *FLAGS)
    return folder


def test_the_result_is_that_of_metrics_csv(single):
    metrics = pd.read_csv(result_file(single, "metrics.csv")).iloc[0]
    rows = {row[0].split()[0]: row[1:] for row in page(single).tables["regressions"][1:]}
    assert set(rows) == {"work_function", "band_gap"}
    for name, short in (("work_function", "WorkFunc"), ("band_gap", "BandGap")):
        count, mae, _, r2, _, _, validation = rows[name]
        assert (mae, r2) == (shown(metrics[f"{short}_MAE"]), shown(metrics[f"{short}_R^2"]))
        assert validation == shown(metrics[f"Val_{short}_MAE"])
        table = pd.read_csv(single / "test_results.csv")
        assert int(count) == table[f"{name}_target"].notna().sum()


def test_the_baseline_is_the_mean_of_the_training_part(single):
    labels = pd.read_csv(single / "data" / "id_prop.csv", index_col=0)["band_gap"]
    parts = pd.read_csv(result_file(single, "split1_ids.csv"), index_col=0)["split"]
    error = (labels[parts == "test"] - labels[parts == "train"].mean()).abs().mean()
    (row,) = [row for row in page(single).tables["regressions"] if row[0].startswith("band_gap")]
    kept = pd.read_csv(result_file(single, "baselines.csv"), index_col="task")
    assert row[5:7] == [shown(error), shown(kept.composition["band_gap"])]


def test_several_splits_are_a_mean_and_a_deviation(several):
    metrics = pd.read_csv(result_file(several, "metrics.csv"))
    tables = page(several).tables

    def spread(column: str) -> str:
        known = metrics[column].dropna()
        return f"{shown(known.mean())} ± {shown(known.std(ddof=0))}" if len(known) > 1 else shown(known.mean())

    (row,) = [row for row in tables["classes"] if row[0] == "material_type"]
    assert row[2:5] == [spread(f"MaterialType_{name}") for name in ("ACC", "F1", "AUC")]
    (row,) = [row for row in tables["regressions"] if row[0].startswith("band_gap")]
    assert (row[2], row[4]) == (spread("BandGap_MAE"), spread("BandGap_R^2"))
    columns = [column for column in metrics if not column.startswith("Val_")]
    each = [[str(int(line[0])), *map(shown, line[1:])] for line in metrics[columns].itertuples(index=False)]
    assert tables["splits"][1:] == each


def test_a_class_without_a_name(unnamed):
    metrics = pd.read_csv(result_file(unnamed, "metrics.csv")).iloc[0]
    found = page(unnamed)
    assert "regressions" not in found.tables
    assert found.tables["classes"][1][0] == "target"
    assert found.tables["classes"][1][2] == shown(metrics["target_ACC"])
    assert any("confusion matrix" in label for label in found.labels)


@pytest.mark.parametrize("run", ["single", "several", "unnamed"])
def test_the_page_is_whole_and_needs_nothing_from_outside(run, request):
    found = page(request.getfixturevalue(run))
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert all(link[1:] in found.ids for link in found.links if link.startswith("#"))
    assert not {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "embed"}
    loaded = [given[name] for _, given in found.tags for name in ("src", "href", "xlink:href") if name in given]
    assert not [address for address in loaded if ":" in address and not address.startswith("data:")]
    assert "@import" not in found.source and not re.search(r"url\((?!#)", found.source)
    assert len(found.source) < 1_000_000


def test_averaged_weights_stand_beside_those_of_one_epoch(single, tmp_path):
    train(root_folder(tmp_path / "data"), tmp_path, "--val-size", 3, "--test-size", 8, *FLAGS, "--swa", 1)
    found, both = page(tmp_path).tables["averaged"], pd.read_csv(result_file(tmp_path, "swa.csv"))
    assert [row[0] for row in found[1:]] == both.network.tolist()
    assert found[0][-1] == "validation score"
    assert [row[-1] for row in found[1:]] == [shown(value) for value in both.Val_Score]
    assert "averaged" not in page(single).tables


def test_every_figure_is_there(single, several):
    labels = page(single).labels
    for task in ("work function (eV)", "band gap (eV)"):
        assert {f"{task}: predicted over target", f"{task}: error over target"} <= set(labels)
        assert f"validation MAE, {task} over the epochs" in labels
    assert {"training loss over the epochs", "validation score over the epochs"} <= set(labels)
    assert "learning rate over the epochs" in labels
    assert "band gap (eV): confusion matrix" in labels  # by the gap, for want of a category
    labels = page(several).labels
    assert "material type: confusion matrix" in labels and "band gap (eV): confusion matrix" not in labels


def test_every_network_of_every_split_has_a_curve(several, monkeypatch):
    drawn = {}
    monkeypatch.setattr(task_sections.plots, "curves", lambda ax, lines, ylabel, log: drawn.update({ylabel: lines}))
    out = several / "again"
    more = ("--num-splits", 3, "--ensemble", 2, "--patience", 1, "--conditional-loss", "--auxiliary-tasks")
    train(several / "data", out, "--val-size", 3, "--test-size", 5, *FLAGS, *more)
    history = [len(pd.read_csv(p)) for p in sorted((out / "result").glob("*_history.csv"))]
    for lines in drawn.values():
        assert [line.group for line in lines] == [f"split {k}" for k in (1, 1, 2, 2, 3, 3)]
        lengths = [len(line.values) for line in lines]
        assert [lengths[k] + lengths[k + 1] for k in (0, 2, 4)] == history
    for line in drawn["validation score"]:
        assert line.best == line.values.argmin()


def test_the_worst_predictions_come_first(single):
    table = pd.read_csv(single / "test_results.csv").dropna(subset="band_gap_target")
    table["error"] = table["band_gap_pred"] - table["band_gap_target"]
    table = table.reindex(table["error"].abs().sort_values(ascending=False).index)
    rows = page(single).tables["worst errors"]
    starts = [k for k, row in enumerate(rows) if row[0] == "crystal"]
    rows = rows[starts[1] + 1 :]  # below the second header: the gap's
    assert [row[0] for row in rows] == list(table["cif_id"])[:20]
    assert rows[0][2:] == [
        shown(table["band_gap_target"].iloc[0]),
        shown(table["band_gap_pred"].iloc[0]),
        ("+" if table["error"].iloc[0] > 0 else "") + shown(table["error"].iloc[0]),
    ]
    assert all(row[1] for row in rows)


def test_the_periodic_table_has_all_elements_for_each_task(single):
    found = page(single)
    cells = [given for tag, given in found.tags if tag == "div" and "element" in (given.get("class") or "").split()]
    assert len(cells) == 2 * 118
    present = [given for given in cells if "background" in given["style"]]
    assert 0 < len(present) < len(cells)
    assert re.search(r"\w+: \d\S* eV, \d+ crystals?", found.text)


def test_settings_that_differ_stand_first(single):
    found = page(single)
    (key,) = [key for key, rows in found.tables.items() if rows[0] == ["flag", "this run", "default"]]
    changed = {row[0]: row[1:] for row in found.tables[key][1:]}
    assert changed["--epochs"] == ["3", "80"] and changed["--test-size"] == ["8", "–"]
    assert "--lr" not in changed
    assert "--lr\n" not in changed and "--T-max" in found.text


@pytest.mark.parametrize("run", ["single", "several", "unnamed"])
def test_the_printed_commands_repeat_the_run(run, request):
    out = request.getfixturevalue(run)
    commands = re.findall(r"<pre>(.*?)</pre>", result_file(out, "report.html").read_text())
    config, flags = (shlex.split(command.replace("&#39;", "'")) for command in commands)
    assert config[:3] == flags[:3] == ["python", "main.py", str(out / "data")]
    repeated, again = vars(parse_training(flags[2:])), vars(parse_training(config[2:]))
    assert "--epochs=3" in flags
    assert repeated == {**again, "config": None}


def test_the_printed_command_says_what_the_network_would_change(tmp_path):
    """A flag at main.py's default is printed where the network has another; the page works without validation."""
    data = copy_folder("root_dir", tmp_path / "data", take=slice(2, 82, 8))
    words = ("--model", "ecnet", "--lr", 0.01, "--epochs", 2, "--cutoff", 5, "--hidden-channels", 8)
    train(data, tmp_path, *words, "--no-is-validate", "--test-size", 3)
    _, flags = re.findall(r"<pre>(.*?)</pre>", result_file(tmp_path, "report.html").read_text())
    again = parse_training(shlex.split(flags.replace("&#39;", "'"))[2:])
    assert (again.lr, again.batch_size, again.is_validate) == (0.01, 128, False)
    assert "0 validation, 3 test" in page(tmp_path).text


def test_the_files_that_it_names_are_there(several):
    report = result_file(several, "report.html")
    links = [unquote(link) for link in page(several).links if not link.startswith("#")]
    assert all((report.parent / link).is_file() for link in links)
    assert "../test_results.csv" in links and any(link.startswith("predictions/") for link in links)
    assert sum(link.startswith("log/") for link in links) == 3
    assert sum(link.endswith("_history.csv") for link in links) == 3
    assert not [link for link in links if link.endswith("report.html")]


def test_what_the_run_warned_of_stands_in_the_head(tmp_path):
    data = root_folder(tmp_path / "data")
    (data / "ax.csv").unlink()
    ids = [row[0] for row in read_rows(data / "id_prop.csv")[1:]]
    shutil.copy(data / f"{ids[0]}.cif", data / f"{ids[1]}.cif")
    parts = ["train", "test", "val", *["train"] * (len(ids) - 3)]
    write_rows(tmp_path / "split.csv", [["cif_id", "split"], *zip(ids, parts, strict=True)])
    ran = train(data, tmp_path, "--split-file", tmp_path / "split.csv", "--auxiliary-tasks", *FLAGS)
    found = page(tmp_path)
    assert "near-duplicates of training crystals in the test part: 1" in found.text
    (note,) = [line for line in ran.out.splitlines() if "ax.csv" in line]
    assert note in found.text


def test_names_of_the_user_are_text(tmp_path):
    data = copy_folder("root_dir", tmp_path / "data", take=slice(2, 82, 8))
    rows = read_rows(data / "id_prop.csv")
    write_rows(data / "id_prop.csv", [["cif_id", "a<b>&'$x$", "band_gap"], *rows[1:]])
    train(data, tmp_path, "--val-size", 2, "--test-size", 3, *FLAGS)
    found = page(tmp_path)
    assert "a<b>&'$x$" in found.text
    assert not [tag for tag, _ in found.tags if tag == "b<"] and found.open == []
    assert any(label.startswith("a<b>&'$x$: ") for label in found.labels)


def test_a_page_that_cannot_be_drawn_costs_nothing_else(tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError("no room for a figure")

    monkeypatch.setattr(task_sections, "sections", fail)
    data = root_folder(tmp_path / "data")
    ran = train(data, tmp_path, "--val-size", 3, "--test-size", 3, *FLAGS)
    assert "no report: MemoryError: no room for a figure" in ran.out
    assert result_file(tmp_path, "metrics.csv").exists() and (tmp_path / "test_results.csv").exists()
    assert not list((tmp_path / "result").glob("*report*"))
    monkeypatch.undo()
    assert "no report" not in train(data, tmp_path, "--val-size", 3, "--test-size", 3, *FLAGS).out
    before = result_file(tmp_path, "report.html").read_text()
    train(data, tmp_path, "--val-size", 3, "--test-size", 3, *FLAGS)
    (old,) = (tmp_path / "result" / "previous").rglob("*_report.html")
    assert old.read_text() == before


def test_a_test_part_without_labels_is_told(tmp_path):
    data = root_folder(tmp_path / "data")
    header, *rows = read_rows(data / "id_prop.csv")
    rows = [row for row in rows if row[-1]]
    parts = ["test"] * 2 + ["val"] * 2 + ["train"] * (len(rows) - 4)
    for row in rows[:2]:
        row[1:] = [""] * (len(row) - 1)
    write_rows(data / "id_prop.csv", [header, *rows])
    ids = [row[0] for row in rows]
    write_rows(tmp_path / "split.csv", [["cif_id", "split"], *zip(ids, parts, strict=True)])
    train(data, tmp_path, "--split-file", tmp_path / "split.csv", *FLAGS)
    found = page(tmp_path)
    assert "No crystal of the test part has a label" in found.text
    assert found.tables["regressions"][1][1:4] == ["0", "–", "–"]
    assert found.labels and all("over the epochs" in label for label in found.labels)


CHECK = """<script>
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const cut = [...document.querySelectorAll("svg")].map(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1
      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  }).length;
}).reduce((a, b) => a + b, 0);
const narrow = [...document.querySelectorAll("figure")].filter(f => f.getBoundingClientRect().width < 200).length;
document.title = `wide ${wide} cut ${cut} narrow ${narrow}`;
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1200, 500])
def test_nothing_is_cut_off_in_a_browser(several, tmp_path, width):
    copy = tmp_path / "page.html"
    copy.write_text(result_file(several, "report.html").read_text().replace("</body>", CHECK + "</body>"))
    quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    quiet += ["--disable-sync", "--no-sandbox", f"--user-data-dir={tmp_path / 'user'}"]
    words = ["chromium", "--headless", *quiet]
    words += [f"--window-size={width},900", "--dump-dom", copy.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert re.search("<title>(.*?)</title>", done.stdout)[1] == "wide 0 cut 0 narrow 0"
