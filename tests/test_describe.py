"""`describe`: what it counts against values computed by hand, how it shows it, and the command line."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import typer.testing
from torch import Tensor, nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, ViTConfig, ViTForImageClassification

import heuretic as hr
from heuretic.cli.files import UsageError
from heuretic.cli.main import app, main
from heuretic.nn import Description, MultiplyAdds, describe, parameter_count
from heuretic.nn.description.module_costs import ModuleCosts
from heuretic.nn.description.quantities import binary, decimal, percent
from heuretic.symbolic import LoadError, OpenChoiceError

SMALL_VIT = ViTConfig(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8, num_labels=5
)  # fmt: skip


def small_net() -> nn.Sequential:
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(3, 4, 3, padding=1))
    net.add_module("norm", nn.BatchNorm2d(4))
    net.add_module("act", nn.ReLU())
    net.add_module("pool", nn.MaxPool2d(2))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(64, 5))
    return net


def at(description: Description, path: str) -> ModuleCosts:
    return next(part for part in description.modules() if part.path == path)


class Twice(nn.Module):
    """One layer in two places, one that is called twice, one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(4, 4)
        self.first = nn.Sequential(shared)
        self.second = nn.Sequential(shared, nn.ReLU())
        self.again = nn.ReLU()
        self.unused = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.second(self.again(self.first(x))))


# -- what is counted ------------------------------------------------------------------------------------------------


def test_a_small_network_by_hand() -> None:
    found = describe(small_net(), (2, 3, 8, 8))
    numbers = {
        part.path: (part.output, part.parameters, part.multiply_adds, part.activation_bytes, part.calls)
        for part in found.modules()
    }
    image = 2 * 4 * 8 * 8 * 4
    assert numbers == {
        "": ((2, 5), 445, 14_464, 2 * image + 1536, 1),
        "conv": ((2, 4, 8, 8), 3 * 4 * 9 + 4, 2 * 64 * 4 * 27, image, 1),  # kept by the normalisation
        "norm": ((2, 4, 8, 8), 8, 0, 0, 1),  # a ReLU keeps what it returns, not what it is given
        "act": ((2, 4, 8, 8), 0, 0, image, 1),
        "pool": ((2, 4, 4, 4), 0, 0, 2 * 64 * 4 + 2 * 64 * 8, 1),  # for the linear layer, and the places of the maxima
        "flat": ((2, 64), 0, 0, 0, 1),  # a view
        "fc": ((2, 5), 64 * 5 + 5, 2 * 64 * 5, 0, 1),
    }
    assert (found.parameters, found.trainable, found.buffers) == (445, 445, 9)
    assert found.weight_bytes == 445 * 4 + 8 * 4 + 8
    assert at(found, "conv").settings == "3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)"
    assert [part.path for part in sorted(found.modules(), key=lambda part: part.order)][-1] == ""


def test_memory_that_is_worked_on_in_place_counts_once_and_frozen_weights_keep_less() -> None:
    net = small_net()
    net.act = nn.ReLU(inplace=True)
    found = describe(net, (2, 3, 8, 8))
    assert (at(found, "norm").activation_bytes, at(found, "act").activation_bytes) == (2048, 0)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    net.fc.weight.requires_grad_(True)
    frozen = describe(net, (2, 3, 8, 8))
    assert frozen.activation_bytes == at(frozen, "pool").activation_bytes == 2 * 64 * 4
    assert (frozen.parameters, frozen.trainable) == (445, 320)
    assert "125 of them frozen" in str(frozen)


def test_totals_of_an_efficientnet_are_those_of_the_cost_functions() -> None:
    program = hr.nn.efficientnet_b0.program()
    shape = (1, 3, 96, 96)
    found = describe(program, shape)
    assert found.multiply_adds == MultiplyAdds(shape)(program)
    assert found.parameters == parameter_count(program) == 5_288_548
    assert sum(part.own_multiply_adds for part in found.modules()) == found.multiply_adds
    small = hr.nn.mnasnet_a1.program(10)
    with_weights, without = describe(hr.build(small), shape), describe(small, shape)
    assert with_weights.record() == without.record()
    mixed = describe(hr.nn.condconv_efficientnet_b0.program(), (1, 3, 64, 64))
    assert mixed.multiply_adds == MultiplyAdds((1, 3, 64, 64))(hr.nn.condconv_efficientnet_b0.program())


