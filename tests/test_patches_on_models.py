"""Patches on symbolic programs, on plain torch.nn models, and on transformers models nobody here wrote."""

import functools
import importlib.util
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heuretic as hr
from heuretic.nn import (
    ParametricSoftplus,
    SmoothReLU,
    SquaredReLU,
    parametric_softplus,
    smooth_relu,
    squared_relu,
)
from heuretic.symbolic import PatchError
from heuretic.train import Lion

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TOKENS = torch.tensor([[5, 9, 2, 7, 11], [1, 3, 3, 8, 4]])
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


pytestmark = pytest.mark.usefixtures("fixed_weights")


def paths(changes: list) -> list[str]:
    return [str(change.path) for change in changes]


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_weights(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


# -- activations ------------------------------------------------------------------------------------------------


def test_activations_have_the_values_of_their_papers() -> None:
    x = torch.tensor([-50.0, -1.0, 0.0, 0.5, 2.0, 50.0], dtype=torch.float64)
    assert squared_relu(x).tolist() == [0, 0, 0, 0.25, 4, 2500]
    torch.testing.assert_close(parametric_softplus(x, 3.0), torch.logaddexp(torch.zeros_like(x), 3 * x) / 3)
    expected = torch.where(x >= 0, x - torch.log(10 * x.clamp(min=0) + 1) / 10, 0)
    torch.testing.assert_close(smooth_relu(x), expected)


@pytest.mark.parametrize("function", [squared_relu, parametric_softplus, smooth_relu])
def test_activations_have_right_gradients_also_at_zero(function) -> None:
    x = torch.tensor([-3.0, -0.2, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    function(zero).backward()
    assert zero.grad is not None
    assert zero.grad.item() == pytest.approx(0.5 if function is parametric_softplus else 0.0)


def test_activation_modules_equal_their_functions_and_check_alpha() -> None:
    x = torch.linspace(-2, 2, 9)
    assert torch.equal(SquaredReLU()(x), squared_relu(x))
    assert torch.equal(ParametricSoftplus(5.0)(x), parametric_softplus(x, 5.0))
    assert torch.equal(SmoothReLU(5.0)(x), smooth_relu(x, 5.0))
    for cls in (ParametricSoftplus, SmoothReLU):
        with pytest.raises(ValueError, match="alpha must be > 0, got 0"):
            cls(0.0)


# -- symbolic programs ------------------------------------------------------------------------------------------


def make_program():
    return hr.sym(nn.Sequential)(
        hr.sym(nn.Linear)(8, 16),
        hr.sym(nn.ReLU)(),
        hr.sym(nn.TransformerEncoderLayer)(16, 2, 32, dropout=0.0, batch_first=True),
        hr.sym(nn.Tanh)(),
    )


def test_patches_on_a_program_and_on_what_it_builds_agree() -> None:
    program = make_program()
    built = hr.build(program)
    for address in ("primer", "smooth-adversarial-training?activation=smooth_relu"):
        from_program = hr.build(hr.apply(program, address))
        from_model = hr.apply(built, address)
        from_program.load_state_dict(built.state_dict())
        x = torch.randn(3, 4, 8)
        assert torch.equal(from_program(x), from_model(x))
        assert not torch.allclose(built(x), from_model(x), atol=1e-3)
    assert program == make_program()


def test_a_lone_activation_is_replaced_and_other_nodes_are_not() -> None:
    assert hr.apply(hr.sym(nn.ReLU)(), "primer") == hr.sym(SquaredReLU)()
    assert hr.apply(hr.sym(nn.ReLU6)(), "smooth-adversarial-training") == hr.sym(nn.SiLU)()
    patched = hr.apply(make_program(), "primer")
    assert patched[0] == make_program()[0]
    assert patched[3] == hr.sym(nn.Tanh)()


def test_the_address_chooses_the_activation() -> None:
    program = hr.apply(make_program(), "smooth-adversarial-training?activation=gelu")
    assert program[1] == hr.sym(nn.GELU)()
    assert program[2].activation is F.gelu
    with pytest.raises(PatchError, match=r"activation must be one of 'silu', 'gelu', .* got 'relu'"):
        hr.apply(make_program(), "smooth-adversarial-training?activation=relu")


def test_lion_converts_the_settings_of_adamw() -> None:
    program = hr.sym(functools.partial)(torch.optim.AdamW, lr=2e-3, betas=(0.8, 0.9), weight_decay=0.05, eps=1e-6)
    patched = hr.apply(program, "lion?factor=4")
    model = nn.Linear(2, 2)
    optimizer = hr.build(patched)(model.parameters())
    assert type(optimizer) is Lion
    assert optimizer.defaults["lr"] == pytest.approx(5e-4)
    assert optimizer.defaults["weight_decay"] == pytest.approx(0.2)
    assert optimizer.defaults["betas"] == (0.9, 0.99)


def test_lion_uses_the_defaults_of_the_optimizer_it_replaces() -> None:
    optimizer = hr.build(hr.apply(hr.sym(functools.partial)(torch.optim.AdamW), "lion"))(nn.Linear(2, 2).parameters())
    assert optimizer.defaults["lr"] == pytest.approx(1e-4)
    assert optimizer.defaults["weight_decay"] == pytest.approx(0.1)
    adam = hr.apply(hr.sym(functools.partial)(torch.optim.Adam, lr=1e-2, maximize=True), "lion")
    assert dict(adam.__items__()) == {0: Lion, "lr": pytest.approx(1e-3), "weight_decay": 0.0, "maximize": True}


def test_lion_converts_open_choices() -> None:
    program = hr.sym(functools.partial)(
        torch.optim.AdamW, lr=hr.number(1e-4, 1e-2, log=True), weight_decay=hr.one_of(0.0, 0.01)
    )
    patched = hr.apply(program, "lion")
    expected = hr.sym(functools.partial)(Lion, lr=hr.number(1e-5, 1e-3, log=True), weight_decay=hr.one_of(0.0, 0.1))
    assert hr.search.Space(patched).size == hr.search.Space(program).size
    assert patched == expected


def test_lion_replaces_a_call_of_the_optimizer_itself() -> None:
    program = hr.sym(torch.optim.AdamW)(hr.sym(make_parameters)(), lr=1e-3)
    optimizer = hr.build(hr.apply(program, "lion"))
    assert type(optimizer) is Lion
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert optimizer.param_groups[0]["params"][0].shape == (3,)


def make_parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(3))]


def test_lion_refuses_what_it_cannot_convert() -> None:
    with pytest.raises(PatchError, match=r"weight_decay of Adam must be 0 .* Try AdamW"):
        hr.apply(hr.sym(functools.partial)(torch.optim.Adam, weight_decay=0.1), "lion")
    with pytest.raises(PatchError, match="lion changed nothing in partial"):
        hr.apply(hr.sym(functools.partial)(torch.optim.SGD, lr=0.1), "lion")
    with pytest.raises(PatchError, match="factor"):
        hr.apply(hr.sym(functools.partial)(torch.optim.AdamW), "lion?factor=2")


# -- plain torch.nn models --------------------------------------------------------------------------------------


def make_cnn() -> nn.Sequential:
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), relu, nn.Sigmoid())


