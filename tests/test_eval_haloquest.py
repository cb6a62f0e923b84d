"""HaloQuest: its data, its judge, its images from a server on the loopback, and the pictures drawn here."""

import base64
import gzip
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

import heuretic as hr
from heuretic.evals.addresses import EVALUATIONS
from heuretic.evals.drawn_images import COLOURS, SHAPES, drawing, drawn
from heuretic.evals.haloquest import COLUMNS, KINDS, HaloQuest, answers_of, read_rows, spread
from heuretic.evals.haloquest_images import ImageAbsent, ImageSource, checked, is_public, with_images
from heuretic.evals.haloquest_judge import (
    SCHEMA,
    AutoEval,
    matches,
    official_judgement,
    overlap,
    read_judgement,
    tolerant_judgement,
)
from heuretic.evals.results import Results
from heuretic.evals.running import evaluate
from heuretic.ideas import haloquest
from heuretic.ideas.result import read
from heuretic.lm import Answer
from heuretic.lm.waiting import wait
from scripted import scripted
from test_local_models import make_folder

HEADER = ",".join(COLUMNS)
BEE = "There is no bee in the image.; The image does not include a bee."


def line(
    number: int = 0,
    url: str = "http://127.0.0.1:9/a.png",
    kind: str = "false premises",
    split: str = "eval",
    **more: str,
) -> str:
    question, answers = more.get("question", f"What color is bee {number}?"), more.get("answers", BEE)
    return f'a.png,{url},{more.get("image", "generated")},{kind},"{question}","{answers}",{split}'


def written(folder: Path, *lines: str, part: str = "eval") -> Path:
    path = folder / "haloquest" / f"haloquest_{part}.csv.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("\n".join((HEADER, *lines)).encode()))
    return path


def judgement(correct: bool, **changed: object) -> str:
    values: dict[str, object] = (
        {name: "it's a text" for name, _ in SCHEMA} | {"is_prediction_correct": correct} | changed
    )
    return "PredictionEvaluation(\n" + "".join(f"  {name}={value!r},\n" for name, value in values.items()) + ")"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    monkeypatch.delenv("HEURETIC_OFFLINE", raising=False)
    return tmp_path


# The data


def test_rows_keep_what_was_published(folder: Path) -> None:
    path = written(
        folder, line(0), line(1, answers="Four\n; Four ;  four fingers;", kind="visual challenge", image="real")
    )
    rows, notes = read_rows(path, "eval")
    assert [row.id for row in rows] == ["eval-0", "eval-1"]
    assert rows[0].groundtruth == BEE
    assert answers_of(rows[1].groundtruth) == ("Four", "Four", "four fingers")
    assert (rows[1].kind, rows[1].image_type, notes) == ("visual challenge", "real", ())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (line(1, split="train"), "split must be eval, got 'train' at .*haloquest_eval.csv.gz, row 1"),
        (line(1, kind="false premise"), "hallucination type must be one of .* row 1"),
        (line(1, image="painted"), "image type must be real or generated, got 'painted' at .* row 1"),
        (line(1, answers=" ; "), "groundtruth responses must have one"),
        (line(1, question=" "), "question must have a text"),
        (line(1, url="file:///etc/passwd"), "url must begin with http"),
        (line(1) + ",more", "as many cells as the header, got 1 too many"),
        ("a.png,http://a", "got 5 too few"),
        (line(0), "question must be new, got 'What color is bee 0"),
        ('a.png,http://a,real,false premises,"a"b,c,eval', "closed quotes.* row 1"),
        ('a.png,http://a,real,false premises,"an open quote,c,eval', "closed quotes.*row 1"),
    ],
)
def test_records_that_cannot_be_read_are_named_or_left_out(folder: Path, broken: str, said: str) -> None:
    last = [] if "open quote" in broken else [line(2)]  # an open quote swallows what follows
    path = written(folder, line(0), broken, *last)
    with pytest.raises(ValueError, match=said):
        read_rows(path, "eval")
    rows, notes = read_rows(path, "eval", corrupt="skip")
    assert [row.id for row in rows] == ["eval-0", *["eval-2"] * len(last)]
    assert "row 1" in notes[-1]


def test_the_same_question_with_other_answers_is_kept_and_told(folder: Path) -> None:
    rows, notes = read_rows(written(folder, line(0), line(0, answers="none")), "eval")
    assert len(rows) == 2
    assert notes == ("1 questions are asked twice about one image, with other answers",)


