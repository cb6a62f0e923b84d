"""The catalogue, the checks of claims at smoke scale, and the committed results."""

import dataclasses
import functools
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import heuretic as hr
from heuretic.ideas import all_ideas, condconv, efficientnet, get, lion, pyglove
from heuretic.ideas.idea import Scale
from heuretic.ideas.result import FORMAT, VERDICTS, Arm, Reproduction, compare, estimate, read
from heuretic.ideas.studies import keep
from heuretic.nn.published import Published
from heuretic.study import open_study
from heuretic.symbolic import PatchError, patch_name
from heuretic.symbolic.catalog import entries
from heuretic.symbolic.names import resolve
from vision_models import IMAGES, PlainResNet

ROOT = Path(__file__).resolve().parents[1]
RESULTS = sorted((ROOT / "results").glob("*/*.json"))


# -- the catalogue ----------------------------------------------------------------------------------------------


def test_every_published_idea_is_complete_and_under_its_own_slug() -> None:
    ideas = all_ideas()
    assert [idea.slug for idea in ideas] == sorted(entries())
    slugs = {
        "functional-hashing",
        "layernas",
        "lion",
        "mnasnet",
        "primer",
        "pyglove",
        "smooth-adversarial-training",
        "tabnas",
    }
    assert slugs <= {idea.slug for idea in ideas}
    for idea in ideas:
        assert get(idea.slug) is idea
        assert idea.title
        assert idea.claim
        assert idea.paper.url.startswith("https://arxiv.org/abs/")
        assert f"arXiv:{idea.paper.arxiv}" in (
            sys.modules[f"heuretic.ideas.{idea.slug.replace('-', '_')}"].__doc__ or ""
        )
        assert json.loads(json.dumps(idea.summary()))["slug"] == idea.slug
        for name in idea.provides:
            assert callable(resolve(name, ("heuretic",)))


def test_a_patch_is_found_by_its_slug_and_writes_its_own_address() -> None:
    for idea in all_ideas():
        if idea.patch is not None:
            assert patch_name(idea.patch) == idea.slug
            assert hr.symbolic.patch_at(idea.slug) == idea.patch()
            assert idea.patch().address == idea.slug


@pytest.mark.parametrize("idea", [i for i in all_ideas() if i.patch], ids=lambda idea: idea.slug)
def test_the_usage_shown_for_a_patch_runs(idea) -> None:
    scope = {
        "hr": hr,
        "model": PlainResNet(),
        "program": hr.sym(functools.partial)(torch.optim.AdamW),
        "images": IMAGES,
        "adversarial_images": IMAGES,
        "labels": torch.tensor([1, 2]),
        "criterion": torch.nn.functional.cross_entropy,
    }
    before = dict(scope)
    exec(idea.usage, scope)
    assert scope["model"] is not before["model"] or scope["program"] != before["program"]


def test_status_says_what_there_is() -> None:
    assert get("lion").status == "patch, reproduction"
    assert get("primer").status == "patch"
    assert get("pyglove").status == "reproduction"
    assert dataclasses.replace(get("primer"), patch=None).status == "reference only"


def test_an_unknown_idea_is_refused_with_a_suggestion() -> None:
    with pytest.raises(PatchError, match=r"no idea is called 'primr'. Did you mean 'primer'"):
        get("primr")


# -- results ----------------------------------------------------------------------------------------------------


def test_estimates_are_student_t_intervals() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for count in (2, 3, 5, 10, 31, 60, 200):
        values = [(7 * i) % 11 + i / 3 for i in range(count)]
        mean, spread = statistics.fmean(values), statistics.stdev(values) / count**0.5
        low, high = scipy_stats.t.interval(0.95, count - 1, mean, spread)
        found = estimate(values)
        assert found.low is not None
        assert found.high is not None
        assert found.mean == pytest.approx(mean)
        assert (mean - found.low, found.high - mean) == pytest.approx((mean - low, high - mean), rel=3e-4)
    assert estimate([4.0]).low is None
    for wrong in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="values must be finite and at least one"):
            estimate(wrong)