def test_totals_of_a_vision_transformer_with_weights_and_without() -> None:
    model = ViTForImageClassification(SMALL_VIT)
    with torch.device("meta"):
        without = ViTForImageClassification(SMALL_VIT)
    found, other = describe(model), describe(without)
    assert found.input == (1, 3, 32, 32)  # from its configuration
    assert found.record() == other.record()
    tokens, width, hidden = 17, 32, 64
    layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * hidden
    by_hand = 16 * 3 * 64 * width + 3 * layer + width * 5
    assert (
        found.multiply_adds == by_hand == MultiplyAdds((1, 3, 32, 32))(model) == MultiplyAdds((1, 3, 32, 32))(without)
    )
    assert found.parameters == parameter_count(model)
    assert found.root.output == {"logits": (1, 5)}
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 3)
    assert describe(encoder, (1, tokens, width)).multiply_adds == 3 * layer
    assert describe(model, {"pixel_values": torch.zeros(1, 3, 32, 32)}).multiply_adds == by_hand


def test_modules_in_two_places_called_twice_and_never() -> None:
    found = describe(Twice(), (3, 4))
    first, second = at(found, "first.0"), at(found, "second.0")
    assert (first.calls, second.calls, second.first_path) == (1, 1, "first.0")
    assert first.multiply_adds == second.multiply_adds == 3 * 4 * 4
    assert found.parameters == 20 + 35  # the shared layer once
    assert at(found, "second").parameters == 20
    assert at(found, "again").calls == 2
    unused = at(found, "unused")
    assert (unused.calls, unused.output, unused.order, unused.parameters) == (0, None, -1, 35)
    assert "Linear = first.0" in str(found)


def test_outputs_of_any_kind_have_their_shapes() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 3, batch_first=True)

        def forward(self, x: Tensor, *, scale: float = 1.0) -> dict[str, Any]:
            return {"all": self.rnn(x), "flag": True, "scaled": (x * scale, [None, x[0]])}

    found = describe(Many(), {"x": torch.zeros(2, 5, 4), "scale": 2.0})
    assert at(found, "rnn").output == [(2, 5, 3), [(1, 2, 3), (1, 2, 3)]]
    assert found.root.output == {
        "all": [(2, 5, 3), [(1, 2, 3), (1, 2, 3)]],
        "flag": None,
        "scaled": [(2, 5, 4), [None, (5, 4)]],
    }
    assert found.input == {"x": (2, 5, 4), "scale": None}


def test_the_model_and_the_random_state_stay_as_they_were() -> None:
    net = nn.Sequential(small_net(), nn.Dropout(0.5)).train()
    net[0].norm.eval()  # type: ignore[union-attr]
    modes = [part.training for part in net.modules()]
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    describe(net, (2, 3, 8, 8), latency=True)
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    found = describe(lazy, (1, 3, 6, 6))
    assert isinstance(lazy[0], nn.LazyConv2d)
    assert (found.parameters, found.activation_bytes) == (112 + 64 * 2 + 2, 64 * 4)
    program = hr.sym(nn.Sequential)(
        hr.sym(nn.LazyConv2d)(4, 3), hr.sym(nn.ReLU)(), hr.sym(nn.Flatten)(), hr.sym(nn.LazyLinear)(2)
    )
    assert describe(program, (1, 3, 6, 6)).record() == found.record()
    assert describe(program, (1, 3, 6, 6), latency=True).latency is not None
    assert torch.equal(torch.get_rng_state(), random)


