"""Tables of several editors: columns, marks, notes, and what could not be computed."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from dataclasses import replace

import pytest

from ric.metrics.intervals import mean_interval
from ric.scoring.ranking import best
from ric.scoring.score_table import to_csv, to_latex, to_markdown, which_samples
from ric.scoring.scores import Difference, Score, Scores, within_range
from ric.scoring.summary import scene_score


def scores(label: str, clip_i: float, lpips: float | None, role="editor") -> Scores:
    return Scores(
        label,
        (
            Score(
                key="clip_i", value=clip_i, n=5, interval=(0.5, 0.75), definition="a cosine",
                marker="tiny",
            ),
            Score(
                key="lpips", value=lpips, n=5, definition="a distance",
                unavailable="no weights" if lpips is None else None,
            ),
            Score(key="fid", value=12.345, n=5, definition="two sets", note="Only 5 pictures."),
            Score(key="is", value=2.5, std=0.25, n=5, definition="one set"),
            Score(key="is", value=2.25, std=0.5, n=5, definition="another", marker="clean"),
            Score(key="l1", value=0.1, n=5, definition="pixels"),
        ),
        role,
    )  # fmt: skip


@pytest.fixture
def rows() -> list[Scores]:
    return [
        scores("ours", 0.9, 0.2),
        scores("theirs", 0.8, 0.1),
        scores("source", 1.0, 0.0, role="identity"),
    ]


def test_the_best_editor_is_marked_and_the_identity_never(rows):
    winners = best(rows)
    assert winners["clip_i[tiny]"] == {"ours"}
    assert winners["lpips"] == {"theirs"}
    assert "fid" not in winners


def test_numbers_that_print_alike_are_best_together():
    assert best([scores("a", 0.90001, 0.2), scores("b", 0.90002, 0.2)])["clip_i[tiny]"] == {
        "a",
        "b",
    }


def test_one_editor_alone_is_not_best():
    assert best([scores("ours", 0.9, 0.2)]) == {}


def test_markdown_has_the_papers_columns_arrows_intervals_and_marks(rows):
    lines = to_markdown(rows).splitlines()
    assert lines[0] == "| | CLIP-I[tiny] ↑ | LPIPS ↓ | FID ↓ | IS ↑ |"
    assert lines[2].startswith("| ours | **0.9000** [0.5000, 0.7500] | 0.2000 | 12.35 |")
    assert lines[4].startswith("| source | 1.0000 [")


def test_markdown_keeps_other_scores_below_the_six(rows):
    tables = to_markdown(rows).split("\n\n")
    assert tables[1].startswith("| | IS[clean] ↑ | L1 ↓ |")
    assert "2.50 ± 0.25" in tables[0]


def test_markdown_says_what_each_score_means(rows):
    text = to_markdown(rows)
    assert "- clip_i[tiny] (N = 5): a cosine." in text
    assert "- fid (N = 5): two sets. Only 5 pictures." in text


def test_notes_that_differ_name_their_rows(rows):
    own = Score(key="kid", value=0.1, n=5, definition="two sets", note="Pairs add 0.1.")
    other = replace(own, note="Pairs add 0.2.")
    pair = [
        replace(row, scores=(*row.scores, kid))
        for row, kid in zip(rows, (own, other), strict=False)
    ]
    assert "two sets. Pairs add 0.1/0.2." in to_markdown(pair)


def test_a_sentence_of_all_notes_stands_once_and_one_of_some_with_their_labels(rows):
    whole = Score(key="kid", value=0.1, n=5, definition="two sets", note="Of 5 pairs.")
    more = replace(whole, note="Of 5 pairs. Without a mask: 2.")
    pair = [
        replace(row, scores=(*row.scores, kid))
        for row, kid in zip(rows, (whole, more), strict=False)
    ]
    assert "two sets. Of 5 pairs. theirs: Without a mask: 2.\n" in to_markdown(pair)


@pytest.mark.parametrize("others", ["49.3", "-49.3"])
def test_a_joined_note_keeps_the_minus_of_each_number_and_the_hyphen_of_a_name(rows, others):
    notes = (f"Pairs add {number} by ViT-B-16, 2-3." for number in ("-62.1", others))
    pair = [
        replace(row, scores=(Score(key="kid", value=0.1, n=5, definition="two sets", note=note),))
        for row, note in zip(rows, notes, strict=False)
    ]
    assert f"two sets. Pairs add -62.1/{others} by ViT-B-16, 2-3.\n" in to_markdown(pair)


def test_a_row_over_other_samples_carries_a_dagger_and_is_never_best(rows):
    rows = [
        replace(rows[0], samples=5, shared=5),
        replace(rows[1], samples=5, shared=5),
        replace(scores("more", 0.99, 0.0), samples=9, shared=5),
    ]
    assert best(rows)["clip_i[tiny]"] == {"ours"}
    assert "| more † | 0.9900" in to_markdown(rows)
    assert "† on other samples than the rest: more on 9; 5 have a picture" in to_markdown(rows)
    assert "more $\\dagger$ & 0.9900" in to_latex(rows)
    lines = list(csv.DictReader(io.StringIO(to_csv({"": rows}))))
    assert {(row["label"], row["samples"], row["samples_shared"]) for row in lines} == {
        ("ours", "5", "5"), ("theirs", "5", "5"), ("more", "9", "5")
    }  # fmt: skip
    assert which_samples(rows[:2]) == []


def test_differences_are_a_row_a_score_and_bold_where_0_is_outside_the_interval(rows):
    apart = (
        Score(key="lpips", value=-0.1, n=5, interval=(-0.2, -0.05)),
        Score(key="clip_i", value=0.01, n=4, interval=(-0.01, 0.03), marker="tiny"),
        Score(key="fid", value=2.0, n=2),
    )
    text = to_markdown(rows, [Difference("ours", "the|irs", apart, 5)])
    table = text.split("\n\n")[1].splitlines()
    assert table == [
        "| | ours - the\\|irs |",
        "|---|---|",
        "| CLIP-I[tiny] ↑ | +0.0100 [-0.0100, +0.0300] (N = 4) |",
        "| LPIPS ↓ | **-0.1000 [-0.2000, -0.0500] (N = 5)** |",
        "| FID ↓ | +2.00 (N = 2) |",
    ]


def test_kid_stands_beside_fid_but_not_in_the_papers_latex_table(rows):
    kid = Score(key="kid", value=0.0123, n=5, interval=(0.01, 0.02), definition="two sets")
    rows = [replace(row, scores=(*row.scores, kid)) for row in rows]
    assert to_markdown(rows).splitlines()[0].endswith("| FID ↓ | KID ↓ | IS ↑ |")
    assert "KID" not in to_latex(rows)
    assert "KID" in to_latex(rows, all_columns=True)


def test_what_could_not_be_computed_is_a_line_below_the_table_a_reason():
    gone = "no weights: ric weights get x"
    lacking = [Score(key=key, unavailable=gone) for key in ("dino", "kid")]
    one = [
        replace(row, scores=(*row.scores, *lacking))
        for row in (scores("ours", 0.9, None), scores("source", 1.0, 0.0, role="identity"))
    ]
    table, *others = to_markdown(one).split("\n\n")
    assert table.splitlines()[0] == "| | CLIP-I[tiny] ↑ | LPIPS ↓ | FID ↓ | IS ↑ |"
    assert "| ours | 0.9000 [0.5000, 0.7500] | not available | 12.35 |" in table
    assert [line for line in others[-1].splitlines() if line.startswith("- Not available")] == [
        "- Not available: dino, kid: no weights: ric weights get x.",
        "- Not available: lpips of ours: no weights.",
    ]
    assert "no weights" in to_csv({"": one})
    assert one[0].as_dict()["scores"]["lpips"]["unavailable"] == "no weights"
    assert "& --" in to_latex(one)


def test_a_table_without_any_number_is_lines_alone():
    row = Scores("A", (Score(key="dino", unavailable="gone"), Score(key="l1", unavailable="gone")))
    assert "|" not in to_markdown([row])
    assert "- Not available: dino, l1: gone." in to_markdown([row])


def test_photos_with_several_edits_are_counted_below_the_table(rows):
    assert which_samples([replace(row, samples=9, photos=9) for row in rows]) == []
    told = which_samples([replace(row, samples=9, photos=4) for row in rows])
    assert told == ["9 samples of 4 photos: intervals are of photos, each with all of its samples."]
    assert replace(rows[0], samples=9, photos=4).as_dict()["photos"] == 4


def test_a_difference_is_bold_by_holm_s_correction_over_its_table():
    def apart(label: str, against: str, reach: float, keys=("clip_i", "lpips", "l1")) -> Difference:
        made = [Score(key=key, value=1.0, interval=(1 - reach, 1 + reach), n=50) for key in keys]
        return Difference(label, against, tuple(made), 50)

    def bold(*differences: Difference) -> int:
        return to_markdown([], differences).count("**+")

    assert bold(apart("B", "A", 0.99, ["clip_i"])) == 1  # p = 0.048
    assert bold(apart("B", "A", 0.99)) == 0  # three of them
    assert bold(apart("B", "A", 0.7)) == 3
    # differences from another row are another table
    one, other = apart("B", "A", 0.99, ["clip_i"]), apart("B", "Identity", 0.99, ["clip_i"])
    assert bold(one, other) == 2
    assert to_markdown([], [one, other]).count("Bold: the difference is not 0") == 2


# --- what ranks ----------------------------------------------------------------------------------


def two(key: str, first: Score, second: Score) -> set[str]:
    rows = [Scores("A", (first,)), Scores("B", (second,))]
    return best(rows).get(key, set())


@pytest.mark.parametrize(("n", "winner"), [(10, set()), (19, set()), (20, {"B"})])
def test_an_inception_score_of_splits_of_one_picture_ranks_nobody(n, winner):
    low, high = (Score(key="is", value=value, std=0.1, n=n) for value in (2.0, 3.0))
    assert two("is", low, high) == winner


@pytest.mark.parametrize(("std", "winner"), [(0.4, {"B"}), (0.6, set())])
def test_inception_scores_that_scatter_into_one_another_rank_nobody(std, winner):
    low, high = (Score(key="is", value=value, std=std, n=500) for value in (2.0, 3.0))
    assert two("is", low, high) == winner


@pytest.mark.parametrize(("ranks", "winner"), [(True, {"A"}), (False, set())])
def test_fid_ranks_editors_against_a_set_of_its_own_and_never_against_their_targets(ranks, winner):
    near, far = (
        Score(key="fid", value=value, interval=(value - 1, value + 1), n=50, ranks=ranks)
        for value in (15.0, 40.0)
    )
    assert two("fid", near, far) == winner
    apart = Difference("B", "A", (replace(near, interval=(14.0, 16.0)),), 50)
    assert ("**+15.00" in to_markdown([Scores("A", (near,))], [apart])) == ranks
    assert near.as_dict().get("ranks", True) == ranks


@pytest.mark.parametrize(
    ("interval", "winner"), [((0.01, 0.02), {"A"}), ((0.01, 0.04), set()), (None, set())]
)
def test_kids_whose_intervals_overlap_or_that_have_none_rank_nobody(interval, winner):
    near = Score(key="kid", value=0.015, interval=interval, n=50)
    far = Score(key="kid", value=0.04, interval=(0.03, 0.05), n=50)
    assert two("kid", near, far) == winner


def test_a_third_editor_that_overlaps_with_the_best_takes_its_mark():
    kids = [(0.015, (0.01, 0.02)), (0.04, (0.03, 0.05)), (0.021, (0.019, 0.03))]
    rows = [
        Scores(label, (Score(key="kid", value=value, interval=interval, n=50),))
        for label, (value, interval) in zip("ABC", kids, strict=True)
    ]
    assert best(rows[:2])["kid"] == {"A"}
    assert best(rows) == {}


def test_csv_has_a_line_a_score(rows):
    lines = list(csv.DictReader(io.StringIO(to_csv({"": rows}))))
    assert len(lines) == 3 * 6
    first = lines[0]
    assert (first["label"], first["metric"], first["n"]) == ("ours", "clip_i[tiny]", "5")
    assert (float(first["low"]), float(first["high"])) == (0.5, 0.75)
    assert first["direction"] == "up"
    score = Score(key="l1", value=0.5, interval=(0.4, 0.6), p=0.03, n=5)
    apart = Difference("theirs", "ours", (score,), 5)
    *_, last = csv.DictReader(io.StringIO(to_csv({"": [*rows, apart]})))
    kept = ("label", "role", "against", "metric", "value", "low", "p", "n")
    assert [last[key] for key in kept] == [
        "theirs", "difference", "ours", "l1", "0.5", "0.4", "0.03", "5"
    ]  # fmt: skip
    assert [lines[0][key] for key in ("role", "against", "p")] == ["editor", "", ""]


@pytest.mark.parametrize(
    ("key", "interval", "of_score", "of_difference"),
    [
        ("lpips", (-0.1, 0.4), (0, 0.4), (-0.1, 0.4)),
        ("fid", (-3, 40), (0, 40), (-3, 40)),
        ("clip_i", (0.8, 1.1), (0.8, 1), (0.8, 1.1)),
        ("edit_success", (-2, 1.2), (0, 1), (-1, 1)),
        ("imgedit", (0.5, 7), (1, 5), (0.5, 4)),
        ("psnr_outside", (90, 107), (90, 100), (90, 100)),
        # its unbiased estimate may be below 0, and a cut interval would not hold it
        ("kid", (-0.2, -0.1), (-0.2, -0.1), (-0.2, -0.1)),
        ("l1", None, None, None),
    ],
)
def test_no_interval_goes_beyond_what_a_score_can_be(key, interval, of_score, of_difference):
    score = Score(key=key, value=0.5, interval=interval)
    assert within_range(score).interval == of_score
    assert within_range(score, difference=True).interval == of_difference


def test_few_skewed_values_have_an_interval_of_possible_ones():
    rows = [{"id": str(at), "group": None, "photo": str(at), "context_error": error,
             "context_weight": 1.0} for at, error in enumerate((0.0, 0.01, 0.9))]  # fmt: skip
    assert mean_interval([0.0, 0.01, 0.9])[0] < 0
    assert within_range(scene_score(rows, "context_error")).interval[0] == 0


def test_latex_is_a_booktabs_table_with_escaped_labels():
    text = to_latex([scores("ours_v2 & co", 0.9, 0.2), scores("theirs", 0.8, 0.1)])
    assert text.startswith("\\begin{tabular}{lcccc}\n\\toprule\n & CLIP-I[tiny] $\\uparrow$")
    assert "ours\\_v2 \\& co & \\textbf{0.9000}" in text
    assert "2.50 $\\pm$ 0.25" in text
    note = "N = 5; $\\pm$: one standard deviation over the splits of IS."
    last = f"\\midrule\n\\multicolumn{{5}}{{l}}{{\\footnotesize {note}}} \\\\\n"
    assert text.endswith(f"{last}\\bottomrule\n\\end{{tabular}}\n")


@pytest.mark.parametrize("layout", ["table-1", "table-2"])
def test_the_latex_table_compiles(layout, tmp_path):
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        pytest.skip("neither pdflatex nor tectonic is installed")
    rows = [scores("[ours_v2] & 50 % ~café\\^", 0.9, 0.2), scores("{theirs} #1 $", 0.8, 0.1)]
    rows[1] = replace(rows[1], samples=5, shared=4)
    rules = "\\let\\toprule\\hline\\let\\midrule\\hline\\let\\bottomrule\\hline"
    has_booktabs = "\\IfFileExists{booktabs.sty}{\\usepackage{booktabs}}"
    head = f"\\documentclass{{article}}{has_booktabs}{{{rules}}}"
    body = f"\\begin{{document}}\n{to_latex(rows, layout)}\\end{{document}}\n"
    (tmp_path / "a.tex").write_text(f"{head}\n{body}")
    flags = ["-interaction=nonstopmode", "-halt-on-error"] * program.endswith("pdflatex")
    made = subprocess.run(
        [program, *flags, "a.tex"], cwd=tmp_path, capture_output=True, check=False
    )
    assert made.returncode == 0, made.stdout.decode(errors="replace")[-800:]
    assert (tmp_path / "a.pdf").stat().st_size > 0


def test_a_score_is_found_by_name_and_by_key(rows):
    assert rows[0]["clip_i"] is rows[0]["clip_i[tiny]"]
    assert rows[0]["is[clean]"].value == 2.25
    with pytest.raises(KeyError):
        rows[0]["kid"]


# --- the layouts of the paper's tables -----------------------------------------------------------


@pytest.fixture
def pairs() -> list[Scores]:
    """Two bases without and with the method, the second pair better than the first."""
    return [
        scores("IP2P (without)", 0.70, 0.5),
        scores("IP2P (with)", 0.75, 0.4),
        scores("MB (without)", 0.90, 0.2),
        scores("MB (with)", 0.85, 0.1),
    ]


def test_table_2_has_a_column_an_editor_and_the_best_of_each_two_in_bold(pairs):
    lines = to_markdown(pairs, layout="table-2").splitlines()
    assert lines[0] == "| | IP2P (without) | IP2P (with) | MB (without) | MB (with) |"
    assert lines[1] == "|---|---|---|---|---|"
    assert lines[2] == (
        "| CLIP-I[tiny] ↑ | 0.7000 [0.5000, 0.7500] | **0.7500** [0.5000, 0.7500]"
        " | **0.9000** [0.5000, 0.7500] | 0.8500 [0.5000, 0.7500] |"
    )
    assert lines[3] == "| LPIPS ↓ | 0.5000 | **0.4000** | 0.2000 | **0.1000** |"
    latex = to_latex(pairs, "table-2").splitlines()
    assert latex[:3] == [
        "\\begin{tabular}{lcccc}", "\\toprule",
        " & IP2P (without) & IP2P (with) & MB (without) & MB (with) \\\\",
    ]  # fmt: skip
    assert (
        latex[5]
        == "LPIPS $\\downarrow$ & 0.5000 & \\textbf{0.4000} & 0.2000 & \\textbf{0.1000} \\\\"
    )


def test_table_3_has_a_column_an_editor_and_the_best_of_all_in_bold(pairs):
    latex = to_latex(pairs, "table-3").splitlines()
    assert latex[5] == "LPIPS $\\downarrow$ & 0.5000 & 0.4000 & 0.2000 & \\textbf{0.1000} \\\\"
    assert len(latex) == 4 + 1 + 4 + 3  # rules and headings, the scores held, the note, the end


def test_table_1_has_a_row_an_editor(pairs):
    latex = to_latex(pairs, "table-1").splitlines()
    assert latex[0] == "\\begin{tabular}{lcccc}"
    assert latex[4].startswith("IP2P (without) & 0.7000 & 0.5000 & ")


def test_an_editor_without_a_second_is_no_best_of_table_2(pairs):
    assert "MB (without)" not in best(pairs[:3], "table-2")["lpips"]


def test_a_label_that_latex_would_read_is_kept_from_it():
    rows = [scores("[red]", 0.7, 0.5), scores("*star", 0.7, 0.5)]
    lines = to_latex(rows).splitlines()
    assert lines[4].startswith("{}[red] & ")
    assert lines[5].startswith("{}*star & ")


def test_a_number_that_rounds_to_zero_has_no_sign_and_ties_with_zero():
    above, below = scores("A", 0.00001, 0.5), scores("B", -0.00001, 0.5)
    assert [row["clip_i"].number for row in (above, below)] == ["0.0000", "0.0000"]
    assert best([above, below])["clip_i[tiny]"] == {"A", "B"}