def make_result(**changes) -> Reproduction:
    arms = {
        "new": Arm({"lr": 0.1}, {"loss_nats": (1.0, 2.0, 2.5)}),
        "old": Arm({"lr": 0.2}, {"loss_nats": (1.5, 2.0, 3.5)}),
    }
    given = {
        "idea": "lion", "claim": "c", "scale": "small", "seeds": (1, 2, 3), "data": {"d": "00"}, "arms": arms,
        "comparisons": (compare(arms, "loss_nats", "new", "old"),), "rule": "r", "verdict": "reproduced",
        "reason": "because", "seconds": 1.5,
    }  # fmt: skip
    return Reproduction(**{**given, **changes})


def test_a_result_is_written_and_read_back(tmp_path: Path) -> None:
    result = make_result()
    path = result.write(tmp_path)
    assert path == tmp_path / "lion" / "small.json"
    assert read(path) == result
    record = json.loads(path.read_text())
    assert record["comparisons"][0]["differences"] == [-0.5, 0.0, -1.0]
    assert record["comparisons"][0]["mean"] == -0.5
    assert record["command"] == "heuretic reproduce lion --scale small"
    assert record["versions"]["torch"] == torch.__version__


def test_a_result_that_was_edited_by_hand_is_refused(tmp_path: Path) -> None:
    path = make_result().write(tmp_path)
    record = json.loads(path.read_text())
    record["arms"]["new"]["measurements"]["loss_nats"]["mean"] = 0.5
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="must agree with itself, got arms edited"):
        read(path)
    path.write_text(json.dumps({"format": FORMAT}))
    with pytest.raises(ValueError, match="must have 'idea'"):
        read(path)
    with pytest.raises(ValueError, match="verdict and scale must be of"):
        make_result(verdict="great")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_committed_results_are_whole_and_follow_from_their_numbers(path: Path) -> None:
    result = read(path)
    idea = get(path.parent.name)
    assert (result.idea, result.scale) == (path.parent.name, path.stem)
    assert result.scale in ("small", "full"), "smoke runs are not committed"
    assert result.claim == idea.claim
    assert result.verdict in VERDICTS
    assert {"heuretic", "python", "platform", "processor", "cores"} <= set(result.facts)
    assert all(len(checksum) == 64 for checksum in result.data.values())
    for arm in result.arms.values():
        assert all(len(values) in (1, len(result.seeds)) for values in arm.measurements.values())
    if result.idea == "lion":
        assert (result.verdict, result.reason) == lion.judge(result.scale, result.arms, result.comparisons)
        assert result.rule == lion.RULE
    if result.idea == "pyglove":
        patches, hand = result.arms["patches"].settings, result.arms["by hand"].settings
        judged = pyglove.judge(result.scale, patches["lines_of"], hand["lines_of"], hand["largest_output_difference"])
        assert (result.verdict, result.reason) == judged
        assert result.rule == pyglove.RULE


def test_the_small_results_are_there() -> None:
    assert {f"{path.parent.name}/{path.name}" for path in RESULTS} >= {"lion/small.json", "pyglove/small.json"}


def test_the_page_of_ideas_is_up_to_date() -> None:
    script = ROOT / "docs" / "make_ideas_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# -- checks of claims -------------------------------------------------------------------------------------------


