"""The answer never contradicts its table: random incomplete grids, and grids whose answer is known.

What is true is read off the table of trials in ``report.md``, and the words of both reports are held against it.
"""

import re
from html import unescape
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcache.lab.analysis.baselines import Baselines
from jaxcache.lab.analysis.findings import Findings
from jaxcache.lab.analysis.recommendation import decide
from jaxcache.lab.analysis.sweep import Sweep, group_trials
from jaxcache.lab.report.markdown import markdown
from jaxcache.lab.report.page import answer

from .._support.results import failed, result

POLICIES, LIMITS = ("fifo", "gdsf", "lru"), ("2MiB", "8MiB", None)
WORKLOADS = ("least_squares", "monte_carlo")
UNBOUNDED, UNCACHED = 4.0, 40.0  # of seed 0; each further seed takes a second more
SHOWN = 0.051  # figures are shown with one digit


def frame_of(one):
    return Baselines(6e6, UNBOUNDED + one.config.seed, UNCACHED + one.config.seed)


def sweep_of(results, bounds=None, framed=True):
    """A sweep as it is read, without its files."""
    frames = {one.program_id: frame_of(one) for one in results} if framed else {}
    groups = group_trials(results, frames, bounds or {})
    return Sweep(Path("a sweep"), None, tuple(results), tuple(groups), ())


@st.composite
def grids(draw):
    """Rows of (policy, limit, workload, seed, seconds), some left out, some failed (None), with seconds that often tie.

    No more than the report's table of trials shows.
    """
    grid = [
        draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True))
        for values, most in ((POLICIES, 3), (LIMITS, 2), (WORKLOADS, 2), (range(9), 8))
    ]
    fates = st.sampled_from(draw(st.sampled_from(["+", "+++++++.", "+++-..", "+."])))
    seconds = st.sampled_from(draw(st.sampled_from([(5.0, 6.0), (12.0, 13.5, 20.0, 39.0), (0.5, 12.0)])))
    rows = []
    for *trial, seed in product(*grid):
        fate, cost_seconds = draw(fates), draw(seconds) + seed
        if fate != ".":
            rows.append((*trial, seed, cost_seconds if fate == "+" else None))
    return rows


def sweep_of_rows(rows, framed=True, bounded=False):
    made = [
        failed(eviction=policy, seed=seed, limit=limit, workload=workload) if cost_seconds is None
        else result(policy, seed, limit, workload, cost_seconds)
        for policy, limit, workload, seed, cost_seconds in rows
    ]  # fmt: skip
    bounds = {(one.program_id, one.config.memory_limit): UNBOUNDED + 0.5 + one.config.seed for one in made}
    return sweep_of(made, bounds if bounded else {}, framed)


class Table:
    """The seconds of each setting by cell (program and seed), as the report's table of trials has them."""

    def __init__(self, text: str) -> None:
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
        head = next(row for row in rows if row[0] == "trial")
        self.seconds: dict[tuple[str, str], dict[tuple[str, int], float]] = {}
        self.tried: set[tuple[str, str]] = set()
        for row in rows[rows.index(head) + 2 :]:
            policy, limit, program, seed = re.fullmatch(
                r"(\S+) (no limit|\S+ MiB) (\S+ \S+) seed (\d+)", row[0]
            ).groups()
            self.tried.add((policy, limit))
            if row[1] != "completed":
                continue
            cell = (program.replace(" ", ", "), int(seed))
            self.seconds.setdefault((policy, limit), {})[cell] = float(row[head.index("reference compile s")])

    def having(self, cells):
        return [one for one, known in self.seconds.items() if cells <= known.keys()]

    def mean(self, setting, cells):
        return mean_by_program({cell: self.seconds[setting][cell] for cell in cells})


def mean_by_program(values):
    programs = {program for program, _ in values}
    return fmean(fmean(v for (p, _), v in values.items() if p == program) for program in programs)