def test_ways_around_are_found_where_something_is_added_to_what_it_came_from() -> None:
    def ways(model: Any, *inputs: Any) -> set[str]:
        return {part.path for part in describe(model, *inputs).modules() if part.is_residual}

    shape = (1, 3, 64, 64)
    resnet = ways(hr.nn.resnet18.program(), shape)
    assert resnet == {f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)}  # with a projection or not
    assert ways(hr.nn.mobilenet_v2.program(), shape) == {
        f"blocks.{stage}.{layer}" for stage, layers in enumerate((1, 2, 3, 4, 3, 3, 1)) for layer in range(1, layers)
    }
    pooled = hr.nn.mobile_layer(hr.nn.MBConv(2), 8, 8, stride=2, skip="pool")
    assert ways(pooled, (1, 8, 8, 8)) == {""}
    assert ways(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), (1, 5, 8)) == {""}
    bert = BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=30)
    )
    assert ways(bert) == {
        "encoder.layer.0",
        "encoder.layer.0.attention",
    }  # not the two embeddings, which are only added
    gpt = GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=30))
    assert ways(gpt) == {"h.0"}  # and not the sum inside its GELU
    assert ways(small_net(), (1, 3, 8, 8)) == set()


def test_inputs_are_found_in_the_model() -> None:
    assert describe(nn.Linear(7, 2)).input == (1, 7)
    assert describe(nn.Conv1d(5, 2, 3)).input == (1, 5, 224)
    assert describe(nn.Sequential(nn.Embedding(9, 2), nn.Linear(2, 1))).input == (1, 128)
    assert describe(nn.Linear(4, 4).to(torch.bfloat16)).weight_bytes == 40
    assert describe(nn.ReLU()).input == (1, 3, 224, 224)
    for wrong in ("1,2", (), (1, torch.zeros(2))):
        with pytest.raises(TypeError, match="input must be"):
            describe(nn.ReLU(), wrong)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_errors_say_where_and_why() -> None:
    net = hr.nn.mobilenet_v2()
    net.blocks[2][0].depthwise.conv = nn.Conv2d(5, 144, 3)  # type: ignore[index,union-attr]
    with pytest.raises(RuntimeError) as caught:
        describe(net, (1, 3, 64, 64))
    assert caught.value.__notes__ == ["while running blocks.2.0.depthwise.conv (Conv2d), given (1, 144, 16, 16)"]
    with pytest.raises(ValueError, match="3 channel") as refused:
        describe(hr.nn.mobilenet_v2.program(), (1, 4, 64, 64))
    assert refused.value.__notes__ == ["while running the model itself (MobileNet), given (1, 4, 64, 64)"]
    with pytest.raises(TypeError, match="must be a torch module or a program of one, got int"):
        describe(3)
    with pytest.raises(TypeError, match="ScriptModule"):
        describe(torch.jit.script(nn.Linear(2, 2)))
    with pytest.raises(OpenChoiceError, match="out_features"):
        describe(hr.sym(nn.Linear)(2, hr.one_of(2, 3)))
    with pytest.raises(ValueError, match="latency must be measured on a model with weights"):
        describe(nn.Linear(2, 2, device="meta"), latency=True)