def test_a_patched_cnn_computes_what_one_written_with_the_activation_does() -> None:
    model = make_cnn()
    before, changes = weights(model), []
    patched = hr.apply(model, "smooth-adversarial-training", changes=changes)
    written = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.SiLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Sigmoid()
    )
    written.load_state_dict(model.state_dict())
    assert torch.equal(patched.eval()(IMAGES), written.eval()(IMAGES))
    assert paths(changes) == ["[1]"], "the ReLU stands in two places but is one part"
    assert patched[1] is patched[4]
    assert type(model[1]) is nn.ReLU
    assert_same_weights(model, before)
    with torch.no_grad():
        patched[0].weight.zero_()
    assert_same_weights(model, before)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize(
    ("address", "function"),
    [
        ("primer", squared_relu),
        ("smooth-adversarial-training", F.silu),
        ("smooth-adversarial-training?activation=gelu", F.gelu),
    ],
)
def test_encoder_in_eval_mode_with_padding_equals_train_mode_without_dropout(address, function, norm_first) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
    changes: list = []
    patched = hr.apply(model, address, changes=changes)
    assert paths(changes) == ["layers[0]", "layers[1]"]
    x = torch.randn(3, 5, 16)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    with torch.no_grad():
        slow = patched.train()(x, src_key_padding_mask=padding)
        fast = patched.eval()(x, src_key_padding_mask=padding)
        former = model.eval()(x, src_key_padding_mask=padding)
    torch.testing.assert_close(slow[~padding], fast[~padding], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(fast[~padding], former[~padding], atol=1e-3)

    written = nn.TransformerEncoderLayer(
        16, 2, 32, dropout=0.0, batch_first=True, norm_first=norm_first, activation=function
    )
    written.load_state_dict(patched.layers[0].state_dict())
    torch.testing.assert_close(written(x), patched.layers[0].train()(x))
    assert model.layers[0].activation is F.relu


def test_an_activation_module_inside_an_encoder_layer_turns_the_fused_path_off() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, activation=nn.ReLU())
    patched = hr.apply(layer, "primer")
    assert isinstance(patched.activation, SquaredReLU)
    x = torch.randn(2, 3, 16)
    with torch.no_grad():
        torch.testing.assert_close(patched.eval()(x), patched.train()(x))


