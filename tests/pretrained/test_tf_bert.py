"""google-research's BERT checkpoints of TensorFlow: read without it, whole or not at all."""

import contextlib
import json
import random

import ml_dtypes
import numpy as np
import pytest

from tests.models.berts import make_batch, run_head
from tests.pretrained import bundles, test_hf_bert
from tests.pretrained.published import load, random_arrays, write_published, write_vocabulary
from zoo.cli import main
from zoo.config import UserError
from zoo.data.text.tokenizers import load_tokenizer
from zoo.pretrained import crc32c, sstable
from zoo.pretrained.opening import open_pretrained
from zoo.pretrained.tf_bundle import Bundle

D, F, V = 16, 24, 30
CONFIG = {
    "vocab_size": V, "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": F, "max_position_embeddings": 12, "hidden_act": "gelu",
    "type_vocab_size": 2, "initializer_range": 0.02,
}  # fmt: skip
# Hugging Face's names -> those of TensorFlow, as their own script turns them.
RENAMED = (
    ("cls.predictions.bias", "cls/predictions/output_bias"),
    ("cls.seq_relationship.weight", "cls/seq_relationship/output_weights"),
    ("cls.seq_relationship.bias", "cls/seq_relationship/output_bias"),
    ("qa_outputs.weight", "cls/squad/output_weights"),
    ("qa_outputs.bias", "cls/squad/output_bias"),
    ("classifier.weight", "output_weights"),
    ("classifier.bias", "output_bias"),
    ("_embeddings.weight", "_embeddings"),
    ("LayerNorm.weight", "LayerNorm.gamma"),
    ("LayerNorm.bias", "LayerNorm.beta"),
    ("encoder.layer.", "encoder.layer_"),
    (".weight", ".kernel"),
    (".", "/"),
)


def theirs_of(arrays):
    """A model's arrays of Hugging Face as a checkpoint of TensorFlow has them."""
    found = {}
    for name, array in arrays.items():
        for old, new in RENAMED:
            name = name.replace(old, new)
        found[name] = np.ascontiguousarray(array.T if name.endswith("/kernel") else array)
    return found


def publish(directory, head, *, extra=None, changes=None, **options):
    arrays = theirs_of(random_arrays(test_hf_bert.HEADS[head][1])) | (extra or {})
    bundles.write_bundle(directory / "bert_model.ckpt", arrays, **options)
    (directory / "bert_config.json").write_text(json.dumps({**CONFIG, **(changes or {})}))
    write_vocabulary(directory)
    return directory


HEADS = ["pretraining", "masked_lm", "classification", "question_answering"]


@pytest.mark.parametrize("head", HEADS)
def test_a_checkpoint_is_the_model_that_transformers_makes_of_it(head, tmp_path):
    cfg, params = load(publish(tmp_path / "tf", head))
    assert (cfg.head, cfg.gelu, cfg.norm_epsilon) == (head, "tanh", 1e-12)
    architecture, shapes = test_hf_bert.HEADS[head]
    tree = {**test_hf_bert.CONFIG, "architectures": [architecture], "hidden_act": "gelu_new"}
    labels = {str(i): f"LABEL_{i}" for i in range(3)} if head == "classification" else {}
    path = write_published(tmp_path / "hf", tree | {"id2label": labels}, random_arrays(shapes))
    hf_cfg, hf_params = load(path)
    assert cfg == hf_cfg
    batch = make_batch()
    expected = run_head(hf_cfg, hf_params, batch)
    for name, value in run_head(cfg, params, batch).items():
        np.testing.assert_array_equal(value, expected[name])


