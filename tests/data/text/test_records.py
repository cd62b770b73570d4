"""Text by index: layouts of files, TFDS, fields, slices, labels, and what is wrong with a file."""

import gzip
import json
import pickle

import numpy as np
import pytest

from zoo.config import UserError
from zoo.config.data import ImageData, TextData
from zoo.data.sources import open_source
from zoo.data.text.records import field_texts, info, label_names, list_splits, open_records

SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "Rain",
            "paragraphs": [
                {
                    "context": "Rain falls from clouds.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "What falls?",
                            "answers": [{"text": "Rain", "answer_start": 0}],
                        },
                        {"id": "b", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
LAYOUTS = {
    "train.jsonl": ('{"text": "é", "n": 1}\r\n\n  \n{"text": "b\\nc", "n": [2]}', ["text", "n"]),
    "train.tsv": ('sentence\tlabel\nsays "no\t1\r\nb\t0\n', ["sentence", "label"]),
    "train.csv": ('text,label\n"a, ""b""\nc",x\nd,y\n', ["text", "label"]),
    "train.txt": ("\n\nOne.\nTwo.\n \n\nThree.\r\nFour.\n\n", ["text"]),
    "train.conll": (
        "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP I-NP B-PER\n",
        ["words", "tags"],
    ),
    "train-v2.0.json": (json.dumps(SQUAD), ["id", "title", "question", "context", "answers"]),
}
WANTED = {
    "train.jsonl": [{"text": "é", "n": 1}, {"text": "b\nc", "n": [2]}],
    "train.tsv": [{"sentence": 'says "no', "label": "1"}, {"sentence": "b", "label": "0"}],
    "train.csv": [{"text": 'a, "b"\nc', "label": "x"}, {"text": "d", "label": "y"}],
    "train.txt": [{"text": "One.\nTwo."}, {"text": "Three.\nFour."}],
    "train.conll": [
        {"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"words": ["Peter"], "tags": ["B-PER"]},
    ],
    "train-v2.0.json": [
        {
            "id": "a",
            "title": "Rain",
            "question": "What falls?",
            "context": "Rain falls from clouds.",
            "answers": {"text": ["Rain"], "answer_start": [0]},
        },
        {
            "id": "b",
            "title": "Rain",
            "question": "Why?",
            "context": "Rain falls from clouds.",
            "answers": {"text": [], "answer_start": []},
        },
    ],
}


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def text(root, **options):
    return TextData(name="text", dir=str(root), tokenizer="", **options)


# ---- layouts ----


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_each_layout_reads_the_same_here_and_in_another_process(tmp_path, name):
    content, fields = LAYOUTS[name]
    write(tmp_path, {name: content})
    records = open_records(text(tmp_path), "train")
    assert list(records.fields) == fields
    assert [dict(one) for one in records] == WANTED[name]
    copy = pickle.loads(pickle.dumps(records))
    assert [dict(copy[i]) for i in range(len(copy))] == WANTED[name]
    with pytest.raises(IndexError):
        records[2]
    assert str(tmp_path / name) in records.describe(1)


@pytest.mark.parametrize("name", ["train.jsonl", "train.tsv", "train.csv", "train.txt"])
def test_compressed_files_read_as_plain_ones(tmp_path, name):
    write(tmp_path, {f"{name}.gz": gzip.compress(LAYOUTS[name][0].encode())})
    records = open_records(text(tmp_path), "train")
    assert [dict(one) for one in pickle.loads(pickle.dumps(records))] == WANTED[name]


def test_lines_are_found_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.data.text.files._CHUNK", 3)
    for name in ("train.csv", "train.jsonl"):
        write(tmp_path / name, {name: LAYOUTS[name][0]})
        records = open_records(text(tmp_path / name), "train")
        assert [dict(one) for one in records] == WANTED[name]


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name in ("train.tsv", "train.txt"):
        write(tmp_path / name, {name: b"\xef\xbb\xbf" + LAYOUTS[name][0].lstrip().encode()})
        records = open_records(text(tmp_path / name), "train")
        assert dict(records[0]) == WANTED[name][0]


def test_parallel_files_are_pairs_line_by_line(tmp_path):
    write(tmp_path, {"train.en": "a\n\nc\n", "train.de": "A\nB\nC", "dev.en": "d\n", "dev.de": "D"})
    records = open_records(text(tmp_path), "train")
    assert [dict(one) for one in records] == [
        {"en": "a", "de": "A"},
        {"en": "", "de": "B"},
        {"en": "c", "de": "C"},
    ]
    assert set(list_splits(text(tmp_path))) == {"train", "dev"}
    write(tmp_path, {"train.de": "A\nB\n"})
    with pytest.raises(UserError, match=r"train.de has 2 lines, .*train.en has 3 lines"):
        open_records(text(tmp_path), "train")


def test_folders_are_documents_or_classes(tmp_path):
    files = ["train/pos/2.txt", "train/pos/1.txt", "train/neg/1.txt", "train/unsup/0.txt"]
    write(tmp_path, {name: name for name in files} | {"train/urls.txt": "", "test/a.txt": "x\ny"})
    train, test = (open_records(text(tmp_path), split) for split in ("train", "test"))
    assert [(one["text"], one["label"]) for one in train] == [
        ("train/neg/1.txt", "neg"),
        ("train/pos/1.txt", "pos"),
        ("train/pos/2.txt", "pos"),
    ]
    assert train.describe(2) == str(tmp_path / "train/pos/2.txt")
    assert label_names(train, text(tmp_path)) == ("neg", "pos")
    assert dict(test[0]) == {"text": "x\ny"}


# ---- fields, slices, labels ----


def test_fields_are_renamed_and_missing_ones_say_what_there_is(tmp_path):
    write(tmp_path, {"train.tsv": LAYOUTS["train.tsv"][0]})
    records = open_records(text(tmp_path, fields={"text": "sentence"}), "train")
    assert records[1]["text"] == "b"
    assert records.fields == ("sentence", "label", "text")
    with pytest.raises(UserError, match=r"train.tsv:3 has no field 'texts'; did you mean 'text'"):
        records[1]["texts"]
    with pytest.raises(UserError, match=r"no field 'sentance'; did you mean 'sentence'\?; it has "):
        open_records(text(tmp_path, fields={"text": "sentance"}), "train")


def test_a_text_is_made_of_several_fields(tmp_path):
    write(tmp_path, {"train.jsonl": '{"a": "x {b}", "b": 2, "c": ["y"]}\n{"a": "z"}\n'})
    fields = {"text": "first: {a} second: {b}", "label": "{b}"}
    records = open_records(text(tmp_path, fields=fields), "train")
    assert records[0].text("text") == "first: x {b} second: 2"
    assert records[0].text("label") == "2"
    assert records.fields == ("a", "b", "c", "text", "label")
    with pytest.raises(UserError, match=r"train.jsonl:2 has no field 'b'"):
        records[1]
    with pytest.raises(UserError, match=r"no field 'd'"):
        open_records(text(tmp_path, fields={"text": "{a} {d}"}), "train")
    with pytest.raises(UserError, match=r"train.jsonl:1: 'c' is list, not text or a number"):
        open_records(text(tmp_path, fields={"text": "{c}"}), "train")[0]


def test_a_line_that_lacks_a_named_field_is_named(tmp_path):
    write(tmp_path, {"train.jsonl": '{"a": "x"}\n{"b": "y"}\n'})
    records = open_records(text(tmp_path, fields={"text": "a"}), "train")
    with pytest.raises(UserError, match=r"train.jsonl:2 has no field 'a'"):
        records[1]
    write(tmp_path, {"train.jsonl": '{"a": 3}\n'})
    with pytest.raises(UserError, match=r"train.jsonl:1: 'a' is int, not text"):
        list(field_texts(text(tmp_path), ["train"], ["a"]))


def test_a_slice_counts_its_own_examples(tmp_path):
    write(tmp_path, {"train.jsonl": "".join(f'{{"n": {i}}}\n' for i in range(10))})
    records = open_records(text(tmp_path), "train[-30%:]")
    assert [one["n"] for one in records] == [7, 8, 9]
    assert records.describe(0).endswith("train.jsonl:8")
    with pytest.raises(UserError, match="of 10: give bounds"):
        open_records(text(tmp_path), "train[10:]")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([10, 9, -1], ("-1", "9", "10")),
        ([["O", "B"], ["O"], ["I"]], ("B", "I", "O")),
    ],
)
def test_labels_are_those_of_the_whole_training_split(tmp_path, labels, names):
    lines = "".join(json.dumps({"label": label}) + "\n" for label in labels)
    write(tmp_path, {"train.jsonl": lines, "test.jsonl": '{"label": "new"}\n'})
    data = text(tmp_path, train_split="train[:1]")
    assert label_names(open_records(data, "test"), data) == names


def test_more_labels_than_there_can_be_classes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.data.text.records.MAX_LABELS", 2)
    write(tmp_path, {"train.jsonl": "".join(f'{{"label": {i / 7}}}\n' for i in range(4))})
    with pytest.raises(UserError, match=r"train.jsonl:3: 'label' has more than 2 different"):
        label_names(open_records(text(tmp_path), "train"), text(tmp_path))


def test_info_tells_splits_counts_and_fields(tmp_path):
    write(tmp_path, {"train.tsv": LAYOUTS["train.tsv"][0], "test.en": "a\n", "test.de": "b\n"})
    size = len(LAYOUTS["train.tsv"][0].encode())
    assert info(text(tmp_path)) == {
        "name": "text",
        "dir": str(tmp_path),
        "splits": {
            "train": {"count": 2, "fields": ["sentence", "label"], "bytes": size},
            "test": {"count": 1, "fields": ["de", "en"], "bytes": 4},
        },
    }


# ---- what is wrong ----


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "is no directory: data.name 'text' needs SPLIT.jsonl"),
        ({"notes.pdf": ""}, "holds no text: data.name 'text' needs SPLIT.jsonl"),
        ({"trian.txt": "a"}, "has no split 'train'; did you mean 'trian'"),
        ({"train.txt": "a", "train.jsonl": "{}"}, "train.jsonl and train.txt: it is not clear"),
        ({"train.jsonl": ""}, "train.jsonl is empty"),
        ({"train.txt": "\n \n\n"}, "train.txt holds no text"),
        ({"train.tsv": "a\tb\n"}, "train.tsv is empty: it needs a line of names"),
        ({"train.tsv": "a\ta\n1\t2"}, "train.tsv:1 names a column twice: a, a"),
        ({"train.jsonl": "\n[1]\n"}, "train.jsonl:2 is no JSON object"),
        ({"train.jsonl": '{"a": 1}\n{"a": \n'}, "train.jsonl:2 is no JSON object"),
        ({"train.jsonl": b'{"a": 1}\n{"a": "\xff"}\n'}, "train.jsonl:2 is not UTF-8"),
        ({"train.tsv": "a\tb\n1\t2\n3\n"}, "train.tsv:3 has 1 cells, the first line 2"),
        ({"train.csv": 'a,b\n1,2\n"3"4,5\n'}, "train.csv:3: "),
        ({"train.conll": "a O\nb\n"}, r"train.conll\[0\]: each line needs a word and a tag"),
        ({"train.json": '{"a": []}'}, "train.json is not laid out as SQuAD's JSON"),
        ({"train.jsonl.gz": b"no gz"}, "train.jsonl.gz cannot be unpacked"),
    ],
)
def test_files_that_are_wrong_are_named(tmp_path, files, complaint):
    write(tmp_path / "x", files)
    with pytest.raises(UserError, match=complaint) as caught:
        list(open_records(text(tmp_path / "x"), "train"))
    assert "\n" not in str(caught.value)