def cells_in(words):
    """Read ``monte_carlo, zipf with seeds 0 and 1; …`` back."""
    cells = set()
    for part in words.split("; "):
        programs, seeds = re.fullmatch(r"(.*) with seeds? (.*)", part).groups()
        numbers = [int(one) for one in re.findall(r"\d+", seeds)]
        if " to " in seeds:
            numbers = range(numbers[0], numbers[1] + 1)
        cells |= set(product(programs.split(" and "), numbers))
    return cells


def limit_bytes(limit):
    return float("inf") if limit == "no limit" else float(limit.removesuffix(" MiB"))


WHAT = r"(\w+) with (?:a limit of (\S+ MiB)|(no limit))"
SCOPE = r"Compared on (.*?), which (\d+ of \d+|all) settings have run: (.*)"


def named(match):
    policy, limit, unlimited = match
    return policy, limit or unlimited


def check_body(body, table, cells, compared):
    """Hold a sentence against the seconds of the settings that were compared on these cells; return its setting."""
    setting = named(re.search(WHAT, body).groups())
    mean = {one: table.mean(one, cells) for one in compared}
    here = {one for one in compared if one[1] == setting[1]}
    assert float(re.search(r": ([\d.]+) compile seconds a run", body)[1]) == pytest.approx(mean[setting], abs=SHOWN)
    assert mean[setting] <= min(mean[one] for one in here) + 1e-9
    if "took the fewest seconds" in body and "at this limit" not in body:
        assert mean[setting] <= min(mean.values()) + 1e-9
    if equal := re.search(r"as did ([\w, ]+?):", body):
        names = re.split(", | and ", equal[1])
        assert [mean[name, setting[1]] for name in names] == pytest.approx([mean[setting]] * len(names))
    if "No policy is shown" in body or "Take " in body:
        assert len({policy for policy, _ in here}) > 1
    if "One setting was tried" in body:
        assert table.tried == {setting}
    if "One setting has succeeded" in body:
        assert table.seconds.keys() == {setting} < table.tried
    if "One policy was tried" in body:
        assert len({policy for policy, _ in table.tried}) == 1
    if "One policy was compared" in body:
        assert len({policy for policy, _ in compared}) == 1
    if "smallest limit that is large enough" in body:
        assert all(limit_bytes(setting[1]) <= limit_bytes(one[1]) or mean[one] > mean[setting] for one in compared)
    if unlimited := re.search(r"with no limit, as under jax.jit alone, ([\d.]+)\.$", body):
        expected = mean_by_program({(program, seed): UNBOUNDED + seed for program, seed in cells})
        assert float(unlimited[1]) == pytest.approx(expected, abs=SHOWN)
        assert mean[setting] >= expected - 1e-9
    if difference := re.search(rf", ([\d.]+) (less|more) than (?:(\w+) at the same limit|{WHAT})", body):
        size, sign, policy, *other = difference.groups()
        rival = (policy, setting[1]) if policy else named(other)
        assert mean[rival] - mean[setting] == pytest.approx(float(size) * (1 if sign == "less" else -1), abs=SHOWN)
    return setting


