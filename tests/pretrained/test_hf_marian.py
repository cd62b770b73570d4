"""Hugging Face's MarianMT: in by its own names with its two languages, out as it came, in use."""

import functools
import io
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.encdecs import make_model
from tests.pretrained.published import load, random_arrays, write_published
from zoo.cli import main
from zoo.config import UserError
from zoo.config.data import PairData
from zoo.data.text.pairs import open_pair_rows
from zoo.data.text.tokenizers import load_tokenizer
from zoo.inference.beam_search import wu_penalty
from zoo.inference.translate import search_targets
from zoo.pretrained.opening import open_pretrained

D, F = 16, 24
ENGLISH = ["the small house stands here", "a house is small and the tree is here too"] * 8
GERMAN = ["das kleine Haus steht hier", "ein Haus ist klein und der Baum ist auch hier"] * 8
CODE = ">>deu<<"


@functools.cache
def make_language(texts):
    """A small SentencePiece model, without pieces of bytes as those of opus-mt are."""
    from sentencepiece import SentencePieceTrainer

    model, trainer = io.BytesIO(), SentencePieceTrainer
    trainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=60, hard_vocab_limit=False,
        num_threads=1, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def write_languages(directory):
    """source.spm, target.spm and vocab.json, as its converter numbers them; returns the last."""
    from sentencepiece import SentencePieceProcessor

    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {"</s>": 0, "<unk>": 1, CODE: 2}
    for name, texts in (("source", ENGLISH), ("target", GERMAN)):
        data = make_language(tuple(texts))
        (directory / f"{name}.spm").write_bytes(data)
        library = SentencePieceProcessor(model_proto=data)
        for i in range(library.get_piece_size()):
            if not (library.is_control(i) or library.is_unknown(i)):
                vocabulary.setdefault(library.id_to_piece(i), len(vocabulary))
    vocabulary["<pad>"] = len(vocabulary)
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    return vocabulary


def shapes_of(rows):
    linear = lambda name, out, inside: {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}
    norm = lambda name: {f"{name}.weight": (D,), f"{name}.bias": (D,)}
    shapes = {"final_logits_bias": (1, rows), "model.shared.weight": (rows, D)}
    for stack, depth, attentions in (
        ("encoder", 2, ["self_attn"]),
        ("decoder", 3, ["self_attn", "encoder_attn"]),
    ):
        for i in range(depth):
            layer = f"model.{stack}.layers.{i}"
            for attention in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    shapes |= linear(f"{layer}.{attention}.{part}", D, D)
                shapes |= norm(f"{layer}.{attention}_layer_norm")
            shapes |= linear(f"{layer}.fc1", F, D) | linear(f"{layer}.fc2", D, F)
            shapes |= norm(f"{layer}.final_layer_norm")
    return shapes


def publish(directory, *, extra=None, **changes):
    rows = len(write_languages(directory))
    tree = {
        "model_type": "marian", "vocab_size": rows, "d_model": D, "encoder_layers": 2,
        "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": F, "decoder_ffn_dim": F, "activation_function": "swish",
        "scale_embedding": True, "is_encoder_decoder": True, "pad_token_id": rows - 1,
        "decoder_start_token_id": rows - 1, "max_position_embeddings": 512,
        "normalize_before": False, "static_position_embeddings": True, **changes,
    }  # fmt: skip
    return write_published(directory, tree, random_arrays(shapes_of(rows)) | (extra or {}))


def test_weights_come_out_byte_by_byte_as_they_came_in(tmp_path):
    source, ours, back = (tmp_path / name for name in ("source", "ours", "back"))
    publish(source)
    assert main(["convert", "--from", str(source), "--to", str(ours)]) == 0
    assert main(["convert", "--from", str(ours), "--to", str(back), "--format", "hf"]) == 0
    for name in ("model.safetensors", "source.spm", "target.spm", "vocab.json"):
        assert (back / name).read_bytes() == (source / name).read_bytes()
    there, here = open_pretrained(source), open_pretrained(back)
    assert here.config.model == there.config.model
    assert (there.config.model.position, there.config.model.norm_order) == (
        "sinusoidal_marian",
        "post",
    )
    start = there.config.model.start_token
    assert start == there.tokenizer.pad == there.config.model.vocab_size - 1
    generation = json.loads((back / "generation_config.json").read_text())
    assert generation["bad_words_ids"] == [[start]]
    assert "sinusoidal_marian" in json.loads((ours / "config.json").read_text())["model"].values()


def test_old_files_repeat_the_table_and_have_the_positions(tmp_path):
    rows = len(write_languages(tmp_path))
    table = random_arrays(shapes_of(rows))["model.shared.weight"]
    tied = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    tied += ("lm_head.weight",)
    extra = {name: table.copy() for name in tied}
    extra["model.encoder.embed_positions.weight"] = np.ones((512, D), np.float32)
    states = {
        e.name: e.state for e in open_pretrained(publish(tmp_path, extra=extra)).mapped.report
    }
    assert [states[name] for name in tied] == ["tied"] * 3
    assert states["model.encoder.embed_positions.weight"] == "skipped"


