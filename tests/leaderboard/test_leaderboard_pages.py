"""The leaderboard's pages in every format."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from support.leaderboard_factory import build, cells, drawn_results, make_results
from support.result_factory import PROTOCOL, make_result, unmeasured
from zipeft import registry
from zipeft.api.task import PublishedTable, Task
from zipeft.commands.leaderboard import main as leaderboard
from zipeft.formatting import DASH
from zipeft.leaderboard.render.html import inline
from zipeft.leaderboard.render.latex import escape as escape_latex
from zipeft.leaderboard.render.markdown import escape as escape_markdown
from zipeft.results import Store, Tried, save_result
from zipeft.results.packing import pack

SPACE = {
    "head_learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "learning_rate": {"low": 1e-4, "high": 0.01, "log": True},
}
SETTINGS = {"learning_rate": 0.0021, "head_learning_rate": 0.011, "rank": 8}


def page(tmp_path, results) -> str:
    """Return the markdown page of results."""
    return build(tmp_path, results, "md")["vit-fgvc.md"]


# Markdown.


def test_a_page_has_the_tables_and_their_words(tmp_path):
    text = page(tmp_path, make_results())
    rows = cells(text)
    assert rows["method"][:4] == ["rank", "icons", "typefaces", "mean"]
    assert rows["lora"][:4] == ["1", "**69.0** (62.4, 75.6)", "**79.0** (72.4, 85.6)", "**74.0** (67.4, 80.6)"]
    assert rows["zero_gated"][3] == "73.3 (71.9, 74.8) ≈"
    assert rows["linear"][:5] == ["3", "41.0 (38.5, 43.5)", "51.0 (48.5, 53.5)", "46.0 (43.5, 48.5)", "0"]
    for words in (
        "3 methods on icons and typefaces, 3 seeds; vit focus_small, quick preset.",
        "Rank is 1 + the number of rows that are significantly better",
        "Bold is the highest score of its column.",
        "Few seeds say little of how much scores vary with the seed",
        "### What it costs\n",
        "Peak memory (resident set) is the highest while training",
        "Backbone: vit, checkpoint focus_small,",
        "22.06M parameters, source: carrier pack 0.1.1",
        "quick preset, epochs 10, batch_size 64, optimizer AdamW",
        "Seeds 0, 1 and 2.",
        "- **icons**: 83 classes; 779 training, 100 validation and 4 test examples",
        "What was taken of typefaces.",
        "![Training loss](vit-fgvc-loss.svg)",
        "(vit-fgvc-parameters.svg)",
        "(vit-fgvc-time.svg)",
        "python 3.11.4, torch 2.14.1; cpu, A CPU, 2 cores: 18 runs",
        "    python -m zipeft.leaderboard\n",
    ):
        assert words in text
    assert "## Results\n" in text
    assert "superseded" not in text
    assert "searches chose" not in text


def test_a_search_is_summarised(tmp_path):
    scores = (0.312, None, 0.44, 0.4)
    search = tuple(
        Tried(f"{index:016x}", {"learning_rate": 0.002}, score, 9.0, "" if score else "the loss is not finite")
        for index, score in enumerate(scores)
    )
    given = {"settings": SETTINGS, "space": SPACE, "search": search}
    other = {**given, "settings": {**SETTINGS, "learning_rate": 0.00123456}}
    results = [make_result(seed=seed, **given) for seed in range(3)] + [make_result(seed=3, **other)]
    text = page(tmp_path, [*results, make_result("linear")])
    for words in (
        "- **lora**: rank 8; searched: head_learning_rate 0.001 to 0.1 (logarithmic), learning_rate 0.0001 to 0.01 "
        "(logarithmic)\n",
        "- **linear**: learning_rate 0.001\n",
        "What the searches chose, on validation data alone:\n",
        "- **lora on icons (seeds 0, 1 and 2)**: head_learning_rate 0.011, learning_rate 0.0021; best of 4 trials on "
        f"validation, accuracy 31.2{DASH}44.0 %; 1 trial failed\n",
        "- **lora on icons (seed 3)**: head_learning_rate 0.011, learning_rate 0.00123; best of 4 trials",
    ):
        assert words in text
    one = page(tmp_path / "one", [make_result(**given)])
    assert "- **lora on icons**: head_learning_rate" in one


def test_links_lead_to_the_result_files(tmp_path):
    results = make_results()
    text = page(tmp_path, [*results, make_result("a (b)|c", "x y")])
    links = re.findall(r"\[([0-9a-f]{16})\]\(([^)]+)\)", text)
    assert len(links) == len(results) + 1
    for run, link in links:
        assert (tmp_path / unquote(link)).name.endswith(f"{run}.json")
        assert (tmp_path / unquote(link)).is_file()


def test_a_method_without_a_data_set_is_below_and_not_ranked(tmp_path):
    text = page(tmp_path, [*make_results(), make_result("prompt", "icons", 0, 0.99)])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["lora", "zero_gated", "linear", "prompt"]
    assert cells(text)["prompt"][:4] == [DASH, "**99.0** (99.0, 99.0)", DASH, DASH]
    assert "Below the ranked rows, without a mean: prompt (no typefaces)." in text
    assert "the mean over 1 to 3 seeds" in text
    assert "over test examples alone where there is one seed" in text


def test_seeds_that_a_row_lacks_are_said(tmp_path):
    text = page(tmp_path, [*make_results(), *make_results(scores={"full": (0.5,)})])
    assert "Seeds 0, 1 and 2 (full has 0 on all data sets)." in text
    assert f"Nothing can be said about differences between full and other rows, hence no rank ({DASH}): fewer" in text


def test_incomparable_results_are_sections_with_their_difference(tmp_path):
    few = [make_result("lora", seed=9, score=0.99, **{"task.settings": {"image_size": 56}})]
    text = page(tmp_path, [*make_results(), *few])
    first, second = text.index("## Results 1 of 2"), text.index("## Results 2 of 2")
    said = "Not comparable with Results 1 of 2, and not ranked with it: image_size 84 / 56."
    assert first < second < text.index(said)
    assert "99.0" not in text[first:second]


def test_superseded_results_are_counted(tmp_path):
    (tmp_path / "results").mkdir()
    for folder, score, created in (("new", 0.9, "2026-02-02T00:00:00Z"), ("old", 0.1, "2026-01-01T00:00:00Z")):
        save_result(tmp_path / "results" / folder, make_result(score=score, created=created))
    text = page(tmp_path, [])
    assert cells(text)["lora"][1].startswith("**90.0**")
    assert "Results superseded by newer ones of the same run: 1." in text
    assert "/new/vit-fgvc/" in text
    assert "/old/vit-fgvc/" not in text


def test_hardware_that_differs_is_said(tmp_path):
    text = page(tmp_path, [make_result(), make_result(seed=1, **{"environment.cpu": "Another CPU"})])
    assert "Times and memory were measured on 2 kinds of hardware" in text


def test_scores_of_several_people_stand_together_and_costs_apart(tmp_path):
    """The second ones add seeds to a row and bring a row of their own; their machine is ten times slower."""
    own = make_results(("icons",))
    theirs = [
        dataclasses.replace(
            result,
            environment=dataclasses.replace(result.environment, cpu="A slow CPU"),
            cost=dataclasses.replace(result.cost, train_seconds=398.0, peak_memory_bytes=9_000_000_000),
        )
        for result in make_results(("icons",), scores={"bitfit": (0.5, 0.52, 0.51), "lora": (0.7, 0.66, 0.71)})
    ]
    both = [*own, *theirs[:3], *(dataclasses.replace(result, seed=3 + result.seed) for result in theirs[3:])]
    same = build(tmp_path / "same", [dataclasses.replace(r, environment=own[0].environment) for r in both], "csv")
    for result in both:
        save_result(tmp_path / ("own" if result.environment.cpu == "A CPU" else "theirs"), result)
    for folder in ("own", "theirs"):
        list(pack(Store(tmp_path / folder)))
    assert leaderboard([str(tmp_path / "own"), str(tmp_path / "theirs"), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "vit-fgvc.md").read_text(encoding="utf-8")
    scores, costs = text.split("## What it costs")
    beside = {name: row[-2:] for name, row in cells(scores).items() if name in SHOWN}
    assert beside == {name: [DASH, DASH] if name == "bitfit" else ["40 s", "1.21 GB"] for name in SHOWN}
    assert "machine 1 is cpu, A CPU, 2 cores; machine 2 is cpu, A slow CPU, 2 cores" in costs
    lines = [[cell.strip() for cell in line.split("|")[1:3]] for line in costs.splitlines() if line.startswith("|")]
    assert [line for line in lines if line[0] == "lora"][:2] == [["lora", "1"], ["lora", "2"]]
    assert next(line for line in lines if line[0] == "bitfit") == ["bitfit", "2"]
    found, expected = (_numbers(each) for each in ((tmp_path / "vit-fgvc.csv").read_text(), same["vit-fgvc.csv"]))
    for name in SHOWN:
        assert [found[name][key] for key in SCORED] == [expected[name][key] for key in SCORED]
    assert [float(found[name]["training_seconds"] or 0) for name in ("lora", "bitfit")] == [40, 0]


SHOWN = ("bitfit", "linear", "lora", "zero_gated")
SCORED = ("section", "mean", "low", "high", "rank", "seeds", "trainable_parameters")


def _numbers(text):
    return {line["method"]: line for line in csv.DictReader(io.StringIO(text)) if line["data_set"] == "icons"}


def test_metrics_that_differ_are_named_in_the_header(tmp_path):
    scores = {"test": {"f1": 0.3}, "validation": {"f1": 0.3}, "task.metric": "f1"}
    text = page(tmp_path, [make_result(), make_result(dataset="typefaces", **scores)])
    assert cells(text)["method"][1:3] == ["icons (accuracy)", "typefaces (f1)"]


def test_other_scores_have_a_table_and_lines_of_their_own_and_rank_nothing(tmp_path):
    results = [
        make_result("lora", seed=seed, score=0.5, test={"accuracy": 0.5, "nyt f1": nyt, "f1": 0.4})
        for seed, nyt in enumerate((0.1, 0.3))
    ]
    results += [make_result("linear", seed=seed, score=0.6, test={"accuracy": 0.6}) for seed in (0, 1)]
    files = build(tmp_path, results)
    text = files["vit-fgvc.md"]
    table = cells(text.partition("### Other scores\n")[2].partition("\n### ")[0])
    assert table["method"] == ["nyt f1", "f1"]
    assert table["lora"] == ["20.0 ± 14.1", "40.0 ± 0.0"]
    assert table["linear"] == [DASH, DASH]
    assert "Nothing was selected by these scores" in text
    lines = [line.split(",")[3:8] for line in files["vit-fgvc.csv"].splitlines()]
    assert ["lora", "icons", "nyt f1", "0.2", ""] in lines
    assert "nyt f1" in files["vit-fgvc.tex"]
    assert "nyt f1" in files["vit-fgvc.html"]
    assert "Other scores" not in build(tmp_path / "plain", make_results(), "md")["vit-fgvc.md"]


def test_published_numbers_are_apart_and_say_so(tmp_path, monkeypatch):
    published = PublishedTable("Five sets", "Someone 2024, Table 1.", ["CUB", "Dogs"], {"VPT | deep": ["88.5", "90.2"]})

    plugin = type("Plugin", (Task,), {"published": (published,)})
    monkeypatch.setattr(registry.tasks, "get", lambda name: plugin)
    text = page(tmp_path, make_results())
    heading = "## Published elsewhere, on other data and another backbone: not comparable with the rows above\n"
    assert text.index("## Results") < text.index(heading) < text.index("**Five sets**. Source: Someone 2024, Table 1.")
    assert cells(text)["VPT \\"] == ["deep", "88.5", "90.2"]


def test_an_unknown_task_has_a_page_without_published_numbers(tmp_path):
    text = build(tmp_path, [make_result(**{"task.name": "nobodys_task"})], "md")["vit-nobodys_task.md"]
    assert "the task plug-in nobodys_task cannot be loaded here" in text
    assert "Published elsewhere" not in text


# Names and notes stay text in every format.

ODD = make_result(
    "a|b*_c_",
    dataset="<i>$x_1$ $\\frac{$",
    **{"task.note": "one |\n# two <script>alert(1)</script> 50% & {more} ~^\\", "method.settings": {"x": "`|`"}},
)


def test_markdown_in_names_and_notes_stays_text(tmp_path):
    text = page(tmp_path, [ODD])
    assert "a\\|b\\*\\_c\\_" in text
    assert "<script" not in text.replace("\\<script", "")
    assert "\n# two" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:3]}) == 1
    assert escape_markdown("zero_gated _x_ [a](b)") == "zero_gated \\_x\\_ \\[a\\](b)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("&lt;b&gt;", "\\&lt;b\\&gt;"),
        ("# head", "\\# head"),
        ("- item", "\\- item"),
        ("+ item", "\\+ item"),
        ("12. item", "12\\. item"),
        ("3) item", "3\\) item"),
        ("~~gone~~", "\\~\\~gone\\~\\~"),
        ("a # b - c + d 1. e", "a # b - c + d 1. e"),
    ],
)
def test_markdown_shows_what_would_be_a_mark(text, shown):
    assert escape_markdown(text) == shown


def test_html_in_names_and_notes_stays_text(tmp_path):
    text = build(tmp_path, [ODD], "html")["vit-fgvc.html"]
    assert text.count("<script") == 1
    assert "<i>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_latex_in_names_stays_text(tmp_path):
    text = build(tmp_path, [ODD], "tex")["vit-fgvc.tex"]
    assert r"a\textbar{}b*\_c\_ &" in text
    assert r"\textless{}i\textgreater{}\$x\_1\$ \$\textbackslash{}frac\{\$" in text
    assert escape_latex(f"50% & {{more}} ~^\\ #≈{DASH}") == (
        r"50\% \& \{more\} \textasciitilde{}\textasciicircum{}\textbackslash{} \#$\approx$--"
    )


# HTML.


class Document(HTMLParser):
    """The texts, ids and addresses of an HTML page, and whether its elements are closed in order."""

    VOID = ("meta", "link", "br", "img", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.ids, self.addresses, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                self.addresses.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style", "svg"} & {*self.open}:
            self.words += data.split()


def test_the_html_page_needs_no_other_file(tmp_path):
    text = build(tmp_path, make_results(), "html")["vit-fgvc.html"]
    document = Document(text)
    assert document.open == []
    assert len(document.ids) == len(set(document.ids)) > 10
    inside = {f"#{id}" for id in document.ids}
    outside = [address for address in document.addresses if address not in inside]
    assert all(re.fullmatch(r"results/vit-fgvc/\w+/[\w-]+\.json", address) for address in outside)
    assert len(outside) == 18
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= inside
    assert not re.search(r"@import|https?://(?!www\.w3\.org/)", text)


def test_the_html_page_says_what_the_markdown_says(tmp_path):
    results = [
        *make_results(settings=SETTINGS, space=SPACE),
        make_result("lora", seed=9, **{"task.settings": {"image_size": 56}}),
    ]
    files = build(tmp_path, results, "md", "html")
    said = re.sub(r"\(results/[^)]*\)|\(vit-fgvc-\w+\.svg\)|\|[:|-]+\|", " ", files["vit-fgvc.md"])
    marks = str.maketrans(dict.fromkeys("|*#[]()!,.:;", " "))
    words = re.sub(r"(?m)^ *- ", " ", said).replace("\\", "").translate(marks).split()
    document = Document(files["vit-fgvc.html"])
    shown = " ".join(document.words).translate(marks).split()
    alternatives = " ".join(re.findall(r'aria-label="([^"]*)"', files["vit-fgvc.html"])).translate(marks).split()
    assert set(words) <= {*shown, *alternatives}
    assert {*shown} - {*words} <= {"19"}  # how many files a click unfolds


def test_html_tables_say_how_they_sort(tmp_path):
    text = build(tmp_path, unmeasured(make_results(), "lora", "steps"), "html")["vit-fgvc.html"]
    main = text[text.index("<table") : text.index("</table>")]
    assert re.findall(r'<th scope="col"[^>]*aria-sort="(\w+)">(\w+)</th>', main) == [("descending", "mean")]
    assert re.search(r'data-value="0\.7[34]\d*"><strong>74.0</strong> <span class="detail">\(67.4, 80.6\)</span>', main)
    assert 'data-first="ascending">rank</th>' in main
    costs = text[text.index("<table", text.index("</table>")) :]
    assert f'<td class="number">{DASH}</td>' in costs  # no value: it comes last however the column is sorted


def test_an_svg_in_a_page_has_ids_and_colours_of_its_own():
    svg = b'<?xml version="1.0"?>\n<svg width="9"><metadata>x</metadata><!-- y --><g id="a" style="fill: #22262e"/>'
    svg += b'<use xlink:href="#a" clip-path="url(#a)"/></svg>'
    assert inline(svg, "f1") == (
        '<svg aria-hidden="true" width="9"><g id="f1-a" style="fill: var(--plot-ink, #22262e)"/>'
        '<use xlink:href="#f1-a" clip-path="url(#f1-a)"/></svg>'
    )


CLICKS = """<script>
const shown = () => [...document.querySelectorAll("table")[0].tBodies[0].rows].map((row) => row.cells[0].textContent);
const headers = document.querySelectorAll("table")[0].tHead.rows[0].cells;
const seen = [];
for (const index of [5, 5, 0, 1]) {
  headers[index].querySelector("button").click();
  seen.push([headers[index].textContent.replace("\\n", " "), headers[index].ariaSort, ...shown()].join(" "));
}
document.body.textContent = seen.join("; ");
</script>"""


@pytest.mark.slow
def test_a_click_sorts_in_a_browser(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("there is no chromium on the PATH")
    text = build(tmp_path, make_results(), "html")["vit-fgvc.html"]
    (tmp_path / "clicked.html").write_text(text.replace("</body>", CLICKS + "</body>"), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [chromium, *flags.split(), "--disable-component-update", "--disable-sync", "--dump-dom"]
    profile, address = f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "clicked.html").as_uri()
    done = subprocess.run([*command, profile, address], capture_output=True, text=True, check=True, timeout=120)
    assert re.search("<body>(.*)</body>", done.stdout, re.DOTALL)[1].strip().split("; ") == [
        "trainable parameters ascending linear zero_gated lora",
        "trainable parameters descending lora zero_gated linear",
        "method ascending linear lora zero_gated",
        "rank ascending lora zero_gated linear",
    ]


# LaTeX.


def test_latex_tables_are_whole(tmp_path):
    results = [*make_results(), *make_results(protocol={**PROTOCOL, "epochs": 3})]
    text = build(tmp_path, results, "tex")["vit-fgvc.tex"]
    begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert begun == ["table", "tabular"] * 4
    assert ended == ["tabular", "table"] * 4
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    for columns, body in re.findall(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(columns) - 1}
        assert re.findall(r"\\\w+rule", body) == [r"\toprule", r"\midrule", r"\bottomrule"]
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert labels == [f"tab:vit-fgvc-{section}-{kind}" for section in (1, 2) for kind in ("scores", "costs")]
    assert r"\textbf{69.0} {\tiny (62.4, 75.6)}" in text
    assert r"{\tiny (71.9, 74.8) $\approx$}" in text
    assert r"95 \% interval over seeds and test examples" in text
    assert text.isascii()


@pytest.mark.slow
def test_latex_compiles_with_booktabs_alone(tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("there is no pdflatex on the PATH")
    build(tmp_path, [*make_results(), ODD], "tex")
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{vit-fgvc}\\end{document}\n"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("the package booktabs is not installed")
    assert done.returncode == 0, done.stdout[-2000:]


# CSV.


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_name_is_a_formula_in_a_spreadsheet(tmp_path, start):
    name = f'{start}HYPERLINK("http://x","y")'
    line = next(csv.DictReader(io.StringIO(build(tmp_path, [make_result(name, name)], "csv")["vit-fgvc.csv"])))
    assert line["method"].startswith("'")
    assert line["data_set"].startswith("'")
    assert float(line["mean"]) > 0


def test_csv_has_plain_numbers(tmp_path):
    text = build(tmp_path, make_results(**{"cost.training_flops": None}), "csv")["vit-fgvc.csv"]
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["method"], line["data_set"]) for line in lines] == [
        *((method, name) for method in ("lora", "zero_gated", "linear") for name in ("icons", "typefaces", "(mean)")),
        *(("trivial: majority class", name) for name in ("icons", "typefaces")),
    ]
    assert lines[2] == {
        **{"backbone": "vit", "task": "fgvc", "section": "1", "method": "lora", "data_set": "(mean)"},
        **{"metric": "accuracy", "mean": "0.74", "low": "0.674276", "high": "0.805724"},
        **{"seeds": "3", "rank": "1", "p": "", "seed_ratio": ""},
        **{"trainable_parameters": "147456", "head_parameters": "21560", "adapter_bytes": "676064"},
        **{"training_seconds": "40", "cpu_seconds": "76", "step_seconds": "0.152"},
        **{"examples_per_second": "90", "tokens_per_second": "4500"},
        **{
            "peak_memory_bytes": "1210000000",
            "evaluation_seconds": "4",
            "training_flops": "",
            "inference_flops": "3000000000",
        },
    }
    assert (lines[8]["rank"], lines[8]["p"]) == ("3", "0.010127")
    assert lines[0]["head_parameters"] == "31955"
    for line in lines:
        assert all(value == "" or float(value) >= 0 for name, value in line.items() if name not in list(line)[:6])


def test_csv_has_every_section_and_rows_without_a_mean(tmp_path):
    results = [*make_results(), make_result("prompt"), make_result(**{"backbone.settings": {"frozen": False}})]
    text = build(tmp_path, results, "csv")["vit-fgvc.csv"]
    lines = list(csv.DictReader(io.StringIO(text)))
    assert {line["section"] for line in lines} == {"1", "2"}
    assert [line["data_set"] for line in lines if line["method"] == "prompt"] == ["icons"]


def test_pages_of_real_numbers_are_made_in_every_format(tmp_path):
    files = build(tmp_path, drawn_results({"a": 0.4, "b": 0.5, "c": 0.8}, {"icons": 60, "typefaces": 40}))
    assert cells(files["vit-fgvc.md"])["c"][0] == "1"
    assert all(files.values())