def check_notes(notes, table, cells, compared, setting):
    """Hold each note against the table; return the settings that they speak of besides, and how many they count."""
    spoken, counted = set(), 0
    mean = {one: table.mean(one, cells) for one in compared}
    for note in notes:
        if "One policy was tried" in note:
            assert len({policy for policy, _ in table.tried}) == 1
        if "One limit was tried" in note:
            assert len({limit for _, limit in table.tried}) == 1
        if lost := re.search(r"all but (-?\d+)% of what", note):
            by_program = {}
            for program in {program for program, _ in cells}:
                of = [cell for cell in cells if cell[0] == program]
                least = fmean(UNBOUNDED + seed for _, seed in of)
                by_program[program] = (table.mean(setting, of) - least) / (UNCACHED - UNBOUNDED)
            assert max(by_program.values()) == pytest.approx(int(lost[1]) / 100, abs=0.0051)
            assert 0 <= int(lost[1]) <= 5
        if "took the fewest seconds" in note and "Compared apart" not in note:
            least_of = [one for one in compared if "at this limit" not in note or one[1] == setting[1]]
            assert mean[setting] <= min(mean[one] for one in least_of) + 1e-9
        if "No larger limit that was compared" in note:
            larger = [one for one in compared if limit_bytes(one[1]) > limit_bytes(setting[1])]
            assert larger
            assert mean[setting] <= min(mean[one] for one in larger) + 1e-9
        if "the largest limit tried" in note:
            assert limit_bytes(setting[1]) == max(limit_bytes(limit) for _, limit in table.tried)
        if apart := re.fullmatch(r"Compared apart, on (.*?): ((?:Take|No|Of|One|\w+ with).*)", note):
            others = cells_in(apart[1])
            spoken |= set(table.having(others))
            check_body(apart[2], table, others, table.having(others))
        if alone := re.match(r"(\w+) at (.*?) is not compared", note):
            assert all(table.having({cell}) == [alone.groups()] for cell in table.seconds[alone.groups()])
            spoken.add(alone.groups())
        if more := re.match(r"(\d+) more sets? of settings", note):
            counted += len(table.seconds)  # each of them ranks one setting or more
        if unknown := re.match(r"(\w+) at (.*?) has no successful trial", note):
            assert unknown.groups() in table.tried - table.seconds.keys()
            spoken.add(unknown.groups())
        if more := re.match(r"(\d+) more settings?", note):
            counted += int(more[1])
    return spoken, counted


