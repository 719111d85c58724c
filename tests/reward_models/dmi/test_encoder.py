"""The dual encoder: from scratch, from any Hugging Face encoder, saved and loaded; f(c, r) = e_c^T W e_r."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, LlamaConfig

from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig, replaced_folder

from .conftest import toy_config, toy_encoder, toy_tokenizer

CONTEXTS = [
    ["i like the bread."],
    ["do you know the dog?", "we saw a puppy today."],
    ["my friend has a seed, you see."],
]
RESPONSES = ["i like the oven.", "do you know the leash?"]


@torch.no_grad()
def test_scores_are_the_bilinear_form_of_first_tokens_vectors(encoder):
    torch.nn.init.normal_(encoder.bilinear)
    scores = encoder.scores(CONTEXTS, RESPONSES)
    assert scores.shape == (3, 2)
    for i, context in enumerate(CONTEXTS):
        for j, response in enumerate(RESPONSES):
            vectors = []
            for said in (context, [response]):
                ids = torch.tensor([encoder.tokens.context(encoder.tokens.utterances(said))])
                vectors.append(encoder.eval().model(input_ids=ids).last_hidden_state[0, 0])
            assert float(vectors[0] @ encoder.bilinear @ vectors[1]) == pytest.approx(float(scores[i, j]), rel=1e-4)


def test_both_towers_are_one(encoder):
    assert torch.allclose(encoder.encode_contexts([[RESPONSES[0]]]), encoder.encode_responses(RESPONSES[:1]))


def test_a_vector_does_not_depend_on_its_batch(encoder):
    together = encoder.encode_contexts(CONTEXTS, batch_size=2)
    alone = torch.cat([encoder.encode_contexts([context]) for context in CONTEXTS])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_encoding_text_is_without_dropout_or_gradient_and_keeps_the_mode():
    encoder = toy_encoder(dropout=0.5).train()
    first, again = encoder.encode_contexts(CONTEXTS), encoder.encode_contexts(CONTEXTS)
    assert torch.equal(first, again) and not first.requires_grad
    assert encoder.training
    ids, mask = encoder.tokens.pad([[2, 5, 6]])
    assert not torch.equal(encoder.encode(ids, mask), encoder.encode(ids, mask))


def test_columns_of_padding_change_nothing(encoder):
    ids, mask = encoder.eval().tokens.pad([[2, 5, 6], [2, 7]])
    wider = [torch.nn.functional.pad(tensor, (0, 30)) for tensor in (ids, mask)]
    assert torch.equal(encoder.encode(ids, mask), encoder.encode(*wider))


def test_scores_are_float32_under_autocast(encoder):
    vectors = torch.randn(2, encoder.hidden_size)
    with torch.autocast("cpu", torch.bfloat16):
        scores = encoder.similarity(vectors, vectors)
    assert torch.equal(scores, encoder.similarity(vectors, vectors)) and scores.dtype == torch.float32


def test_nothing_gives_nothing(encoder):
    assert encoder.encode_contexts([]).shape == encoder.encode_responses([]).shape == (0, encoder.hidden_size)


def test_equal_rows_are_encoded_once_and_in_their_places(encoder, monkeypatch):
    rows, encode = [], encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda ids, mask: rows.append(len(ids)) or encode(ids, mask))
    found = encoder.encode_responses([RESPONSES[1], RESPONSES[0], RESPONSES[1]])
    assert sum(rows) == 2
    assert torch.equal(found[0], found[2])
    assert torch.allclose(found[1], encoder.encode_responses(RESPONSES[:1])[0], atol=1e-5)


def test_pairs_are_scored_as_in_the_matrix(encoder):
    torch.nn.init.normal_(encoder.bilinear)
    contexts, responses = encoder.encode_contexts(CONTEXTS[:2]), encoder.encode_responses(RESPONSES)
    of_pairs = encoder.pair_similarity(contexts, responses)
    assert torch.allclose(of_pairs, encoder.similarity(contexts, responses).diagonal(), rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.pair_similarity(contexts, responses), of_pairs)


def test_text_in_the_wrong_place_is_named(encoder):
    with pytest.raises(TypeError, match=r"contexts\[1\] is a str \('hello'\), expected a sequence of utterances"):
        encoder.encode_contexts([["hi"], "hello"])
    with pytest.raises(TypeError, match="responses is a str"):
        encoder.encode_responses("hello")
    with pytest.raises(ValueError, match="the context is empty"):
        encoder.encode_contexts([[]])


def test_saved_and_loaded_it_scores_the_same(encoder, tmp_path):
    torch.nn.init.normal_(encoder.bilinear)
    encoder.save_pretrained(tmp_path / "model")
    loaded = DialogueEncoder.from_pretrained(tmp_path / "model")
    assert torch.allclose(loaded.scores(CONTEXTS, RESPONSES), encoder.scores(CONTEXTS, RESPONSES), rtol=0.01, atol=0.1)
    assert loaded.tokens.max_length == encoder.tokens.max_length == 40
    assert loaded.pretrained and not loaded.training
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    loaded.save_pretrained(tmp_path / "again")  # float16 once is float16 for ever
    again = DialogueEncoder.from_pretrained(tmp_path / "again")
    assert torch.equal(again.scores(CONTEXTS, RESPONSES), loaded.scores(CONTEXTS, RESPONSES))


def test_transformers_loads_the_folder(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "model")
    model = AutoModel.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("[CLS] do you know the dog? [EOU] we saw a puppy today.", return_tensors="pt").input_ids
    expected = encoder.encode_contexts([["do you know the dog?", "we saw a puppy today."]])
    assert torch.allclose(model(input_ids=ids).last_hidden_state[:, 0], expected, atol=0.02)


def test_the_default_size_takes_at_most_12_mib(tmp_path):
    config = EncoderConfig()
    tokenizer = toy_tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(config.vocab_size - len(tokenizer))])
    DialogueEncoder.from_scratch(config, tokenizer).save_pretrained(tmp_path / "model")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "model").iterdir()}
    assert sizes["model.safetensors"] > 5 << 20 and sum(sizes.values()) < 12 << 20


def test_a_saved_folder_replaces_the_older_one_as_a_whole(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyError), replaced_folder(folder) as temporary:
        (temporary / "new").touch()
        raise KeyError
    assert [path.name for path in folder.iterdir()] == ["old"]
    with replaced_folder(folder) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    folder.rename(tmp_path / "model.old")  # killed between the two renamings
    with pytest.raises(KeyError), replaced_folder(folder):
        raise KeyError
    assert [path.name for path in folder.iterdir()] == ["new"]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_any_hugging_face_encoder_is_taken(family, hugging_face, tmp_path):
    encoder = DialogueEncoder.from_pretrained(hugging_face(family), max_length=50)
    assert encoder.tokens.max_length == 50 and encoder.pretrained
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    row = encoder.tokens.context(encoder.tokens.utterances(["i like the bread."] * 2))
    assert encoder.tokens.tokenizer.convert_ids_to_tokens(row).count("[EOU]") == 1
    assert row[0] == encoder.tokens.tokenizer.cls_token_id and row[-1] == encoder.tokens.tokenizer.sep_token_id
    long = [["i like the bread."] * 40]
    encoder.save_pretrained(tmp_path / "model")
    loaded = DialogueEncoder.from_pretrained(tmp_path / "model")
    assert torch.allclose(loaded.encode_contexts(long), encoder.encode_contexts(long), atol=0.02)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_contexts_are_no_longer_than_the_model_takes(family, hugging_face):
    encoder = DialogueEncoder.from_pretrained(str(hugging_face(family)))
    assert encoder.tokens.max_length == (64 if family == "bert" else 65)
    encoder.encode_contexts([["i like the bread."] * 40])


def test_a_model_whose_first_token_sees_no_other_is_refused(tmp_path):
    tokenizer = toy_tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    AutoModel.from_config(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no encoder: its first token's vector does not depend on"):
        DialogueEncoder.from_pretrained(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no encoder at .*absent"):
        DialogueEncoder.from_pretrained(tmp_path / "absent")


def test_a_tokenizer_larger_than_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ subwords, vocab_size is 50"):
        DialogueEncoder.from_scratch(toy_config(vocab_size=50), toy_tokenizer())


def test_pretrained_layers_learn_slower(encoder, hugging_face):
    scratch = encoder.parameter_groups(1e-3, 0.1)
    loaded = DialogueEncoder.from_pretrained(hugging_face("bert"))
    groups = loaded.parameter_groups(1e-3, 0.1)
    assert [group["lr"] for group in scratch] == [1e-3, 1e-3]
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-3])
    assert sum(len(group["params"]) for group in groups) == len(list(loaded.parameters()))
    assert groups[1]["params"][0] is loaded.bilinear