def test_decoder_layers_and_whole_transformers_are_patched() -> None:
    model = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True)
    patched = hr.apply(model, "primer")
    x = torch.randn(2, 3, 16)
    layers = (patched.encoder.layers[0], patched.decoder.layers[0])
    assert all(each.activation is squared_relu for each in layers)
    assert not torch.allclose(model(x, x), patched(x, x), atol=1e-3)
    program = hr.apply(hr.sym(nn.Transformer)(16, 2, 1, 1, 32), "primer")
    assert hr.build(program).decoder.layers[0].activation is squared_relu


def test_mode_dtype_device_and_hooks_are_kept() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).double().eval()
    seen = []
    model[1].register_forward_hook(lambda module, inputs, output: seen.append(type(module)))

    def to_prelu(node: nn.ReLU) -> nn.PReLU:
        return hr.sym(nn.PReLU)()

    patched = hr.apply(model, to_prelu)
    assert patched[1].weight.dtype is torch.float64
    assert not patched[1].training
    patched(torch.zeros(1, 3, dtype=torch.float64))
    assert seen == [nn.PReLU]
    assert hr.apply(model.to("meta"), to_prelu)[1].weight.is_meta


def test_weights_that_fit_a_new_layer_are_kept_with_ties_and_frozenness() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)
            self.head.weight = self.embed.weight
            self.head.weight.requires_grad_(False)

    def without_bias(node: nn.Linear) -> nn.Linear:
        return hr.sym(nn.Linear)(node.in_features, node.out_features, bias=False)

    model = Tied()
    patched = hr.apply(model, without_bias)
    assert patched.head.bias is None
    assert patched.head.weight is patched.embed.weight
    assert patched.head.weight is not model.head.weight
    assert torch.equal(patched.head.weight, model.head.weight)
    assert not patched.head.weight.requires_grad


def test_recurrent_layers_compute_with_the_weights_that_were_kept() -> None:
    def again(node: nn.LSTM) -> nn.LSTM:
        return hr.sym(nn.LSTM)(node.input_size, node.hidden_size)

    model = nn.Sequential(nn.LSTM(3, 4))
    x = torch.randn(5, 2, 3)
    expected = model(x)[0]
    assert torch.equal(hr.apply(model, again)(x)[0], expected)
    zeros = hr.replace(model[0], weight_hh_l0=nn.Parameter(torch.zeros(16, 4)))
    assert not torch.equal(zeros(x)[0], expected)
    assert torch.equal(model(x)[0], expected)


def test_a_rule_may_edit_a_built_layer_like_a_symbolic_one() -> None:
    def wider(node: nn.Conv2d) -> nn.Conv2d:
        return hr.replace(node, kernel_size=5, padding=2)

    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=True), nn.ReLU())
    patched = hr.apply(model, wider)
    assert patched[0].weight.shape == (4, 3, 5, 5)
    assert torch.equal(patched[0].bias, model[0].bias)
    assert patched(IMAGES).shape == model(IMAGES).shape
    assert model[0].kernel_size == (3, 3)

    frozen = hr.replace(model[0], stride=(2, 2))
    assert frozen.weight is model[0].weight, "the weight still fits"
    assert frozen(IMAGES).shape[-1] == 4
    with pytest.raises(PatchError, match="MultiheadAttention cannot be made anew with num_heads changed"):
        hr.replace(nn.MultiheadAttention(8, 2), num_heads=4)
    with pytest.raises(AttributeError, match="has no attribute 'kernel'"):
        hr.replace(model[0], kernel=5)


def test_children_of_every_container_can_be_replaced() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by_name = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(2, 2)})
            self.by_place = nn.ModuleList([nn.ReLU(), nn.Identity()])
            self.missing = None
            self.register_module("empty", None)

    changes: list = []
    patched = hr.apply(Model(), "primer", changes=changes)
    assert paths(changes) == ["by_name.a", "by_place[0]"]
    assert isinstance(patched.by_name["a"], SquaredReLU)
    assert isinstance(patched.by_place[0], SquaredReLU)
    assert list(patched.by_name) == ["a", "b"]