def test_lion_smoke_check_runs_and_repeats_bit_for_bit() -> None:
    pytest.importorskip("sklearn")
    said: list[str] = []
    state = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    first = lion.reproduce("smoke", progress=said.append)
    second = lion.reproduce("smoke", seeds=(2, 1))
    assert torch.equal(torch.random.get_rng_state(), state), "global randomness is untouched"
    assert torch.get_num_threads() == threads
    assert len(said) == len(first.arms) == 2
    assert first.verdict == "not testable at this scale"
    for name, arm in first.arms.items():
        assert arm.settings["settings_tried"] == 2
        again = second.arms[name].measurements["test_loss_nats"]
        assert arm.measurements["test_loss_nats"] == tuple(reversed(again))
    adamw, ours = (first.arms[f"{label} on digits"] for label in ("AdamW", "Lion"))
    assert ours.measurements["optimizer_state_bytes"][0] * 2 == adamw.measurements["optimizer_state_bytes"][0]
    assert adamw.measurements["test_accuracy"][0] > 0.5, "it learns"
    assert ours.settings["lr"] in (1e-4, 1e-3)
    assert ours.settings["weight_decay"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((-0.30, -0.31, -0.29), "reproduced"),
        ((0.001, -0.001, 0.0), "reproduced"),
        ((0.30, 0.31, 0.29), "not reproduced"),
        ((0.010, 0.011, 0.009), "not reproduced"),
        ((0.4, -0.4, 0.1), "not testable at this scale"),
    ],
)
def test_lion_is_judged_by_its_rule(differences: tuple[float, ...], verdict: str) -> None:
    adamw = (1.0, 1.1, 0.9)
    arms = {
        "AdamW on x": Arm({}, {"test_loss_nats": adamw, "optimizer_state_bytes": (80.0,)}),
        "Lion on x": Arm(
            {},
            {
                "test_loss_nats": tuple(a + d for a, d in zip(adamw, differences, strict=True)),
                "optimizer_state_bytes": (40.0,),
            },
        ),
    }
    comparisons = (compare(arms, "test_loss_nats", "Lion on x", "AdamW on x"),)
    assert lion.judge("small", arms, comparisons)[0] == verdict
    assert lion.judge("smoke", arms, comparisons)[0] == "not testable at this scale"
    arms["Lion on x"] = dataclasses.replace(
        arms["Lion on x"], measurements={**arms["Lion on x"].measurements, "optimizer_state_bytes": (41.0,)}
    )
    assert lion.judge("small", arms, comparisons)[0] == "not reproduced"


def test_lion_check_refuses_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="scale must be one of smoke, small, full, got 'big'"):
        lion.reproduce("big")  # type: ignore[arg-type]
    for seeds in ((1,), (1, 1), (0, 1)):
        with pytest.raises(ValueError, match="seeds must be at least 2, different"):
            lion.reproduce("smoke", seeds=seeds)
    monkeypatch.delenv("HEURETIC_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"HEURETIC_DATA must name a folder with fashion_mnist"):
        lion.reproduce("small")


def test_pyglove_smoke_check_finds_patches_and_hand_edits_equal() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    result = pyglove.reproduce("smoke")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state), "global randomness is untouched"
    assert result.verdict == "not testable at this scale"
    patches, hand = result.arms["patches"], result.arms["by hand"]
    differences = hand.settings["largest_output_difference"]
    assert list(differences) == [
        "primer in encoder",
        "smooth-adversarial-training in cnn",
        "smooth-adversarial-training in plain_resnet",
        "smooth-adversarial-training in encoder",
        "condconv in cnn",
        "condconv in plain_resnet",
        "advprop in plain_resnet",
        "stochastic-depth in plain_resnet",
        "stochastic-depth in encoder",
    ]
    for pair, difference in differences.items():
        assert difference <= (1e-6 if pair.startswith("condconv") else 0), pair
    assert patches.measurements["units"] == (5.0,)
    assert patches.measurements["edits"] == (9.0,)
    assert hand.settings["places_of"]["advprop in plain_resnet"] == 10, "its batch normalisations"
    assert hand.measurements["edits"] == (float(sum(hand.settings["places_of"].values())),)
    table = patches.settings["per_idea"]
    assert sum(row["lines_by_patch"] for row in table.values()) == patches.measurements["lines"][0]
    assert sum(row["lines_by_hand"] for row in table.values()) == hand.measurements["lines"][0]
    assert hand.measurements["lines_written_once"] < hand.measurements["lines"]


#: Per file, what is written there, what stands in its place, and whether the two can be compared at all.
WRONG_EDITS = [
    ("smooth_adversarial_training/cnn", "model[3] = nn.SiLU()", "model[3] = nn.GELU()", True),
    ("smooth_adversarial_training/cnn", "model[", "model.x = [None] * 4; model.x[", False),
    ("primer/encoder", "layer.activation = squared_relu", "layer.activation = nn.functional.silu", True),
    ("condconv/cnn", "1 / 8", "1 / 9", True),
    ("condconv/cnn", "0.1 * c.weight.std()", "0.3 * c.weight.std()", False),
    ("condconv/plain_resnet", "len(convs) // 2 :", "len(convs) // 2 + 1 :", False),
    ("advprop/plain_resnet", "norm.eps, norm.momentum", "norm.eps, 0.2", True),
    ("advprop/plain_resnet", "new.load_state_dict(norm.state_dict())", "new.affine = False", True),
    ("advprop/plain_resnet", "AuxiliaryBatchNorm(", "nn.BatchNorm2d(", False),
    ("stochastic_depth/plain_resnet", "rate=0.2", "rate=0.3", True),
    ("stochastic_depth/plain_resnet", "if m.training else y", "", True),
    ("stochastic_depth/encoder", "0.2 * (2 * i + 2)", "0.2 * (2 * i + 1)", True),
    ("stochastic_depth/encoder", "enumerate(model.layers)", "enumerate([])", False),
]