def test_each_language_is_cut_by_its_own_model(tmp_path):
    vocabulary = write_languages(tmp_path)
    source = load_tokenizer(tmp_path)
    target = source.for_targets()
    for tokenizer, text in ((source, ENGLISH[0]), (target, GERMAN[0])):
        ids = tokenizer.encode(text)
        assert vocabulary["<unk>"] not in ids
        beyond = len(vocabulary) + 5  # a model may have more rows than tokens
        assert tokenizer.decode([*ids, beyond, source.eos, source.pad]) == text
        again = pickle.loads(pickle.dumps(tokenizer))
        np.testing.assert_array_equal(again.encode(text), ids)
        np.testing.assert_array_equal(tokenizer.encode_offsets(text)[0], ids)
    assert len(source.encode(GERMAN[0])) > len(target.encode(GERMAN[0]))
    assert source.fingerprint != target.fingerprint
    assert (source.eos, source.unk, source.pad) == (0, 1, len(vocabulary) - 1)


def test_a_language_that_is_asked_for_comes_first(tmp_path):
    vocabulary = write_languages(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "source.spm")
    plain = tokenizer.encode("the house")
    ids, starts, ends = tokenizer.encode_offsets(f"{CODE} the house")
    assert ids.tolist() == [vocabulary[CODE], *plain.tolist()]
    assert (starts[0], ends[0], ends[-1]) == (0, len(CODE), len(f"{CODE} the house"))
    assert ids.tolist() == tokenizer.encode(f"{CODE} the house").tolist()
    assert vocabulary[CODE] not in tokenizer.encode("the house >>deu<<")
    assert vocabulary[CODE] not in tokenizer.encode(">>fra<< the house")


def test_rows_to_train_on_have_both_languages(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    write_languages(tmp_path / "tokenizer")
    lines = [json.dumps({"source": ENGLISH[0], "target": GERMAN[0]})]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    data = PairData(
        name="text", dir=str(tmp_path), tokenizer=str(tmp_path / "tokenizer"), length=40,
        target_length=40,
    )  # fmt: skip
    row = open_pair_rows(data, "train", train=True).make(0, np.random.default_rng(0))
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    for side, text, cutter in (
        ("source", ENGLISH[0], tokenizer),
        ("target", GERMAN[0], tokenizer.for_targets()),
    ):
        kept = row[side][row[f"{side}_segment"] > 0]
        assert kept.tolist() == [*cutter.encode(text).tolist(), 0]


def test_a_text_is_translated_and_the_start_is_never_said(tmp_path, capsys):
    path = publish(tmp_path)
    assert main(["translate", "--weights", str(path), ENGLISH[0], "--beam", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["source"] == ENGLISH[0]
    assert len(found[0]["beams"]) == 2
    cfg, params = load(path)
    start = cfg.start_token
    params["logits_bias"] = params["logits_bias"].at[start].set(1e6)  # the likeliest by far
    tokens = jnp.asarray(load_tokenizer(path).encode(ENGLISH[0]))[None]
    search = jax.jit(
        lambda params: search_targets(
            make_model(cfg, params), tokens, jnp.ones_like(tokens), beams=2, max_length=5, eos=0,
            penalty=wu_penalty(0.6),
        )
    )  # fmt: skip
    beams = search(params)
    assert np.isfinite(beams.score).all()
    assert not (beams.tokens == start).any()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings is False"),
        ({"decoder_vocab_size": 7}, "decoder_vocab_size is 7"),
        ({"decoder_attention_heads": 2}, "decoder_attention_heads is 2, and only 4"),
        ({"decoder_ffn_dim": 25}, "decoder_ffn_dim is 25"),
        ({"decoder_start_token_id": 10**6}, "start_token 1000000 is no number"),
        ({"activation_function": "mish"}, "activation 'mish'"),
        ({"encoder_layers": 1}, r"holds model.encoder.layers.1.*of which no parameter"),
    ],
)
def test_what_zoos_does_not_compute_is_refused(changes, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        open_pretrained(publish(tmp_path, **changes))


@pytest.mark.parametrize(
    ("vocabulary", "complaint"),
    [
        ({"</s>": 0}, "needs pieces with numbers"),
        ([], "needs pieces with numbers"),
        ({"</s>": 0, "<unk>": "1"}, "a piece whose number is none"),
        ({"</s>": 0, "<unk>": 2**60}, "a piece whose number is none"),
        ({"</s>": 0, "<unk>": True}, "a piece whose number is none"),
        ({"</s>": 0, "<unk>": 0}, "one number for two pieces"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(vocabulary, complaint, tmp_path):
    write_languages(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(UserError, match=complaint):
        load_tokenizer(tmp_path)


def test_half_a_tokenizer_is_named(tmp_path):
    write_languages(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"separate_vocabs": true}')
    with pytest.raises(UserError, match=r"two vocabularies \(separate_vocabs\)"):
        load_tokenizer(tmp_path)
    (tmp_path / "target.spm").unlink()
    with pytest.raises(UserError, match=r"target.spm is not there"):
        load_tokenizer(tmp_path)