def test_a_rule_that_returns_no_module_is_refused() -> None:
    def wrong(node: nn.ReLU) -> int:
        return 3

    with pytest.raises(PatchError, match=r"must return a module, .* for ReLU, got 3"):
        hr.apply(nn.Sequential(nn.ReLU()), wrong)


@pytest.mark.parametrize("address", ["primer", "smooth-adversarial-training"])
def test_a_patch_that_matches_nothing_raises(address: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Softmax(-1))
    with pytest.raises(PatchError, match=r"changed nothing in .*Sequential.* it looks for ReLU"):
        hr.apply(model, address)
    assert isinstance(hr.apply(model, address, allow_empty=True)[1], nn.Tanh)


# -- transformers -----------------------------------------------------------------------------------------------

needs_transformers = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="needs transformers")


def make_transformers(name: str, activation: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    import transformers

    text = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    inputs = {"input_ids": TOKENS}
    if name == "bert":
        config = transformers.BertConfig(**SMALL, vocab_size=32, hidden_act=activation)
        return transformers.BertForMaskedLM(config).eval(), inputs
    if name == "gpt2":
        config = transformers.GPT2Config(**text, n_embd=32, n_layer=2, n_head=2, activation_function=activation)
        return transformers.GPT2LMHeadModel(config).eval(), inputs
    if name == "llama":
        config = transformers.LlamaConfig(**text, **SMALL, hidden_act=activation)
        return transformers.LlamaForCausalLM(config).eval(), inputs
    config = transformers.ViTConfig(**SMALL, image_size=8, patch_size=4, hidden_act=activation)
    return transformers.ViTForImageClassification(config).eval(), {"pixel_values": IMAGES}


@needs_transformers
@pytest.mark.parametrize(
    ("name", "activation"), [("bert", "gelu"), ("gpt2", "gelu_new"), ("llama", "silu"), ("vit", "gelu")]
)
def test_primer_on_an_unmodified_transformers_model(name: str, activation: str) -> None:
    model, inputs = make_transformers(name, activation)
    before, changes = weights(model), []
    with torch.no_grad():
        former = model(**inputs).logits
        patched = hr.apply(model, "primer", changes=changes)
        logits = patched(**inputs).logits
        assert torch.equal(model(**inputs).logits, former)
    assert len(changes) == 2, paths(changes)
    assert sum(isinstance(module, SquaredReLU) for module in patched.modules()) == 2
    assert_same_weights(patched, before)
    assert_same_weights(model, before)
    assert not torch.allclose(logits, former, atol=1e-4)

    # transformers knows the same function as "relu2": a model it makes with that must agree
    reference, _ = make_transformers(name, "relu2")
    reference.load_state_dict(model.state_dict())
    if name == "bert":  # there, relu2 also goes to the prediction head, which Primer leaves alone
        reference.cls.predictions.transform.transform_act_fn = model.cls.predictions.transform.transform_act_fn
    with torch.no_grad():
        torch.testing.assert_close(logits, reference(**inputs).logits)


@needs_transformers
@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_smooth_activations_on_an_unmodified_transformers_model(name: str) -> None:
    model, inputs = make_transformers(name, "relu")
    changes: list = []
    patched = hr.apply(model, "smooth-adversarial-training?activation=silu", changes=changes)
    assert len(changes) == (3 if name == "bert" else 2), paths(changes)
    reference, _ = make_transformers(name, "silu")
    reference.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(patched(**inputs).logits, reference(**inputs).logits)
        assert not torch.allclose(patched(**inputs).logits, model(**inputs).logits, atol=1e-4)


@needs_transformers
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_tied_weights_stay_tied_and_train(name: str) -> None:
    model, inputs = make_transformers(name, "relu")
    patched = hr.apply(model, "primer")
    table, head = patched.get_input_embeddings().weight, patched.get_output_embeddings().weight
    assert table is head
    assert table is not model.get_input_embeddings().weight
    patched(**inputs).logits.square().mean().backward()
    layers = [m for m in patched.modules() if isinstance(m, SquaredReLU)]
    assert len(layers) == 2
    assert all(p.grad is not None for p in itertools.islice(patched.parameters(), 3))


@needs_transformers
def test_the_pooler_of_bert_keeps_its_tanh() -> None:
    import transformers

    patched = hr.apply(transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=32)), "primer")
    assert isinstance(patched.pooler.activation, nn.Tanh)
