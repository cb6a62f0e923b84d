"""Models in files: with their programs, with weights of others, damaged, from strangers, and over HTTP."""

from __future__ import annotations

import copy
import hashlib
import random
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import heuretic as hr
from heuretic.nn import key_maps, load, program_in, save
from heuretic.symbolic import LoadError
from test_vision_models import settled, small_mobile_net, small_resnet
from vision_models import IMAGES, PlainResNet, output

pytestmark = pytest.mark.usefixtures("fixed_weights")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("program", [small_mobile_net(), small_resnet()], ids=["mobile", "resnet"])
@pytest.mark.parametrize(
    "patches",
    [
        (),
        (
            "condconv?experts=2",
            "advprop",
            "stochastic-depth",
            "smooth-adversarial-training?activation=swish&trained=true",
        ),
    ],
    ids=["plain", "patched"],
)
def test_a_model_comes_back_with_its_program_and_weights(
    program: Any, patches: tuple[str, ...], tmp_path: Path
) -> None:
    if patches and "MobileNet" in program.__head__():
        program = hr.replace(program, activation=hr.sym(nn.ReLU)())
    model = settled(hr.apply(hr.build(program), *patches))
    model.to(memory_format=torch.channels_last)
    path = save(model, tmp_path / "model.safetensors")
    again = load(path)
    assert hr.program_of(again) == hr.program_of(model) == program_in(path)
    torch.testing.assert_close(output(again.eval()), output(model))
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    save(again, path)  # over itself
    assert load(str(path)).state_dict().keys() == model.state_dict().keys()


def test_calls_of_architectures_are_saved_as_what_they_describe(tmp_path: Path) -> None:
    call = hr.sym(hr.nn.resnet18)(3, small_images=True)
    table = hr.nn.resnet18.program(3, small_images=True)
    for program, spelled in (
        (call, table),
        (hr.apply(call, "advprop"), hr.apply(table, "advprop")),
        (
            hr.sym(nn.Sequential)(hr.sym(hr.nn.mobilenet_v2)(5), hr.sym(nn.ReLU)()),
            hr.sym(nn.Sequential)(hr.nn.mobilenet_v2.program(5), hr.sym(nn.ReLU)()),
        ),
    ):
        model = settled(hr.build(program))
        again = load(save(model, tmp_path / "model.safetensors"))
        assert hr.program_of(again) == spelled
        assert torch.equal(output(again.eval()), output(model))
    model.eval()[1] = nn.GELU()
    with pytest.raises(ValueError, match=r"must be as its program says, got a difference: ~ \[1\]: ReLU"):
        save(model, tmp_path / "model.safetensors")


def test_models_of_others_come_back_if_their_package_is_trusted(tmp_path: Path) -> None:
    model = hr.build(hr.apply(hr.sym(PlainResNet)(classes=4), "advprop"))
    path = save(model, tmp_path / "model.safetensors")
    with pytest.raises(LoadError, match="outside the trusted packages"):
        load(path)
    again = load(path, trust=("vision_models",))
    assert torch.equal(output(again.eval()), output(model.eval()))


def test_tied_weights_are_written_once_and_come_back_tied(tmp_path: Path) -> None:
    program = hr.sym(nn.TransformerEncoderLayer)(8, 2, 16, batch_first=True)
    model = hr.build(program)
    model.linear1.bias = nn.Parameter(torch.zeros(16))
    path = save(model, tmp_path / "model.safetensors")
    assert torch.equal(load(path).linear1.bias, torch.zeros(16))


def test_a_model_that_was_edited_by_hand_is_not_saved_as_what_it_is_not(tmp_path: Path) -> None:
    model = hr.build(small_resnet())
    model.relu = nn.GELU()
    with pytest.raises(ValueError, match=r"must be as its program says, got a difference: ~ relu: ReLU"):
        save(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="to know its program"):
        save(PlainResNet(), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def stored(program: str, folder: Path) -> Path:
    """Write a program as JSON into a file as `save` does."""
    path = folder / "stranger.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"heuretic.program": '{"heuretic": 1, "program": ' + program + "}"})
    return path