@pytest.mark.parametrize(("file", "written", "instead", "comparable"), WRONG_EDITS)
def test_a_hand_edit_that_does_something_else_is_noticed(
    file: str, written: str, instead: str, comparable: bool, tmp_path: Path
) -> None:
    source = ROOT / "benchmarks" / "patching"
    edit = (source / f"{file}.py").read_text()
    assert written in edit
    (tmp_path / file).parent.mkdir()
    (tmp_path / "models.py").write_text((source / "models.py").read_text())
    (tmp_path / f"{file}.py").write_text(edit.replace(written, instead))
    result = pyglove.reproduce("smoke", folder=tmp_path)
    [(pair, difference)] = result.arms["by hand"].settings["largest_output_difference"].items()
    assert difference > 1e-5 if comparable else difference is None
    judged = pyglove.judge("small", {pair.partition(" in ")[0]: 1}, {pair: 9}, {pair: difference})
    assert judged[0] == "not reproduced"
    assert f"Not done by the patch: {pair}." in judged[1]
    assert result.arms["by hand"].measurements["lines"] == (0.0,), "it saves nothing"


def test_pyglove_is_judged_by_its_rule() -> None:
    def judged(lines: int, difference: float | None = 0.0, scale: Scale = "small") -> tuple[str, str]:
        hand = {"primer in bert": lines, "primer in vit": lines, "condconv in cnn": 10}
        return pyglove.judge(
            scale, {"primer": 10, "condconv": 8}, hand, {**dict.fromkeys(hand, 0.0), "primer in vit": difference}
        )

    verdict, reason = judged(40)
    assert verdict == "reproduced"
    assert "2 patches of 18 lines did exactly the work of 3 of 3 hand edits in 3 models, of 90 lines" in reason
    assert "80% fewer lines (primer 88% fewer, condconv 20% fewer)" in reason
    assert "against 30.0; at this price the paper's 80% takes about 3 models." in reason
    assert judged(39)[0] == "not reproduced"
    assert judged(400, 1e-9)[0] == judged(400, None)[0] == "not reproduced"
    assert judged(400, scale="smoke")[0] == "not testable at this scale"
    rounded = {"condconv in cnn": 5e-7}
    assert pyglove.judge("small", {"condconv": 1}, {"condconv in cnn": 9}, rounded)[0] == "reproduced"
    assert pyglove.judge("small", {"primer": 1}, {"primer in cnn": 9}, {"primer in cnn": 5e-7})[0] == "not reproduced"


def test_lines_of_code_leave_out_comments_blanks_and_docstrings() -> None:
    source = '''"""Module
docstring."""

# a comment
import os  # counts


def f(x):
    """One."""

    return """two
lines"""


class A:
    """Doc."""

    y = (
        1,
    )


IDEA = dict(
    a=1,
)
'''
    assert pyglove.code_lines(source) == 1 + 3 + 4 + 3
    assert pyglove.code_lines(source, leave_out=("IDEA",)) == 1 + 3 + 4
    assert pyglove.code_lines(source, only=("f",)) == 3
    using = source.replace("return", "os.abort()\n    return")
    assert pyglove.code_lines(using, only=("f",)) == 1 + 4, "with the import it needs"
    assert pyglove.lines_written_once([source, source]) == pyglove.code_lines(source)
    assert pyglove.lines_written_once([source, using]) == pyglove.code_lines(source) + 4