def test_images_are_no_text_and_text_no_images(tmp_path):
    with pytest.raises(UserError, match="'cifar10' holds images: give 'text'"):
        open_records(TextData(name="cifar10", tokenizer=""), "train")
    with pytest.raises(UserError, match="'text' holds no images"):
        open_source(ImageData(name="text"), "train")


# ---- TFDS ----


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """Questions, tagged words and classes that TFDS prepared as ArrayRecord, without TensorFlow."""
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.features

    class TinyText(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            tags = features.ClassLabel(names=["O", "PER"])
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {
                        "sentence": features.Text(),
                        "label": features.ClassLabel(names=["bad", "good"]),
                        "tokens": features.Sequence(features.Text()),
                        "ner": features.Sequence(tags),
                        "answers": features.Sequence(
                            {"text": features.Text(), "answer_start": np.int32}
                        ),
                    }
                ),
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples(1), "test": self._generate_examples(-1)}

        def _generate_examples(self, label):
            yield (
                0,
                {
                    "sentence": "Grüße",
                    "label": label,
                    "tokens": ["Ada", "codes"],
                    "ner": [1, 0],
                    "answers": {"text": ["Ada"], "answer_start": [0]},
                },
            )

    root = tmp_path_factory.mktemp("tfds")
    TinyText(data_dir=str(root), file_format="array_record").download_and_prepare()
    return root


def test_tfds_text_comes_as_pythons_own_types(tfds_dir):
    fields = {"text": "sentence", "words": "tokens", "tags": "ner"}
    data = TextData(name="tfds:tiny_text", dir=str(tfds_dir), tokenizer="", fields=fields)
    assert set(list_splits(data)) == {"train", "test"}
    records = open_records(data, "train")
    found = pickle.loads(pickle.dumps(records))[0]
    assert found["text"] == "Grüße"
    assert found["label"] == "good"
    assert (found["words"], found["tags"]) == (["Ada", "codes"], ["PER", "O"])
    assert found["answers"] == {"text": ["Ada"], "answer_start": [0]}
    assert type(found["answers"]["answer_start"][0]) is int
    assert label_names(records, data) == ("bad", "good")
    assert label_names(records, data, "tags") == ("O", "PER")
    assert open_records(data, "test")[0]["label"] == -1
    assert records.files[0].is_file()
    with pytest.raises(UserError, match="no split 'valid'"):
        open_records(data, "valid")
