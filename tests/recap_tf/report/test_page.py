"""The report of a small ranker: what the page says, and that a browser shows it."""

import html.parser
import json
import pathlib
import re
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from recap_tf import evaluate, train
from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.data.record_writer import serialize_examples
from recap_tf.data.schema import Feature, write_schema
from recap_tf.report import page_file
from recap_tf.report.report_writer import ReportWriter
from recap_tf.training import trained

ROWS = 1200
# All that HTML, SVG and matplotlib's formulas could stumble over.
CLICK = 'click <b>&"$x_1$"'
NEVER = "never"
COLUMNS = {
    "rows": ROWS,
    "continuous": [
        {
            **{"name": name, "missing": missing, "zeros": 0, "infinite": 0},
            **{"min": 10.0, "max": 70.0, "mean": 40.0, "std": 9.0},
            **{"log_mean": 3.7, "log_std": 0.2},
        }
        for name, missing in {"age": 300, "height": 0, "weight": 0}.items()
    ],
    "discrete": [{"name": "city", "size": 2, "rare": 0, "missing": 0}],
}
CONFIG = f"""
include "recap_tf/tabular.gin"
recap.ranker.tasks = [{CLICK!r}, {NEVER!r}]
Records.schema = "{{here}}/schema.json"
Records.features = {{"continuous": "continuous", "discrete": "discrete"}}
SmallEmbeddings.columns = "{{here}}/columns.json"
train/Records.files = "{{here}}/train.tfrecord"
validation/Records.files = "{{here}}/validation.tfrecord"
backbone/MLP.layer_sizes = [16]
tower/MLP.layer_sizes = [8, 1]
MLP.dropout = 0.0
LinearRampToConstant.learning_rate = 0.02
LinearRampToConstant.ramp_steps = 1
recap.train.save_dir = "{{here}}/run"
recap.train.steps = 60
recap.train.batch_size = 100
recap.train.log_every = 10
recap.train.evaluate_every = 20
recap.train.early_stopping = None
recap.evaluate.slices = [@Slice()]
Slice.name = "young"
Slice.feature = "continuous"
Slice.in_range = (None, 40.0)
recap.report.curve_examples = 500
"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained ranker: clicks depend on `city` alone, and one task never happens."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(3)
    city = rng.integers(0, 2, (2, ROWS, 1))
    for name, ids in zip(("train", "validation"), city, strict=True):
        values = {
            "continuous": rng.normal(40, 9, (ROWS, 3)),
            "discrete": ids,
            CLICK: (rng.random((ROWS, 1)) < np.where(ids, 0.8, 0.2)).astype(int),
            NEVER: np.zeros((ROWS, 1), int),
        }
        with tf.io.TFRecordWriter(str(folder / f"{name}.tfrecord")) as writer:
            for record in serialize_examples(values):
                writer.write(record)
    features = [Feature("continuous", "float_list", 3)]
    features += [Feature(key, "int64_list", 1) for key in ("discrete", CLICK, NEVER)]
    write_schema(str(folder / "schema.json"), features)
    (folder / "columns.json").write_text(json.dumps(COLUMNS))
    (folder / "ranker.gin").write_text(CONFIG)
    arguments = ["--config", str(folder / "ranker.gin")]
    train.main(arguments)
    return [*arguments, "--checkpoint", str(folder / "run")], folder


@pytest.fixture(scope="module")
def page(run):
    """(HTML, what --json wrote, path of the page)"""
    arguments, folder = run
    out, metrics = folder / "report", folder / "metrics.json"
    evaluate.main([*arguments, "--report", str(out), "--json", str(metrics)])
    path = out / "index.html"
    assert [p.name for p in out.iterdir()] == ["index.html"]
    return path.read_text(), json.loads(metrics.read_text()), path


class _Cells(html.parser.HTMLParser):
    """The attributes of all elements, and the text of all but style sheets."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def cells(self, **wanted) -> list[dict]:
        return [
            found
            for tag, found in self.elements
            if tag == "td"
            and all(found.get(f"data-{k}") == v for k, v in wanted.items())
        ]