def test_it_is_converted_with_its_vocabulary_and_used(tmp_path, capsys):
    slots = {
        "bert/embeddings/word_embeddings/adam_m": np.ones((V, D), np.float32),
        "cls/predictions/output_bias/adam_v": np.ones(V, np.float32),
        "global_step": np.array(1000, np.int64),
    }
    source = publish(tmp_path / "tf", "pretraining", extra=slots)
    out = tmp_path / "hf"
    argv = ["convert", "--from", str(source), "--to", str(out), "--format", "hf", "--json"]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    states = {one["name"]: one for one in found["arrays"]}
    assert {name for name, one in states.items() if one["state"] == "skipped"} == slots.keys()
    assert states["global_step"]["what"] == "the count of training steps"
    assert json.loads((out / "config.json").read_text())["hidden_act"] == "gelu_new"
    shapes = test_hf_bert.HEADS["pretraining"][1]
    arrays = {n: np.asarray(a) for n, a in random_arrays(shapes).items()}
    path = write_published(tmp_path / "same", test_hf_bert.CONFIG, arrays)
    written = (out / "model.safetensors").read_bytes()
    assert written == (path / "model.safetensors").read_bytes()
    assert main(["fill-mask", "--weights", str(source), "a [MASK] c", "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_a_checkpoint_may_be_called(tmp_path):
    publish(tmp_path, "masked_lm")
    for name in (
        "",
        "bert_model.ckpt",
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
    ):
        assert open_pretrained(tmp_path / name).origin == "google-research's BERT"
    (tmp_path / "bert_model.ckpt.index").rename(tmp_path / "model.ckpt-7.index")
    with pytest.raises(UserError, match=r"model.ckpt-7.data-00000-of-00001 is not there"):
        open_pretrained(tmp_path)
    (tmp_path / "model.ckpt-9.index").write_bytes(b"")
    with pytest.raises(UserError, match=r"several checkpoints \(model.ckpt-7.index, model.ckpt-9"):
        open_pretrained(tmp_path)


@pytest.mark.parametrize("options", [{"shards": 3}, {"snappy": True}], ids=["shards", "snappy"])
def test_shards_and_packed_indexes_hold_the_same(options, tmp_path):
    plain = Bundle(publish(tmp_path / "a", "masked_lm") / "bert_model.ckpt.index")
    other = Bundle(publish(tmp_path / "b", "masked_lm", **options) / "bert_model.ckpt.index")
    assert plain.specs == other.specs
    for name in plain.specs:
        np.testing.assert_array_equal(plain.read(name), other.read(name))


def test_types_and_layers(tmp_path):
    arrays = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "brain": np.arange(4, dtype=np.float32).astype(ml_dtypes.bfloat16),
        "step": np.array(5, np.int64),
        "none": np.zeros((0, 3), np.float32),
    }
    bundles.write_bundle(tmp_path / "x", arrays)
    file = Bundle(tmp_path / "x.index")
    for name, array in arrays.items():
        assert file.read(name).dtype == array.dtype
        np.testing.assert_array_equal(file.read(name), array)
    np.testing.assert_array_equal(file.read("half", 1), arrays["half"][1])


def test_capitals_in_a_vocabulary_are_kept(tmp_path):
    write_vocabulary(tmp_path)
    assert load_tokenizer(tmp_path).lowercase
    with (tmp_path / "vocab.txt").open("a") as file:
        file.write("##Ab\n")
    assert not load_tokenizer(tmp_path).lowercase


def test_checksums_are_those_of_the_standard():
    assert crc32c.crc32c(b"123456789") == 0xE3069283  # RFC 3720 and its examples
    assert crc32c.crc32c(bytes(32)) == 0x8A9136AA
    rng = np.random.default_rng(0)
    for size in (0, 1, 3, 1023, 1024, 1025, 4097):
        data = rng.integers(0, 256, size, np.uint8).tobytes()
        assert crc32c.crc32c(data) == bundles.slow_crc32c(data)


def test_snappy_as_its_description_has_it():
    copies = b"\x0c" + b"\x0cabcd" + bytes([0b000_001_01, 3]) + bytes([2 << 2 | 3, 5, 0, 0, 0])
    assert sstable.unsnap(copies) == b"abcd" + b"bcdbc" + b"bcd"
    for damaged in (copies[:-1], b"\x05" + copies[1:], b"\x04\x01\x09", b"\xff" * 11, b"\x01"):
        with pytest.raises(ValueError):  # noqa: PT011
            sstable.unsnap(damaged)


def test_another_models_checkpoint_or_config_is_refused(tmp_path):
    source = publish(tmp_path / "a", "masked_lm", changes={"hidden_act": "relu"})
    with pytest.raises(UserError, match="hidden_act is 'relu'"):
        open_pretrained(source)
    (source / "bert_config.json").unlink()
    with pytest.raises(UserError, match=r"needs the bert_config.json"):
        open_pretrained(source)
    source = publish(tmp_path / "b", "masked_lm", changes={"num_hidden_layers": 1})
    with pytest.raises(UserError, match=r"holds bert/encoder/layer_1/.*of which no parameter"):
        open_pretrained(source)
    source = publish(tmp_path / "c", "masked_lm")
    bundles.write_bundle(source / "bert_model.ckpt", {"w": np.ones(3, np.float32)})
    with pytest.raises(UserError, match="holds no BERT of google-research's"):
        open_pretrained(source)


def test_a_flipped_bit_is_found(tmp_path):
    source = publish(tmp_path, "masked_lm")
    data = source / "bert_model.ckpt.data-00000-of-00001"
    raw = bytearray(data.read_bytes())
    raw[100] ^= 1
    data.write_bytes(raw)
    with pytest.raises(UserError, match=r"the checksum of .* is wrong"):
        load(source)
    data.write_bytes(raw[:-4])
    with pytest.raises(UserError, match=r"ends past the end of bert_model.ckpt.data"):
        open_pretrained(source)


def entry(**changes):
    """A table of one array of 8 bytes, some of its entry's fields changed; of the header `head`."""
    values = {"dtype": 1, "shape": bundles.field(2, bundles.field(1, 2)), "shard": 0, "size": 8}
    values |= changes
    numbers = {"dtype": 1, "shape": 2, "shard": 3, "offset": 4, "size": 5, "slices": 7}
    made = b"".join(bundles.field(n, values[key]) for key, n in numbers.items() if key in values)
    return bundles.write_table({b"": values.get("head", bundles.field(1, 1)), b"a": made})


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (b"", "does not end as such a table does"),
        (bytes(40) + sstable.MAGIC, "a block"),
        (entry(dtype=7), "TensorFlow's type 7"),
        (entry(shard=1), "lies in file 1 of 1"),
        (entry(offset=1), "ends past the end"),
        (entry(offset=2**63), "ends past the end"),
        (entry(shape=bundles.field(2, bundles.field(1, 3))), r"is \[3\] of float32, and has 8"),
        (entry(shape=bundles.field(2, bundles.field(1, 2**64 - 1))), "has 8 bytes"),
        (entry(slices=b"x"), "stored in slices"),
        (entry(head=b""), "there are 0 files"),
        (entry(head=bundles.field(1, 2**40)), "there are 1099511627776 files"),
        (entry(head=bundles.field(1, 2)), "data-00000-of-00002 is not there"),
        (entry(head=bundles.field(1, 1) + bundles.field(2, 1)), "big-endian"),
        (entry(shape=b"\x12\x7f"), "127 bytes are asked for"),
        (bundles.write_table({b"a": b"\x08\x01"}), "it has no header"),
        (entry(shape=b"\x13"), "a field of an unknown kind 3"),
    ],
)
def test_an_index_that_lies_is_refused_in_a_line(table, complaint, tmp_path):
    (tmp_path / "x.index").write_bytes(table)
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(8))
    with pytest.raises(UserError, match=complaint):
        Bundle(tmp_path / "x.index")