def test_a_reproduction_is_kept_as_a_study(tmp_path: Path) -> None:
    result = pyglove.reproduce("smoke")
    url = f"sqlite:///{tmp_path}/s.db"
    first, second = keep(result, url), keep(result, url)
    assert (first.name, second.name) == ("reproduce/pyglove/smoke", "reproduce/pyglove/smoke/2")
    study = open_study(url, "reproduce/pyglove/smoke")
    assert len(study.trials) == len(result.arms) * len(result.seeds)
    assert [t.values["lines"] for t in study.trials] == [
        arm.measurements["lines"][0] for arm in result.arms.values() for _ in result.seeds
    ]
    assert study.direction == "minimize"
    assert study.best is not None
    assert study.best.values["lines"] == min(arm.measurements["lines"][0] for arm in result.arms.values())
    assert {(study.decode(t).arm, study.decode(t).seed) for t in study.trials} == {
        (arm, seed) for arm in result.arms for seed in result.seeds
    }
    [facts] = [facts for facts in study.environments.values() if "verdict" in facts]
    assert facts["verdict"] == result.verdict
    assert facts["command"] == "heuretic reproduce pyglove --scale smoke"


# -- efficientnet -----------------------------------------------------------------------------------------------


def test_efficientnet_check_counts_what_scaling_gives() -> None:
    said: list[str] = []
    result = efficientnet.reproduce("smoke", progress=said.append)
    assert (result.verdict, len(said)) == ("reproduced", 8)
    assert result.arms["scaled here"].measurements["b7_parameters_millions"] == (66.34796,)
    assert "+4.6%, of B4" in result.reason
    with pytest.raises(ValueError, match="scale must be one of smoke, small, full, got 'big'"):
        efficientnet.reproduce("big")  # type: ignore[arg-type]


def test_efficientnet_check_tells_other_networks_apart() -> None:
    printed = Published("x", "y", 224, "5.3", "0.39")
    assert efficientnet.differing(printed, 5_399_000, 0.40e9) == []
    assert efficientnet.differing(printed, 5_401_000, 0.41e9) == ["parameters", "multiply-adds"]
    here = {"b0_multiply_adds_billions": (0.5,)}
    assert efficientnet.judge(here, {"b0_multiply_adds_billions": (0.4,)}, ["multiply-adds of B0"]) == (
        "not reproduced",
        "Not as printed: multiply-adds of B0; largest difference of multiply-adds +25.0%, of B0.",
    )


# -- condconv ---------------------------------------------------------------------------------------------------


def test_condconv_smoke_check_runs_and_repeats_bit_for_bit() -> None:
    said: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        first, second = condconv.reproduce("smoke", progress=said.append), condconv.reproduce("smoke")
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert first.arms == second.arms
    assert (first.verdict, len(said), first.seeds) == ("not testable at this scale", 4, (1, 2))
    experts, plain = (first.arms[name] for name in ("condconv", "plain"))
    assert experts.settings["parameters"] > plain.settings["parameters"]
    assert experts.measurements["multiply_adds"][0] > plain.measurements["multiply_adds"][0]
    for seeds in ((1,), (1, 1)):
        with pytest.raises(ValueError, match="seeds must be at least 2 and different"):
            condconv.reproduce("smoke", seeds=seeds)
    with pytest.raises(ValueError, match="scale must be one of smoke, small, full, got 'big'"):
        condconv.reproduce("big")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("differences", "multiply_adds", "verdict"),
    [
        ((0.02, 0.03), 1.05, "reproduced"),
        ((0.02, 0.03), 1.2, "not reproduced"),
        ((-0.02, -0.03), 1.05, "not reproduced"),
        ((-0.02, 0.03), 1.05, "not testable at this scale"),
    ],
)
def test_condconv_verdict_follows_its_rule(
    differences: tuple[float, float], multiply_adds: float, verdict: str
) -> None:
    plain = Arm({}, {"test_accuracy": (0.5, 0.5) * 5, "multiply_adds": (1.0,) * 10})
    treated = tuple(0.5 + d for d in differences * 5)
    arms = {"plain": plain, "condconv": Arm({}, {"test_accuracy": treated, "multiply_adds": (multiply_adds,) * 10})}
    comparison = compare(arms, "test_accuracy", "condconv", "plain")
    assert condconv.judge("small", arms, comparison)[0] == verdict
    assert condconv.judge("smoke", arms, comparison)[0] == "not testable at this scale"