@pytest.mark.parametrize("metric", ["auroc", "rce", "ctr", "examples"])
def test_the_page_says_what_the_json_says(page, metric):
    text, written, _ = page
    (cell,) = _Cells(text).cells(
        set="validation", task=CLICK, slice="all", metric=metric
    )
    expected = written["sets"]["validation"][CLICK][metric]
    assert float(cell["data-value"]) == pytest.approx(expected, rel=1e-12)
    if metric == "auroc":
        error = written["standard_errors"]["validation"][CLICK][metric]
        assert float(cell["data-error"]) == pytest.approx(error, rel=1e-12)
        assert f"AUROC {expected:.4f} ± {error:.4f}" in text


def test_slices_have_rows_of_their_own(page):
    text, written, _ = page
    (cell,) = _Cells(text).cells(task=CLICK, slice="young", metric="auroc")
    expected = written["slices"]["validation"]["young"][CLICK]["auroc"]
    assert float(cell["data-value"]) == pytest.approx(expected, rel=1e-12)


def test_a_task_without_positives_has_no_value_and_no_curve(page):
    text, _, _ = page
    (cell,) = _Cells(text).cells(task=NEVER, slice="all", metric="auroc")
    assert "data-value" not in cell
    assert "no value" in text
    assert "No positives of this task here" in text


def test_names_are_escaped_everywhere(page):
    text, _, _ = page
    assert "<b>&" not in text
    assert 'click <b>&"$x_1$"' in "".join(_Cells(text).words)


def test_the_page_needs_nothing_from_outside(page):
    text, _, _ = page
    for tag, attributes in _Cells(text).elements:
        assert tag not in ("script", "link", "img", "iframe", "object")
        for name in ("src", "href", "xlink:href", "data"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    assert "@import" not in text
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)", text))