def test_strangers_files_run_nothing(tmp_path: Path) -> None:
    for program in (
        '{"$call": "os:system", "command": "touch touched"}',
        '{"$call": "torch:load", "f": "x.pt"}',
        '{"$call": "heuretic.nn.checkpoints:load", "model": "x.safetensors"}',
        '{"$call": "torch.nn.utils.clip_grad:clip_grad_norm_", "parameters": [], "max_norm": 1.0}',
        '{"$call": "torch.nn.modules.container:Sequential", "$args": [{"$call": "heuretic.nn.efficientnet:efficientnet_b0"}]}',
        '{"$type": "heuretic.symbolic.patches:Patched", "program": {"$call": "torch.nn.modules.linear:Linear", "in_features": 1, '
        '"out_features": 1}, "patches": ["os:Patch"]}',
        '{"$call": "torch.nn.modules.sparse:Embedding.from_pretrained", "embeddings": 1}',
        layer('{"$ref": "heuretic.nn.key_maps:names"}'),
        layer('{"$ref": "torch.nn.utils.clip_grad:clip_grad_norm_"}'),
        layer('{"$ref": "heuretic.nn.inverted_residual:MBConv"}'),
        layer('{"$call": "torch.nn.functional:relu", "input": 1}'),
        "[1, 2",
    ):
        with pytest.raises(LoadError):
            load(stored(program, tmp_path))


def layer(activation: str) -> str:
    return (
        '{"$call": "torch.nn.modules.transformer:TransformerEncoderLayer", "d_model": 4, "nhead": 2, "activation": '
        + activation
        + "}"
    )


def test_activations_and_what_is_trusted_may_be_named(tmp_path: Path) -> None:
    for activation, found in (
        ("torch.nn.functional:relu", nn.functional.relu),
        ("heuretic.nn.activations:squared_relu", hr.nn.squared_relu),
        ("torch.nn.modules.activation:GELU", nn.GELU),
    ):
        program = stored(layer('{"$ref": "' + activation + '"}'), tmp_path)
        assert program_in(program).activation is found
    names_it = stored(layer('{"$ref": "heuretic.nn.key_maps:names"}'), tmp_path)
    with pytest.raises(
        LoadError, match=r"got heuretic\.nn\.key_maps:names at activation\. .* trust=\('heuretic\.nn\.key"
    ):
        program_in(names_it)
    assert program_in(names_it, trust=("heuretic.nn",)).activation is key_maps.names
    drawn = '{"$call": "torch.nn.modules.dropout:Dropout", "p": {"$call": "random:random"}}'
    assert random.random.__module__ is None
    with pytest.raises(LoadError, match="'random:random' is outside the trusted packages"):
        program_in(stored(drawn, tmp_path))
    assert 0 <= hr.build(program_in(stored(drawn, tmp_path), trust=("random",))).p < 1