def test_no_damage_of_an_index_is_more_than_a_line(tmp_path):
    arrays = {f"name/{i}": np.ones(2, np.float32) for i in range(30)}
    bundles.write_bundle(tmp_path / "x", arrays)
    good, rng = (tmp_path / "x.index").read_bytes(), random.Random(0)
    for _ in range(150):
        raw = bytearray(good)
        for _ in range(rng.choice((1, 3))):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        (tmp_path / "x.index").write_bytes(raw[: rng.choice((len(raw), rng.randrange(len(raw))))])
        with contextlib.suppress(UserError):  # else what was struck is padding
            assert Bundle(tmp_path / "x.index").specs.keys() == arrays.keys()


def test_no_damage_below_the_checksums_is_more_than_a_line(tmp_path):
    entries = {b"": bundles.field(1, 1), b"a": b"\x08\x01\x12\x04\x12\x02\x08\x02\x28\x08"}
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(8))
    rng = random.Random(1)
    for _ in range(150):
        raw = {key: bytearray(value) for key, value in entries.items()}
        for key in raw:
            raw[key][rng.randrange(len(raw[key]))] = rng.randrange(256)
        table = bundles.write_table({key: bytes(value) for key, value in raw.items()})
        (tmp_path / "x.index").write_bytes(table)
        with contextlib.suppress(UserError):  # any other error fails
            file = Bundle(tmp_path / "x.index")
            [file.read(name) for name in file.specs]