def test_ids_are_unique(page):
    ids = [a["id"] for _, a in _Cells(page[0]).elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_every_chart_says_in_words_what_it_shows(page):
    text, _, _ = page
    titles = re.findall(r'<svg[^>]* role="img">\s*<title>([^<]+)</title>', text)
    assert len(titles) == text.count("<svg") > 10
    assert any(title.startswith("ROC. ROC curve of click") for title in titles)


def test_importance_finds_the_column_that_matters(page):
    cells = _Cells(page[0])
    (city,) = cells.cells(group="city", task=CLICK)
    (age,) = cells.cells(group="age", task=CLICK)
    auroc = float(cells.cells(task=CLICK, slice="all", metric="auroc")[0]["data-value"])
    assert float(city["data-value"]) == pytest.approx(auroc - 0.5, abs=0.05)
    assert abs(float(age["data-value"])) < 0.02
    (never,) = cells.cells(group="city", task=NEVER)
    assert "data-value" not in never


def test_label_rates_and_missing_shares_are_there(page):
    text, written, _ = page
    (rate,) = [
        found
        for _, found in _Cells(text).elements
        if found.get("data-rate") == CLICK and found["data-set"] == "validation"
    ]
    # Nothing was sampled, so the records' rate is that of the traffic.
    expected = written["sets"]["validation"][CLICK]["ctr"]
    assert float(rate["data-value"]) == pytest.approx(expected)
    assert "missing when converted" in text and ">25.0%<" in text


def test_training_curves_and_settings_are_there(page):
    text, _, _ = page
    assert re.search(r"<title>Loss\. Loss over the steps of training: .* step 60", text)
    assert re.search(r"<title>click [^<]*AUROC of click[^<]* at step 20 ", text)
    assert "<summary><b>Settings of the training</b></summary>" in text
    assert "recap.train.steps = 60" in text


def test_the_sample_of_a_large_set_is_said(page):
    assert "from 500 examples at random of 1,200" in page[0]


def test_a_report_replaces_a_report_and_touches_nothing_else(run, page, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "index.html").write_text(page[0])
    flag = "--set=recap.report.importance_examples=0"
    evaluate.main([*run[0], flag, "--report", str(tmp_path)])
    text = (tmp_path / "index.html").read_text()
    assert "Left out: recap.report.importance_examples = 0." in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.html", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_training_data_that_is_gone_is_left_out_of_the_page(run, tmp_path):
    flags = [
        "--set=recap.report.importance_examples=0",
        f"--set=train/Records.files='{tmp_path}/gone.tfrecord'",
    ]
    evaluate.main([*run[0], *flags, "--report", str(tmp_path)])
    page = _Cells((tmp_path / "index.html").read_text())
    said = "".join(page.words)
    assert (
        f"training is left out: Records.files = '{tmp_path}/gone.tfrecord' matches no "
        "file."
    ) in said
    rated = {a["data-set"] for _, a in page.elements if "data-rate" in a}
    assert rated == {"validation"}


def test_an_error_while_the_page_is_made_is_one_line_too(run, tmp_path, monkeypatch):
    def fail(self, report):
        raise tf.errors.InvalidArgumentError(None, None, "ValueError: age is missing")

    monkeypatch.setattr(ReportWriter, "write", fail)
    with pytest.raises(UserError, match=r"^age is missing$"):
        evaluate.main([*run[0], "--report", str(tmp_path)])


def test_where_the_json_goes_is_checked_first(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(trained, "load_trained", pytest.fail)
    with pytest.raises(UserError, match=r"--json = '.*/file' cannot be written to"):
        evaluate.main([*run[0], "--json", str(tmp_path / "file" / "metrics.json")])


def test_a_write_broken_off_leaves_the_old_page(page, tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text(page[0])

    def broken_off(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.tf.io.gfile, "rename", broken_off)
    with pytest.raises(KeyboardInterrupt):
        page_file.publish(str(tmp_path / "index.html"), "half a page")
    assert (tmp_path / "index.html").read_text() == page[0]
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


def test_another_index_html_is_not_overwritten(run, tmp_path):
    (tmp_path / "index.html").write_text("<p>my home page</p>")
    with pytest.raises(UserError, match=r"index.html exists and is not a report"):
        evaluate.main([*run[0], "--report", str(tmp_path)])
    assert (tmp_path / "index.html").read_text() == "<p>my home page</p>"


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--set=recap.report.importance_set='validatoin'"],
            r"recap.report.importance_set = 'validatoin' is none of the validation "
            r"sets \['validation'\]. Did you mean 'validation'",
        ),
        (
            ["--set=recap.report.curve_examples=0"],
            "recap.report.curve_examples must be at least 1. Received: 0",
        ),
        (["--follow"], "--report is of one checkpoint, --follow of all"),
        (
            ["--set=recap.ranker.validation_sets=[]"],
            "--report: recap.ranker.validation_sets is empty",
        ),
    ],
    ids=["unknown set", "no examples", "follow", "no sets"],
)
def test_what_cannot_be_reported_is_said_in_a_line(run, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        evaluate.main([*run[0], *flags, "--report", str(tmp_path / "report")])


@pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: apt-get install chromium to run this test"
)
def test_a_browser_shows_the_page(page, tmp_path):
    _, written, path = page
    dom, log = _browse(path, tmp_path, "--dump-dom")
    assert "CONSOLE" not in log, log
    shown = _Cells(dom)
    (cell,) = shown.cells(task=CLICK, slice="all", metric="auroc")
    expected = written["sets"]["validation"][CLICK]["auroc"]
    assert float(cell["data-value"]) == pytest.approx(expected, rel=1e-12)
    # The parser found every chart whole: its drawing, not only its frame.
    drawings = re.findall(r"<svg.*?</svg>", dom, re.DOTALL)
    assert len(drawings) == dom.count("<figure") > 10
    assert all(drawing.count("<path") >= 2 for drawing in drawings)
    image = tmp_path / "page.png"
    _browse(path, tmp_path, "--window-size=1280,2400", f"--screenshot={image}")
    colors = _read_png(image)
    assert colors.shape[:2] == (2400, 1280)
    # Not blank anywhere: ink in every fifth of the page, and the tasks' colour.
    for part in np.array_split(colors[..., :3].astype(int), 5):
        assert (part.min(axis=-1) < 120).mean() > 0.002
    blue = np.abs(colors[..., :3].astype(int) - [0x2B, 0x6C, 0xB0]).sum(axis=-1) < 12
    assert blue.sum() > 500


def _browse(path: pathlib.Path, folder: pathlib.Path, *flags: str) -> tuple[str, str]:
    """What chromium writes to stdout and to its log."""
    profile = folder / f"profile-{len(list(folder.iterdir()))}"
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
            *("--enable-logging=stderr", f"--user-data-dir={profile}"),
            *flags,
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, done.stderr


def _read_png(path: pathlib.Path) -> np.ndarray:
    return (matplotlib.image.imread(path) * 255).astype(np.uint8)