def check_tiles(html, table, cells, setting):
    tiles = {name: value for value, name in re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span>', html)}
    seconds = table.mean(setting, cells)
    assert float(tiles["reference compile seconds a run"].split()[0]) == pytest.approx(seconds, abs=SHOWN)
    of_seeds = {cell: cell[1] for cell in cells}
    for name, expected in (
        ("no limit, as under jax.jit alone", mean_by_program(of_seeds) + UNBOUNDED),
        ("bound: no policy is lower at this limit", mean_by_program(of_seeds) + UNBOUNDED + 0.5),
    ):
        if name in tiles:
            assert float(tiles[name].split()[0]) == pytest.approx(expected, abs=SHOWN)
            assert expected <= seconds + 1e-9
    caption = re.search(r'<p class="caption tiled">(.*?)</p>', html)[1]
    assert caption.startswith(f"{setting[0]} at {setting[1]}, means over ")


def paste_lines(setting):
    policy, limit = setting
    number = limit.replace(" ", "")
    override = "null" if limit == "no limit" else number
    python = "None" if limit == "no limit" else f'"{number}"'
    return f"eviction={policy} memory_limit={override}", f'jaxcache.JitCache({python}, eviction="{policy}")'


def check(sweep):
    text = "\n".join(markdown(Findings(sweep), plotted=False))
    table = Table(text)
    html = unescape(answer(Findings(sweep)))
    sentence = re.search(r'<p class="sentence">(.*?)</p>', html)[1]
    notes = re.findall(r"<li>(.*?)</li>", html)
    assert f"**{sentence}** {' '.join(notes)}".strip() in text
    everything = {cell for known in table.seconds.values() for cell in known}
    shared = [cell for cell in everything if len(table.having({cell})) > 1]
    if len(table.seconds) > 1 and not shared:
        assert sentence.startswith("No two settings have run the same program and seed, so nothing is ranked")
        assert notes == []
        assert "In a sweep `" not in text
        assert "tile" not in html
        assert "apply" not in html
        return
    scoped = re.fullmatch(SCOPE, sentence)
    cells = cells_in(scoped[1]) if scoped else everything
    compared = table.having(cells)
    if scoped is None:
        assert len(compared) == len(table.seconds)
    elif scoped[2] != "all":
        assert scoped[2] == f"{len(compared)} of {len(table.tried)}"
    body = scoped[3] if scoped else sentence
    setting = check_body(body, table, cells, compared)
    spoken, counted = check_notes(notes, table, cells, compared, setting)
    unnamed = table.tried - set(compared) - spoken
    assert len(unnamed) <= counted
    check_tiles(html, table, cells, setting)
    override, python = paste_lines(setting)
    assert f"In a sweep `{override}`, in a program `{python}`." in text
    assert f"<code>{override}</code>" in html
    assert f"<code>{python}</code>" in html


@settings(max_examples=150, deadline=None)
@given(grids(), st.booleans(), st.booleans())
def test_sentence_notes_tiles_and_paste_lines_agree_with_the_table(rows, framed, bounded):
    sweep = sweep_of_rows(rows, framed, bounded)
    if not sweep.groups:
        assert "No trial succeeded, so there is nothing to compare." in "\n".join(
            markdown(Findings(sweep), plotted=False)
        )
        return
    check(sweep)


# Grids whose answer is known.


def decided(*rows):
    sweep = sweep_of_rows(rows)
    return decide(sweep.groups, sweep.failed_settings)


@pytest.mark.parametrize("policy", ["gdsf", "sieve"])
def test_settings_at_different_limits_are_ranked_by_their_seconds_and_not_by_the_alphabet(policy):
    decision = decided((policy, "2MiB", "monte_carlo", 0, 39.0), ("lru", "32MiB", "monte_carlo", 0, 12.0))
    assert decision.sentence == (
        "Of 2 settings lru with a limit of 32 MiB took the fewest seconds: 12.0 compile seconds a run, 27.0 less "
        f"than {policy} with a limit of 2 MiB (1 repeat: too few for an interval); with no limit, as under jax.jit "
        "alone, 4.0."
    )
    assert decision.override == "eviction=lru memory_limit=32MiB"
    assert not [note for note in decision.notes if "was tried" in note]
    assert decision.notes[0].startswith("No other policy was run at a limit of lru, so policies are not compared")


@pytest.mark.parametrize(
    "other",
    [
        ("lru", "2MiB", "least_squares", 0, 5.0),  # another workload
        ("lru", "2MiB", "monte_carlo", 1, 5.0),  # another seed
    ],
)
def test_what_shares_no_cell_is_not_ranked_and_nothing_is_recommended(other):
    decision = decided(("gdsf", "2MiB", "monte_carlo", 0, 39.0), other)
    assert decision.sentence.startswith("No two settings have run the same program and seed, so nothing is ranked: ")
    assert (decision.setting, decision.override, decision.python) == (None, "", "")


def test_precisions_and_shapes_make_cells_of_their_own():
    made = [result("gdsf", cost_seconds=9.0), result("lru", cost_seconds=5.0)]
    config = made[1].config
    for changed in (
        config.model_copy(update={"precision": "bfloat16"}),
        config.model_copy(update={"shapes": config.shapes.model_copy(update={"distinct": 4})}),
    ):
        other = made[1].model_copy(update={"config": changed, "program_id": changed.program_id})
        assert decide(sweep_of([made[0], other]).groups).setting is None


def test_a_setting_that_lacks_its_dearest_seed_is_not_cheaper_for_it():
    decision = decided(
        ("lru", "2MiB", "monte_carlo", 0, 10.0), ("lru", "2MiB", "monte_carlo", 1, 30.0),
        ("gdsf", "2MiB", "monte_carlo", 0, 12.0),
    )  # fmt: skip
    assert decision.sentence.startswith(
        "Compared on monte_carlo, zipf with seed 0, which all settings have run: No policy is shown to be better than "
        "the rest; lru with a limit of 2 MiB took the fewest seconds: 10.0 compile seconds a run; with no limit, "
        "as under jax.jit alone, 4.0"
    )
    assert decision.scope == "monte_carlo, zipf with seed 0"


def test_settings_of_two_workloads_are_answered_for_apart():
    decision = decided(
        *((policy, "2MiB", "monte_carlo", 0, seconds) for policy, seconds in (("lru", 12.0), ("gdsf", 20.0))),
        *((policy, "8MiB", "least_squares", 0, seconds) for policy, seconds in (("lru", 30.0), ("gdsf", 9.0))),
    )
    assert decision.sentence.startswith("Compared on ")
    assert "which 2 of 4 settings have run" in decision.sentence
    answers = [decision.sentence, *decision.notes]
    assert sum("gdsf with a limit of 8 MiB took the fewest seconds" in each for each in answers) == 1
    assert sum("lru with a limit of 2 MiB took the fewest seconds" in each for each in answers) == 1


def test_a_policy_whose_trials_all_failed_was_tried_and_is_named():
    decision = decided(("gdsf", "2MiB", "monte_carlo", 0, None), ("lru", "2MiB", "monte_carlo", 0, 9.0))
    assert decision.sentence.startswith("One setting has succeeded, lru with a limit of 2 MiB: 9.0 compile seconds")
    assert decision.notes[0] == "One policy was compared, so nothing is said of others."
    assert decision.notes[-1] == "gdsf at 2 MiB has no successful trial, so nothing is said of it."


def test_one_failed_trial_does_not_take_the_others_out_of_the_comparison():
    rows = [(policy, "2MiB", "monte_carlo", seed, 10.0 + seed) for policy in POLICIES for seed in range(4)]
    rows[-1] = (*rows[-1][:4], None)
    assert decided(*rows).scope == "monte_carlo, zipf with seeds 0 to 2"


def test_a_limit_that_a_unit_would_round_is_pasted_in_bytes():
    made = [result("lru", limit=limit, cost_seconds=5.0) for limit in (3_000_001, 8 * 2**20)]
    decision = decide(sweep_of(made).groups)
    assert decision.override == "eviction=lru memory_limit=3000001"
    assert decision.python == 'jaxcache.JitCache(3000001, eviction="lru")'


def test_settings_of_buckets_that_differ_are_pasted_with_their_settings():
    trial = result().config
    made = []
    for count, seconds in ((4, 9.0), (8, 5.0)):
        config = trial.model_validate({**trial.model_dump(), "buckets": {"name": "linear", "count": count}})
        made.append(result(cost_seconds=seconds).model_copy(update={"config": config}))
    assert decide(sweep_of(made).groups).override == "eviction=lru memory_limit=2MiB buckets=linear buckets.count=8"


@pytest.mark.parametrize(
    ("run_seconds", "chosen", "why"),
    [
        ((20.0, 1.0), "pow2", "took the fewest seconds of compiling and running together"),
        ((1.0, 20.0), "none", "took the fewest seconds"),
    ],
)
def test_buckets_are_chosen_with_the_seconds_that_padding_costs(run_seconds, chosen, why):
    made = []
    for limit, buckets, cost, running in zip(("8MiB", "2MiB"), ("none", "pow2"), (9.0, 12.0), run_seconds, strict=True):
        one = result(limit=limit, cost_seconds=cost)
        config = one.config.model_validate({**one.config.model_dump(), "buckets": {"name": buckets}})
        timing = one.timing.model_copy(update={"run_seconds": running})
        made.append(one.model_copy(update={"config": config, "timing": timing, "program_id": config.program_id}))
    made.append(made[1].model_copy(update={"config": made[1].config.model_copy(update={"memory_limit": 4 * 2**20})}))
    other = result("gdsf", limit="64MiB", cost_seconds=39.0)
    decision = decide(sweep_of([*made, other]).groups)
    assert decision.setting.buckets == chosen
    assert f"Of 4 settings lru with a limit of {decision.setting.limit}, buckets {chosen} {why}: " in decision.sentence


@pytest.mark.parametrize("seconds", [3.0, 41.0])
def test_a_frame_at_other_prices_than_the_trial_is_not_shown(seconds):
    (group,) = sweep_of_rows([("lru", "2MiB", "monte_carlo", 0, seconds)]).groups
    assert group.frame is None
    html = answer(Findings(sweep_of_rows([("lru", "2MiB", "monte_carlo", 0, seconds)])))
    assert "under jax.jit alone" not in html