def test_files_that_are_no_data_are_refused(folder: Path) -> None:
    path = written(folder)
    with pytest.raises(ValueError, match="at least one"):
        read_rows(path, "eval")
    path.write_bytes(gzip.compress(HEADER.replace("url", "link").encode()))
    with pytest.raises(ValueError, match="got no url at"):
        read_rows(path, "eval")
    path.write_bytes(gzip.compress(line(0).encode())[:-9])
    with pytest.raises(ValueError, match="must be CSV in UTF-8"):
        read_rows(path, "eval")
    path.unlink()
    monkey = pytest.MonkeyPatch()
    monkey.setenv("HEURETIC_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="haloquest_eval"):
        HaloQuest().load()
    monkey.undo()


def test_published_files_have_a_column_without_a_name(folder: Path) -> None:
    path = folder / "haloquest.csv"
    path.write_text(f",{HEADER}\n0,{line(0)}\n1,{line(1)}\n")
    assert len(read_rows(path, "eval")[0]) == 2


def test_first_questions_are_from_all_categories(folder: Path) -> None:
    kinds = ["false premises"] * 30 + ["visual challenge"] * 20 + ["insufficient context"] * 10
    rows, _ = read_rows(written(folder, *(line(k, kind=kind) for k, kind in enumerate(kinds))), "eval")
    ordered = spread(rows)
    assert sorted(ordered, key=lambda row: row.id) == sorted(rows, key=lambda row: row.id)
    assert all(sum(row.kind == kind for row in ordered[:12]) == 4 for kind in set(kinds))
    assert ordered == spread(rows)


# The judge


def test_prompt_of_the_judge_is_the_published_one() -> None:
    asked = AutoEval().prompt("Is the bee on {response}?", "no", BEE)
    fields = [name.strip() for name in asked.split("class PredictionEvaluation:")[1].splitlines() if ": " in name]
    assert fields == [
        "question: str", "model_response: str", "groundtruth_response: str", "sentence_interpret_model_response_main_point: str",
        "sentence_interpret_groundtruth_response_main_point: str", "is_prediction_correct: bool",
    ]  # fmt: skip
    assert f"  question=Is the bee on {{response}}?,\n  model_response=no\n  groundtruth_response={BEE},\n" in asked
    assert asked.startswith("Please respond to the last INPUT_OBJECT with OUTPUT_OBJECT according to OUTPUT_TYPE.\n")
    assert asked.endswith("OUTPUT_OBJECT:")
    for rule in ('"yes", "no" or "nothing" should be', "can not assist or cannot provide", "counts exactly"):
        assert rule in asked
    with pytest.raises(ValueError, match=r"rules must have \{response\}"):
        AutoEval(rules="{question} {groundtruth}")


def test_judgements_are_read_as_published() -> None:
    found = official_judgement(
        f"Sure.\n```python\n{judgement(True, sentence_interpret_model_response_main_point='No bee (2)')}\n```"
    )
    assert found is not None
    assert (found.correct, found.response_point, found.groundtruth_point) == (True, "No bee (2)", "it's a text")
    assert official_judgement(judgement(True) + "\n" + judgement(False)) == official_judgement(judgement(False))
    for off in (
        judgement(True, is_prediction_correct="True"), judgement(True, question=3), "PredictionEvaluation(is_prediction_correct=True)",
        judgement(True).replace("question=", "is_prediction_correct=True, question=", 1), "PredictionEvaluation(", "",
        judgement(True).replace("True", "__import__('os').getpid()"), "PredictionEvaluation" + "(" * 5000 + ")" * 5000,
    ):  # fmt: skip
        assert official_judgement(off) is None


@pytest.mark.parametrize(
    ("reply", "correct"),
    [
        ('{"question": "a", "is_prediction_correct": false}', False),
        ('```json\n{"result": {"_type": "PredictionEvaluation", "is_prediction_correct": true}}\n```', True),
        ("main point: it's ok\n**is_prediction_correct**: True", True),
        ("is_prediction_correct = no", False),
        ("is_prediction_correct: bool", None),
        ("is_prediction_correct: True/False", None),
        ("is_prediction_correct: true or false", None),
        ("is_prediction_correct: True/False\nis_prediction_correct: False", False),
        ("is_prediction_correct=True ... is_prediction_correct=False", None),
        ("The prediction is correct.", None),
        ('{"is_prediction_correct": "maybe"}', None),
        ("{" * 100_000 + "}", None),
    ],
)
def test_other_forms_are_read_if_they_are_clear(reply: str, correct: bool | None) -> None:
    found = tolerant_judgement(reply)
    assert (None if found is None else found.correct) == correct
    assert read_judgement(reply, official=True) is None


def test_matching_follows_the_published_rules() -> None:
    bee = answers_of(BEE)
    assert matches("I do not see a bee.", bee)
    assert matches("There isn't any bee in this picture", bee)
    for wrong in ("no", "nothing", "yes", "It is yellow", "The bee is on the flower.", "", "There is no flower."):
        assert not matches(wrong, bee)
    assert matches("There are three dogs", ("3",))
    assert matches("2", ("Two steps are visible; ", "two"))
    for wrong in ("There are 3 or 4", "4", "dogs", "no 3"):
        assert not matches(wrong, ("3", "three"))
    unknown = ("We cannot tell from the image", "It is impossible to know.")
    assert matches("This can't be determined from the picture.", unknown)
    assert matches("I don't know", unknown)
    for wrong in ("I'm sorry, but I can't assist with that request.", "There is no dog", "no", "Paris"):
        assert not matches(wrong, unknown)
    assert matches("None", ("none",))
    assert matches("0", ("Zero",))
    assert not matches("There is no dog", ("none",))
    assert not matches("anything", ())
    assert matches("None", ("None.", "There is no lizard"))
    for wrong in ("No.", "nothing"):
        assert not matches(wrong, ("None.", "There is no lizard"))


def test_right_answers_may_be_numbered() -> None:
    assert answers_of("1. No dog.; 2. There is no dog") == ("No dog.", "There is no dog")
    assert answers_of("2. two; 3. three") == ("2. two", "3. three")
    assert answers_of("1. No dog") == ("1. No dog",)


def test_overlap_is_the_best_f1_of_words() -> None:
    assert overlap("A red dog", ("the blue cat", "red dog")) == pytest.approx(2 * 2 / (3 + 2))
    assert overlap("", ("red",)) == overlap("red", ()) == 0.0
    assert overlap("TWO dogs", ("2 dog",)) == 1.0


def test_rules_are_fast() -> None:
    began = time.perf_counter()
    for _ in range(1000):
        matches("There is no bee in the image, as far as I can see.", answers_of(BEE))
        overlap("There is no bee in the image, as far as I can see.", answers_of(BEE))
    assert time.perf_counter() - began < 0.2 * 5  # 5,000 a second, and some room


# Images


def png(size: int = 40, kind: str = "PNG") -> bytes:
    held = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    pillow.fromarray(noise).save(held, kind)
    return held.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server  # pyright: ignore
        with server.lock:
            server.asked.append(self.path)
        name = self.path.partition("?")[0].rpartition("/")[2]
        if name.startswith("to-"):
            self.send_response(302)
            self.send_header("Location", {"to-loop": "/to-loop", "to-file": "file:///etc/passwd"}.get(name, "/ok.png"))
            self.end_headers()
            return
        if name == "gone.png":
            self.send_error(404)
            return
        data = {
            "page.png": b"<html>no image</html>",
            "large.png": png(200),
            "empty.png": b"",
            "cut.png": png()[:-400],
        }.get(name, png())
        self.send_response(200)
        if name != "endless.png":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if name == "slow.png":
            for _ in range(40):  # a little now and then, so that no single read is late
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        elif name == "broken-off.png":
            self.wfile.write(data[: len(data) // 2])
        elif name == "endless.png":
            for _ in range(50):
                self.wfile.write(bytes(10_000))
        else:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: those who do not wait for the end break the pipe."""


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


SOURCE = ImageSource(private=True, most_bytes=100_000)
HURRIED = ImageSource(private=True, timeout_s=0.5, most_bytes=100_000)


def test_an_image_is_fetched_once(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SOURCE.get(f"{server.url}/a b/ok.png?x=1")
    assert (found.data, found.kind) == (png(), "image/png")
    assert base64.b64decode(found.uri.removeprefix("data:image/png;base64,")) == png()
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    assert SOURCE.get(f"{server.url}/a b/ok.png?x=1") == found
    assert server.asked == ["/a%20b/ok.png?x=1"]
    with pytest.raises(ImageAbsent, match="HEURETIC_OFFLINE"):
        SOURCE.get(f"{server.url}/ok.png")
    [kept] = (folder / "cache" / "images").iterdir()
    assert len(kept.name) == 64


def test_a_damaged_file_of_the_cache_is_fetched_anew(server: Server, folder: Path) -> None:
    SOURCE.get(f"{server.url}/ok.png")
    [kept] = (folder / "cache" / "images").iterdir()
    kept.write_bytes(kept.read_bytes()[:-300])
    assert SOURCE.get(f"{server.url}/ok.png").data == png()
    assert len(server.asked) == 2
    assert kept.read_bytes() == png()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.png", "HTTP 404"),
        ("page.png", "not a whole image"),
        ("empty.png", "not a whole image"),
        ("cut.png", "not a whole image"),
        ("large.png", "larger than 100,000 bytes"),
        ("endless.png", "larger than 100,000 bytes"),
        ("slow.png", "no whole answer within 0.5 s"),
        ("broken-off.png", "broken off after"),
        ("to-loop", "more than 5 redirects"),
        ("to-file", "must begin with http"),
    ],
)
def test_what_is_no_whole_image_is_absent(server: Server, folder: Path, name: str, said: str) -> None:
    with pytest.raises(ImageAbsent, match=said):
        (HURRIED if name == "slow.png" else SOURCE).get(f"{server.url}/{name}")
    assert not (folder / "cache" / "images").exists()


def test_redirects_are_followed(server: Server) -> None:
    assert SOURCE.get(f"{server.url}/to-ok").data == png()


def test_this_machine_and_private_networks_are_not_asked(server: Server) -> None:
    for url in (f"{server.url}/ok.png", f"http://localhost:{server.server_port}/ok.png"):
        with pytest.raises(ImageAbsent, match="not public"):
            ImageSource(timeout_s=2.0).get(url)
    assert server.asked == []
    for address in (
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1%eth0",
        "100.64.0.1",
        "224.0.0.1",
        "0.0.0.0",
    ):
        assert not is_public(address)
    assert is_public("8.8.8.8")
    assert is_public("2001:4860:4860::8888")


def test_a_closed_port_and_a_strange_address_are_absent() -> None:
    for url, said in (
        ("http://127.0.0.1:1/a.png", "no answer"),
        ("ftp://a/b", "must begin"),
        ("http://[/a", "no answer"),
        ("http:///a", "must begin"),
    ):
        with pytest.raises(ImageAbsent, match=said):
            SOURCE.get(url)


def test_images_have_a_largest_size_and_known_kinds() -> None:
    with pytest.raises(ImageAbsent, match="more than 100 pixels"):
        checked(png(), most_pixels=100)
    assert [checked(png(kind=kind)).kind for kind in ("JPEG", "GIF", "WEBP")] == [
        "image/jpeg",
        "image/gif",
        "image/webp",
    ]
    with pytest.raises(ImageAbsent):
        checked(png(kind="BMP"))


def test_images_come_in_order_and_the_dead_are_asked_for_once(server: Server) -> None:
    urls = [f"{server.url}/{name}" for name in ("gone.png", "ok.png") * 20]
    one = ImageSource(private=True, concurrency=1)
    found = list(with_images(urls, lambda url: url, one))
    assert [item for item, _ in found] == urls
    assert [isinstance(image, ImageAbsent) for _, image in found] == [True, False] * 20
    assert sorted(server.asked) == ["/gone.png", "/ok.png"]
    few = with_images(urls, lambda url: url, one)
    next(few)
    few.close()  # without waiting for all


# The evaluation


def test_an_absent_image_has_no_score_and_is_counted(server: Server, folder: Path) -> None:
    written(folder, *(line(k, f"{server.url}/{'gone' if k % 3 == 0 else 'ok'}.png") for k in range(9)))
    asked: list[str] = []
    model_asked: list[str] = []
    run = evaluate(
        HaloQuest(images=SOURCE),
        scripted(lambda p, c: "No bee.", model_asked),
        judge=scripted(lambda p, c: judgement(True), asked),
    )
    assert dict(run.unscored) == {"image absent": 3}
    assert len(model_asked) == 6, "nobody is asked about an image that is not there"
    assert (run.score.value, run.score.count, run.bounds) == (1.0, 6, (6 / 9, 1.0))
    assert run.summary["without score"].value == pytest.approx(1 / 3)
    assert len(asked) == 6
    assert all("model_response=No bee." in prompt for prompt in asked)


def test_the_image_is_part_of_the_question(server: Server, folder: Path) -> None:
    written(folder, line(0, f"{server.url}/ok.png"))
    [question] = HaloQuest(images=SOURCE).load()
    assert question.parts[0].image == checked(png()).uri  # pyright: ignore
    assert question.target == answers_of(BEE)


def test_replies_off_format_are_asked_for_again_and_then_unjudged() -> None:
    replies = iter(["I think so", "correct!", judgement(False)])
    evaluation = HaloQuest(drawn=3, scoring="judge")
    [question, *_] = evaluation.load()
    answer = hr.lm.Answer("red", "answered", 1.0, (hr.lm.Sample("red", "answered", "Red"),), ())
    score = wait(evaluation.score(question, answer, scripted(lambda p, c: next(replies))))
    assert (score.value, len(score.steps)) == (0.0, 3)
    score = wait(evaluation.score(question, answer, scripted(lambda p, c: "who knows")))
    assert (score.value, len(score.steps)) == (None, 3)
    assert score.reason.startswith("judge off format: no verdict in 3 replies")
    with pytest.raises(ValueError, match="must have a judge"):
        wait(evaluation.score(question, answer))
    with pytest.raises(ValueError, match="must have a judge"):
        evaluate(evaluation, scripted(lambda p, c: "red"))


def test_cut_off_and_empty_replies_are_wrong_and_refusals_are_judged() -> None:
    evaluation, asked = HaloQuest(drawn=1, scoring="judge"), []
    [question] = evaluation.load()
    judge = scripted(lambda p, c: judgement(False), asked)
    for outcome, text in (("truncated", ""), ("empty", ""), ("overflow", ""), ("refused", "")):
        answer = Answer(None, outcome, 0.0, (hr.lm.Sample(None, outcome, text),), ())  # pyright: ignore
        score = wait(evaluation.score(question, answer, judge))
        assert (score.value, score.metrics["match without judge"], score.reason) == (0.0, 0.0, outcome)
    assert asked == []
    refused = Answer(None, "refused", 0.0, (hr.lm.Sample(None, "refused", "I'm sorry, I can't assist."),), ())
    assert wait(evaluation.score(question, refused, judge)).value == 0.0
    assert "can't assist" in asked[0]
    cut = Answer(None, "truncated", 0.0, (hr.lm.Sample(None, "truncated", "There is no bee in the"),), ())
    assert wait(evaluation.score(question, cut, scripted(lambda p, c: judgement(True)))).value == 1.0


def test_official_reads_objects_only() -> None:
    json_reply = '{"is_prediction_correct": true}'
    for official, value in ((False, 1.0), (True, None)):
        evaluation = HaloQuest(drawn=1, scoring="judge", official=official)
        [question] = evaluation.load()
        answer = Answer("no", "answered", 1.0, (hr.lm.Sample("no", "answered", "No bee."),), ())
        assert wait(evaluation.score(question, answer, scripted(lambda p, c: json_reply))).value == value


def test_reasoning_is_not_judged() -> None:
    asked: list[str] = []
    evaluate(
        HaloQuest(drawn=1, scoring="judge"), scripted(lambda p, c: "<think>A bee!</think>No bee."),
        judge=scripted(lambda p, c: judgement(True), asked),
    )  # fmt: skip
    assert "model_response=No bee." in asked[0]
    assert "A bee!" not in asked[0]


def test_drawn_pictures_run_without_anything_else() -> None:
    right = {each.question + str(k): each.answers[0] for k, each in enumerate(drawn(9))}
    texts = iter(right.values())
    run = evaluate(HaloQuest(drawn=9), scripted(lambda p, c: next(texts)), concurrency=1)
    assert run.summary["match without judge"].value == 1.0
    assert run.judge is None
    assert set(run.groups["category"]) == {"false premises", "visual challenge", "insufficient context"}
    blind = evaluate(HaloQuest(drawn=30), scripted(lambda p, c: "It cannot be determined from the image."))
    assert {name: each.value for name, each in blind.groups["category"].items()} == {
        "false premises": 0.0, "visual challenge": 0.0, "insufficient context": 1.0,
    }  # fmt: skip
    assert blind.constant is not None
    assert blind.constant > 1 / 3
    assert len(list(HaloQuest(drawn=9, kinds=("visual challenge",)).load())) == 3
    with pytest.raises(ValueError, match="kinds must be of"):
        HaloQuest(kinds=("lies",))
    with pytest.raises(ValueError, match="image_types must be of"):
        HaloQuest(image_types=("oil",))
    with pytest.raises(ValueError, match="image_types must be none"):
        HaloQuest(drawn=3, image_types=("real",))
    assert [
        HaloQuest.judged,
        *(each.needs_judge for each in (HaloQuest(), HaloQuest(drawn=3), HaloQuest(scoring="match"))),
    ] == [
        True,
        True,
        False,
        False,
    ]


def test_drawn_pictures_show_what_is_asked() -> None:
    for each in drawn(60, seed=3):
        picture = np.asarray(pillow.open(io.BytesIO(each.image().data)))
        for shape in each.shapes:
            x, y = (int((place + 0.5) * 120) for place in shape.place)
            seen = picture[y, x]
            assert shape.word or tuple(seen) == COLOURS[shape.colour]
        assert len({shape.place for shape in each.shapes}) == len(each.shapes)
        if each.category == "false premises":
            [missing] = [kind for kind in SHAPES if f"the {kind} " in each.question or f"the {kind}?" in each.question]
            assert all(shape.kind != missing for shape in each.shapes)
        if each.question.startswith("How many"):
            assert each.answers[0] == str(sum(f" {shape.kind}s " in each.question for shape in each.shapes))
        if "word" in each.question and each.category == "visual challenge":
            assert [shape.word.lower() for shape in each.shapes if shape.word] == [each.answers[0]]
    assert list(drawn(5)) == list(drawn(9))[:5] != list(drawn(5, seed=1))
    assert drawing(next(drawn(1)).shapes) == drawing(next(drawn(1)).shapes)


def test_settings_survive_an_address_and_json() -> None:
    assert EVALUATIONS.at("haloquest?official=true&drawn=4") == HaloQuest(official=True, drawn=4)
    evaluation = HaloQuest(drawn=4, scoring="judge", judge=AutoEval(tries=2))
    assert hr.loads(hr.dumps(evaluation)) == evaluation


# The claim


def test_the_claim_is_checked_without_a_model_by_the_scoring_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEURETIC_LM", raising=False)
    first, second = haloquest.reproduce("smoke"), haloquest.reproduce("smoke", seeds=(2, 1))
    assert first.verdict == "not testable at this scale"
    assert "No model that takes images" in first.reason
    assert first.data == second.data
    for kind in KINDS:
        assert first.arms[f"{haloquest.RIGHT}, {kind}"].measurements["accuracy"] == (1.0, 1.0)
        constant = 1.0 if kind == "insufficient context" else 0.0
        assert first.arms[f"{haloquest.CONSTANT}, {kind}"].measurements["accuracy"] == (constant, constant)
    with pytest.raises(ValueError, match="scale must be one of"):
        haloquest.reproduce("big")  # pyright: ignore
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        haloquest.reproduce("smoke", seeds=(1,))


def test_the_claim_is_judged_by_its_rule() -> None:
    def results(false: float, hard: float, lacking: float) -> Results:
        kinds = [kind for kind in KINDS for _ in range(40)]
        values = np.array([float(k % 40 < 40 * share) for k, share in enumerate(np.repeat([false, hard, lacking], 40))])
        return Results([str(k) for k in range(120)], values, ["answered"] * 120, {"category": kinds})

    d = haloquest.difference([results(0.2, 0.8, 0.4)])
    assert d.value == pytest.approx(0.3 - 0.8)
    assert haloquest.judged("small", d) == "reproduced"
    assert haloquest.judged("smoke", d) == "not testable at this scale"
    assert haloquest.judged("small", haloquest.difference([results(0.9, 0.3, 0.9)])) == "not reproduced"
    assert haloquest.judged("full", haloquest.difference([results(0.5, 0.5, 0.5)])) == "not testable at this scale"


def test_a_model_is_asked_where_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def script(prompt: str, config: object) -> str:
        return "There is 1 circle" if prompt.startswith("How many circle") else "red"

    monkeypatch.setattr(haloquest.reasoning, "chosen_model", lambda name: scripted(script))
    result = haloquest.reproduce("small", model="any/model")
    assert set(result.arms) == set(KINDS)
    assert result.arms["false premises"].measurements["accuracy"] == (0.0, 0.0)
    assert min(result.arms["visual challenge"].measurements["accuracy"]) > 0
    assert result.verdict == "reproduced"
    assert [c.treatment for c in result.comparisons] == ["false premises", "insufficient context"]
    result.write(tmp_path)
    assert read(tmp_path / "haloquest" / "small.json").record() == result.record()


def test_a_model_that_takes_no_images_has_no_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEURETIC_LM", f"heuretic/{make_folder(tmp_path / 'words', 'llama')}")
    said: list[str] = []
    result = haloquest.reproduce("smoke", progress=said.append)
    assert result.verdict == "not testable at this scale"
    assert "does it take images?" in result.reason
    assert "without score: {'error': 9}" in said[0]