def test_files_that_are_none_or_have_no_program_are_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\xff" * 100)
    with pytest.raises(LoadError, match="must be a safetensors file, got another or a damaged one"):
        load(damaged)
    bare = tmp_path / "bare.safetensors"
    save_file({"x": torch.zeros(1)}, bare)
    with pytest.raises(LoadError, match=r"must hold a program, got weights only. Try load\(NAME, weights="):
        load(bare)
    for missing in (tmp_path / "none.safetensors", "no/such.safetensors"):
        with pytest.raises(FileNotFoundError, match="no file"):
            load(missing)
    with pytest.raises(
        ValueError, match=r"model must be an architecture, a program or a file, got 'resnet81'. Did you mean 'resnet1"
    ):
        load("resnet81")
    with pytest.raises(ValueError, match="settings must be in the program, got classes"):
        load(small_resnet(), classes=3)
    with pytest.raises(ValueError, match="says what its model is, got classes besides"):
        load(bare, classes=3)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_weights_of_others_get_our_names_and_the_model_their_epsilon(source: str, suffix: str, tmp_path: Path) -> None:
    model = settled(hr.nn.efficientnet_b0(7))
    called = key_maps.names(_like(source), model)
    state = {called[key]: tensor for key, tensor in model.state_dict().items()}
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    again = load("efficientnet_b0", weights=path, classes=7)
    assert {m.eps for m in again.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-5
    torch.testing.assert_close(output(again.eval()), output(model))
    if source == "timm":
        same = load("efficientnet_b0", weights=path.rename(tmp_path / f"tf_b0.{suffix}"), classes=7)
        path = tmp_path / f"tf_b0.{suffix}"
        assert (hr.program_of(same).padding, hr.program_of(same).norm_eps) == ("same", 1e-3)
    patched = load(hr.apply(hr.nn.efficientnet_b0.program(7), "condconv?experts=2"), weights=path)
    for part in patched.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-5
    torch.testing.assert_close(output(patched.eval()), output(model), rtol=1e-3, atol=1e-4)
    fresh = load("efficientnet_b0", weights=path, classes=3, new_classifier=True)
    assert fresh.classifier.weight.shape == (3, 1280)
    assert torch.equal(fresh.stem.conv.weight, model.stem.conv.weight)
    with pytest.raises(ValueError, match=r"must have shape \(3, 1280\), got \(7, 1280\).* Try a model with classes=7"):
        load("efficientnet_b0", weights=path, classes=3)


def _like(source: str) -> dict[str, torch.Tensor]:
    return {"conv_stem.weight" if source == "timm" else "features.0.0.weight": torch.zeros(1)}


def test_checksums_are_compared_with_the_argument_and_the_name(tmp_path: Path) -> None:
    state = hr.nn.resnet18(2).state_dict()
    plain = tmp_path / "resnet18.pth"
    torch.save(state, plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    load("resnet18", weights=plain, classes=2, sha256=digest[:8].upper())
    with pytest.raises(ValueError, match=f"must begin with 00000000, got {digest[:16]}"):
        load("resnet18", weights=plain, classes=2, sha256="00000000")
    named = plain.rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    load("resnet18", weights=named, classes=2)
    wrong = named.rename(tmp_path / "resnet18-0badc0de.pth")
    with pytest.raises(ValueError, match="must begin with 0badc0de"):
        load("resnet18", weights=wrong, classes=2)


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    path = tmp_path / "evil.pth"
    torch.save({"x": Evil()}, path)
    with pytest.raises(ValueError, match="must hold tensors and nothing that would have to be run"):
        load("resnet18", weights=path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="must hold tensors"):
        load("resnet18", weights=path)
    assert not (tmp_path / "touched").exists()
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="must hold a dictionary of tensors, got list"):
        load("resnet18", weights=path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server on loopback of the files in a folder, and the list of what it was asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", folder, asked
        http.shutdown()


def test_weights_are_fetched_once_and_only_kept_if_their_checksum_is_right(server: Any, tmp_path: Path) -> None:
    url, folder, asked = server
    model = hr.nn.resnet18(2)
    torch.save(model.state_dict(), folder / "w.pth")
    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="must have the checksum that was asked for"):
        load("resnet18", weights=f"{url}/w.pth", classes=2, sha256="0" * 8)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    for _ in range(2):
        again = load("resnet18", weights=f"{url}/w.pth", classes=2, sha256=digest)
    assert torch.equal(again.fc.weight, model.fc.weight)
    assert asked == ["/w.pth", "/w.pth"]
    with pytest.raises(FileNotFoundError, match="cannot fetch"):
        load("resnet18", weights=f"{url}/none.pth", classes=2)


def test_copies_know_their_program_until_they_are_patched_by_what_has_no_name() -> None:
    model = hr.build(small_resnet())

    @hr.rule
    def relu(node: nn.ReLU) -> Any:
        return nn.GELU()

    assert hr.program_of(copy.deepcopy(model)) == small_resnet()
    with pytest.raises(ValueError, match="to know its program"):
        hr.program_of(hr.apply(model, relu))
    assert output(hr.apply(model, relu).eval()).shape == (len(IMAGES), 5)