def test_a_module_whose_error_was_caught_is_not_blamed() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong, self.right = nn.Linear(3, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            try:
                self.wrong(x)
            except RuntimeError:
                pass
            return self.right(x)

    found = describe(Tries(), (1, 4))
    assert (found.multiply_adds, at(found, "right").multiply_adds, found.root.output) == (8, 8, (1, 2))


# -- how it is shown ------------------------------------------------------------------------------------------------


def test_tables_fold_what_is_alike_as_deep_as_they_go() -> None:
    found = describe(ViTForImageClassification(SMALL_VIT))
    shallow = found.text(3)
    layers = next(line for line in shallow.splitlines() if "ViTLayer" in line)
    total = sum(at(found, f"vit.layers.{i}").parameters for i in range(3))
    assert layers.split()[:3] == ["0-2", "ViTLayer", "x3"]
    assert decimal(total) in layers
    assert "fc1" not in shallow
    assert "fc1" in found.text(5)
    assert len(str(found).splitlines()) < 45
    assert describe(small_net(), (1, 3, 8, 8), depth=0, name="tiny").text().splitlines()[1].startswith("tiny")
    rates = nn.Sequential(
        nn.Dropout(0.1),
        nn.Dropout(0.1),
        nn.Dropout(0.2),
        nn.Sequential(nn.Dropout(0.3)),
        nn.Sequential(nn.Dropout(0.4)),
    )
    folded = describe(rates, (1, 4)).text(1)
    assert [line.split()[0] for line in folded.splitlines()[1:5]] == [
        "Sequential",
        "0-1",
        "2",
        "3-4",
    ]  # settings below are not shown
    assert "3-4" not in describe(rates, (1, 4)).text(2)


def test_records_are_json_and_complete() -> None:
    found = describe(small_net(), (2, 3, 8, 8), latency=True)
    record = json.loads(json.dumps(found.record()))
    assert [module["path"] for module in record["modules"]] == ["", "conv", "norm", "act", "pool", "flat", "fc"]
    assert (record["parameters"], record["multiply_adds"], record["activation_bytes"]) == (445, 14_464, 5632)
    times = record["latency_ms"]
    assert 0 < times["low"] <= times["median"] <= times["high"]
    assert "latency" in str(found)
    assert "latency" in found.svg()


@pytest.mark.parametrize("name", ["small", "vit", "efficientnet", "nothing", "deep", "wide"])
def test_pictures_are_well_formed_and_need_nothing_else(name: str) -> None:
    found = {
        "small": lambda: describe(small_net(), (1, 3, 8, 8)),
        "vit": lambda: describe(ViTForImageClassification(SMALL_VIT)),
        "efficientnet": lambda: describe(hr.nn.efficientnet_b7.program(), (1, 3, 64, 64)),
        "nothing": lambda: describe(nn.Identity(), (1, 4)),
        "deep": lambda: describe(nn.Sequential(*(nn.Linear(4, 4) for _ in range(100)))),
        "wide": lambda: describe(nn.Sequential(*(nn.Linear(4 + i, 5 + i) for i in range(150)))),
    }[name]()
    svg = found.svg()
    tree = ElementTree.fromstring(svg)
    tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert tags <= {"svg", "g", "path", "rect", "circle", "text", "title"}
    assert not any("href" in key or key.startswith("on") for element in tree.iter() for key in element.attrib)
    width, height = float(tree.attrib["width"]), float(tree.attrib["height"])
    assert 600 < width < (2000 if name == "wide" else 1300)
    for text in tree.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height
    for path in tree.iter("{http://www.w3.org/2000/svg}path"):
        assert 0 <= float(path.attrib["d"].split()[0].removeprefix("M")) <= width
    arcs = len(list(tree.iter("{http://www.w3.org/2000/svg}circle")))
    if name == "vit":
        assert arcs == 3
    if name == "efficientnet":  # runs of three or more are drawn once
        assert 7 <= arcs < sum(part.is_residual for part in found.modules())
        assert "× 12" in svg
    assert svg in found._repr_html_()
    assert found.html().count("<svg") == 1


def test_names_are_escaped_in_pictures_and_pages() -> None:
    class Odd(nn.Linear):
        def extra_repr(self) -> str:
            return '<script>"x" & y</script>'

    Odd.__name__ = "Odd<b>"
    net = nn.Sequential()
    net.add_module('<i>&"', Odd(4, 4))
    found = describe(net, name="<u>net</u>")
    ElementTree.fromstring(found.svg())
    for text in (found.svg(), found.html(), found._repr_html_()):
        assert not any(tag in text for tag in ("<script>", "<b>", "<i>", "<u>"))
        assert "&lt;u&gt;net" in text


def test_quantities_have_three_digits() -> None:
    assert [decimal(n) for n in (0, 999, 1000, 5_288_548, 385_814_752, 999_999, 1.8e9)] == [
        "0", "999", "1 k", "5.29 M", "386 M", "1 M", "1.8 G",
    ]  # fmt: skip
    assert [binary(n) for n in (0, 1023, 1024, 87_586_784)] == ["0 B", "1023 B", "1 KiB", "83.5 MiB"]
    assert [percent(part, 200) for part in (0, 0.5, 1, 200)] == ["", "<1%", "<1%", "100%"]


# -- the command line -----------------------------------------------------------------------------------------------

MODELS = """
import heuretic as hr
from torch import nn
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
opened = hr.sym(nn.Sequential)(hr.sym(nn.Linear)(4, hr.one_of(2, 3)), hr.sym(nn.ReLU)())
narrow = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 2))
three = 3
def make():
    return nn.Linear(4, 2)
def needs(width):
    return nn.Linear(width, 2)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
    def forward(self, x):
        return self.layer(x)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "some_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "some_models", raising=False)
    return tmp_path


def shown(*arguments: str) -> str:
    result = typer.testing.CliRunner().invoke(app, ["describe", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        typer.testing.CliRunner().invoke(app, ["describe", *arguments], catch_exceptions=False)
    return caught.value


def test_a_table_and_a_page_of_a_published_network(folder: Path) -> None:
    said = shown("efficientnet_b1", "--depth", "1", "--html", "out.html")
    assert "classifier" in said
    assert "input 1×3×240×240" in said  # as published
    assert "Written to out.html" in said
    page = (folder / "out.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_model_that_cannot_run_is_told_on_two_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["heuretic", "describe", "some_models.py:narrow"])
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        "error: some_models.py:narrow cannot be described: RuntimeError: mat1 and mat2 shapes cannot be multiplied "
        "(1x3 and 4x2). Try another --input",
        "  while running 1 (Linear), given (1, 3)",
    ]


def test_describe_finds_models_of_every_kind(folder: Path) -> None:
    record = json.loads(shown("some_models.py:net", "--input", "1,1,28,28", "--latency", "--json"))
    assert record["parameters"] == 80 + 26 * 26 * 8 * 10 + 10
    assert record["latency_ms"]["median"] > 0
    assert "in_features=4, out_features=2" in shown("some_models.py:make")
    assert "layer" in shown("some_models:Net")
    assert "ResNet" in shown("heuretic.nn:resnet18", "--depth", "0", "--input", "1,3,64,64")
    (folder / "saved.json").write_text(hr.dumps(hr.nn.resnet18.program(10)))
    assert json.loads(shown("saved.json", "--input", "2,3,64,64", "--json"))["modules"][0]["output"] == [2, 10]
    patched = hr.apply(hr.sym(hr.nn.resnet18)(10), "advprop")  # a call of an architecture, which is a function
    (folder / "saved.json").write_text(hr.dumps(patched))
    assert "AuxiliaryBatchNorm" in shown("saved.json", "--input", "2,3,64,64", "--depth", "3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["efficientnet_b9"], "Did you mean 'efficientnet_b"),
        (["some_models.py"], "must be an architecture of heuretic.nn, FILE.py:NAME"),
        (["some_models.py:nett"], "Did you mean 'net'?"),
        (["some_models.py:three"], "must be a torch module or a program of one, got int"),
        (["some_models.py:needs"], "must be callable without arguments, but needs width"),
        (["some_models.py:opened"], "1 choice(s) still open ([0].out_features: one_of(2, 3))"),
        (["no_such_package:net"], "no module 'no_such_package'"),
        (["missing.py:net"], "no file missing.py"),
        (["missing.json"], "no file missing.json"),
        (["resnet18", "--input", "1,3,x"], "--input must be sizes such as 1,3,224,224, got '1,3,x'"),
        (["resnet18", "--input", "1,1,64,64"], "must be given 3 channel(s), got 1|3 channels"),
        (["resnet18", "--input", "1,3,8,8"], "of at least 32 x 32"),
    ],
)
def test_mistakes_get_one_helpful_line(folder: Path, arguments: list[str], message: str) -> None:
    said = str(refused(*arguments))
    assert any(part in said for part in message.split("|")), said
    assert "\n" not in said


def test_nothing_that_a_saved_program_names_is_run_unless_it_is_a_layer(folder: Path) -> None:
    (folder / "harm.py").write_text("open('harmed', 'w')\n")
    for target in (
        "heuretic.cli.files:load_module",
        "harm:x",
        "heuretic.nn.costs:build",
        "torch.nn.modules.module:warnings.warn",
        "torch.nn.utils.clip_grad:clip_grad_norm_",
    ):
        program = {"heuretic": 1, "program": {"$call": target, "args": ["harm.py"]}}
        (folder / "harm.json").write_text(json.dumps(program))
        assert "must name nothing outside heuretic.nn and torch.nn" in str(refused("harm.json"))
    assert not (folder / "harmed").exists()
    (folder / "broken.json").write_text("{")
    with pytest.raises(LoadError, match="not valid JSON"):
        shown("broken.json")
