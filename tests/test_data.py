"""Data sets: by name, from folders and files; damaged ones are refused, and no sample is dropped or made up."""

from __future__ import annotations

import gzip
import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from photonic.data import Dataset, load_dataset
from photonic.data import load as load_module
from photonic.errors import DataError, MissingExtraError

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def _images(n: int, seed: int = 0, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def _idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def _write_idx(folder: Path, zipped: bool = False, n: int = 6) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        for kind, values in (
            ("images-idx3", _images(n, shape=(4, 4))),
            ("labels-idx1", np.arange(n, dtype=np.uint8) % 3),
        ):
            raw = _idx(values)
            name = f"{part}-{kind}-ubyte" + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(raw) if zipped else raw)


def _write_parquet(path: Path, images: list[bytes | None], labels: list[int | None], label: str = "label") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"img": pa.array(cells, struct_type), label: pa.array(labels, pa.int64())})
    pq.write_table(table, path)


def _save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def _good(n: int = 12) -> dict[str, np.ndarray]:
    labels = np.arange(n) % 3
    return {"x_train": _images(n, 0), "y_train": labels, "x_test": _images(n, 1), "y_test": labels}


def test_digits_are_real_and_split_once_and_for_all() -> None:
    """1,797 of them, 540 to test on, every class in both parts, no image in both; the split knows no seed."""
    digits = load_dataset("digits")
    assert digits.train_x.shape == (1257, 1, 8, 8)
    assert digits.test_x.shape == (540, 1, 8, 8)
    assert (float(digits.train_x.min()), float(digits.train_x.max())) == (0.0, 1.0)
    assert digits.train_x.dtype == torch.float32
    assert digits.n_classes == 10
    assert min(digits.train_y.bincount(minlength=10)) > 100
    assert min(digits.test_y.bincount(minlength=10)) > 50
    assert torch.equal(load_dataset("digits").test_x, digits.test_x)


def test_a_limit_takes_evenly_spaced_samples() -> None:
    """A set may be sorted by class: the limit reaches all of it."""
    labels = torch.arange(10).repeat_interleave(100)
    x = torch.arange(1000.0).reshape(-1, 1)
    limited = Dataset("sorted", x, labels, x, labels, tuple("0123456789")).limited(20)
    assert limited.train_y.bincount().tolist() == [2] * 10
    assert len(limited.test_y) == 20
    with pytest.raises(DataError, match="at least 1"):
        load_dataset("digits", limit=0)


def test_npz_with_two_parts_is_taken_as_it_is(tmp_path: Path) -> None:
    """uint8 becomes [0, 1]; (n, H, W) gets a channel; features stay what they are."""
    arrays = _good() | {"x_train": _images(12, shape=(6, 5)), "x_test": _images(12, 1, shape=(6, 5))}
    loaded = load_dataset(str(_save(tmp_path / "a.npz", **arrays)))
    assert loaded.train_x.shape == (12, 1, 6, 5)
    np.testing.assert_allclose(loaded.train_x[:, 0].numpy() * 255, arrays["x_train"], rtol=1e-6)
    assert loaded.train_y.tolist() == arrays["y_train"].tolist()
    features = _good() | {"x_train": np.linspace(-3, 3, 24).reshape(12, 2), "x_test": np.zeros((12, 2))}
    table = load_dataset(str(_save(tmp_path / "b.npz", **features)))
    assert table.train_x.shape == (12, 1, 1, 2)
    assert table.train_x.min() == -3


def test_channels_may_stand_first_or_last(tmp_path: Path) -> None:
    """The same pixels either way; a shape that says neither is refused, not guessed."""
    last = _images(12)
    first = _good() | {"x_train": last.transpose(0, 3, 1, 2), "x_test": last.transpose(0, 3, 1, 2)}
    loaded = [
        load_dataset(str(_save(tmp_path / f"{i}.npz", **arrays)))
        for i, arrays in enumerate((first, _good() | {"x_train": last, "x_test": last}))
    ]
    assert torch.equal(loaded[0].train_x, loaded[1].train_x)
    assert loaded[0].train_x.shape == (12, 3, 6, 5)
    odd = np.zeros((12, 5, 6, 7), np.uint8)
    with pytest.raises(DataError, match=r"1 or 3 channels, found \(12, 5, 6, 7\)"):
        load_dataset(str(_save(tmp_path / "odd.npz", **(_good() | {"x_train": odd, "x_test": odd}))))


def test_npz_with_one_part_is_split_by_a_fixed_rule(tmp_path: Path) -> None:
    """Stratified, every sample in exactly one part."""
    x = np.arange(100, dtype=np.float64).reshape(-1, 1)
    loaded = load_dataset(str(_save(tmp_path / "a.npz", x=x, y=np.arange(100) % 2)))
    both = torch.cat([loaded.train_x, loaded.test_x]).flatten().sort().values
    assert both.tolist() == list(range(100))
    assert loaded.test_y.bincount().tolist() == [15, 15]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": None}, "expected the arrays"),
        ({"y_train": np.zeros(12, dtype=int)}, "at least two classes"),
        ({"y_train": np.linspace(0, 2, 12)}, "whole numbers"),
        ({"y_train": np.arange(12) - 1}, "at least 0"),
        ({"y_train": np.arange(11)}, "labels \\(n,\\)"),
        ({"x_train": np.full((12, 4), np.nan)}, "NaN"),
        ({"x_train": np.zeros((12, 4)), "x_test": np.zeros((12, 5))}, "test samples"),
        ({"x_test": np.zeros((0, 6, 5, 3), np.uint8), "y_test": np.zeros(0, int)}, "empty"),
        ({"x_train": np.array(["a"] * 12).reshape(12, 1)}, "real numbers"),
        ({"x_train": np.array([None] * 12, dtype=object)}, "plain arrays"),
        ({"x_train": np.zeros((12, 2), dtype=complex)}, "real numbers"),
    ],
)
def test_bad_npz_files_are_refused_by_name(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    """Each says what was expected and found; pickled objects are never loaded."""
    arrays = {name: value for name, value in (_good() | change).items() if value is not None}
    with pytest.raises(DataError, match=message):
        load_dataset(str(_save(tmp_path / "bad.npz", **arrays)))


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_truncated_npz_is_refused(tmp_path: Path, keep: int) -> None:
    """Cut anywhere."""
    path = _save(tmp_path / "cut.npz", **_good())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut\.npz"):
        load_dataset(str(path))


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_folders_are_recognised(tmp_path: Path, zipped: bool) -> None:
    """As MNIST and its relatives ship them, plain or in gzip."""
    _write_idx(tmp_path, zipped)
    loaded = load_dataset(str(tmp_path))
    assert loaded.train_x.shape == (6, 1, 4, 4)
    assert loaded.test_y.tolist() == [0, 1, 2, 0, 1, 2]


def test_damaged_idx_files_are_refused(tmp_path: Path) -> None:
    """Cut, not idx at all, cut gzip, one missing."""
    _write_idx(tmp_path / "cut")
    images = tmp_path / "cut" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match="is it cut off"):
        load_dataset(str(tmp_path / "cut"))
    images.write_bytes(b"hello, world")
    with pytest.raises(DataError, match="not an idx file"):
        load_dataset(str(tmp_path / "cut"))
    _write_idx(tmp_path / "zip", zipped=True)
    labels = tmp_path / "zip" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-6])
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(tmp_path / "zip"))
    labels.unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        load_dataset(str(tmp_path / "zip"))


def test_debian_s_fashion_mnist_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/usr/share/datasets/fashion-mnist/*.gz, here in a folder of its kind."""
    monkeypatch.setattr(load_module, "DEBIAN", tmp_path)
    monkeypatch.setenv("PHOTONIC_DATA", str(tmp_path / "nothing"))
    _write_idx(tmp_path / "fashion-mnist", zipped=True)
    assert load_dataset("fashion-mnist").train_x.shape == (6, 1, 4, 4)


def test_named_sets_are_never_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says where it looked and what to pass."""
    pytest.importorskip("torchvision", reason="the extra 'data' is not installed")
    monkeypatch.setenv("PHOTONIC_DATA", str(tmp_path))
    for name in ("mnist", "cifar10", "cifar100"):
        with pytest.raises(DataError, match=f"{name} is not in .*pass --download"):
            load_dataset(name)


def test_parquet_folders_keep_every_pixel(tmp_path: Path) -> None:
    """Hugging Face's layout, several files to a part."""
    images = _images(9)
    encoded = [_png(image) for image in images]
    _write_parquet(tmp_path / "train-0.parquet", encoded[:5], [0, 1, 2, 0, 1])
    _write_parquet(tmp_path / "train-1.parquet", encoded[5:], [2, 0, 1, 2])
    _write_parquet(tmp_path / "test.parquet", encoded[:3], [0, 1, 2])
    loaded = load_dataset(str(tmp_path))
    np.testing.assert_array_equal((loaded.train_x * 255).round().numpy().transpose(0, 2, 3, 1), images)
    assert loaded.train_y.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert len(load_dataset(str(tmp_path), limit=4).train_y) == 4


def test_a_single_parquet_file_is_split(tmp_path: Path) -> None:
    """fine_label is a label, too."""
    path = tmp_path / "all.parquet"
    _write_parquet(path, [_png(image) for image in _images(40)], [i % 4 for i in range(40)], label="fine_label")
    loaded = load_dataset(str(path))
    assert (len(loaded.train_y), len(loaded.test_y)) == (28, 12)


def test_damaged_parquet_files_are_refused(tmp_path: Path) -> None:
    """A cut file, a cut image, a missing image or label, images of two sizes, other columns, one part only."""
    good = [_png(image) for image in _images(4)]
    path = tmp_path / "bad.parquet"

    def refused(message: str, images: list[bytes | None], labels: list[int | None], **options: str) -> None:
        _write_parquet(path, images, labels, **options)
        with pytest.raises(DataError, match=message):
            load_dataset(str(path))

    refused("row 1: not a readable image", [good[0], good[1][:40], *good[2:]], [0, 1, 0, 1])
    refused("row 2 holds no image bytes", [good[0], good[1], None, good[3]], [0, 1, 0, 1])
    refused("1 labels are missing", [*good], [0, 1, None, 1])
    refused("one size", [*good[:3], _png(_images(1, shape=(7, 7, 3))[0])], [0, 1, 0, 1])
    refused(r"found \['img', 'kind'\]", [*good], [0, 1, 0, 1], label="kind")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not a readable parquet file"):
        load_dataset(str(path))
    path.rename(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="one part only"):
        load_dataset(str(tmp_path))


def test_folders_of_images_by_class(tmp_path: Path) -> None:
    """train/CLASS/*.png and test/CLASS/*.png; class names are the folders'."""
    for part, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.png").write_bytes(_png(_images(1, seed=label, shape=(5, 5))[0]))
    loaded = load_dataset(str(tmp_path))
    assert loaded.class_names == ("cat", "dog")
    assert loaded.train_x.shape == (8, 1, 5, 5)
    assert loaded.train_y.tolist() == [0] * 4 + [1] * 4
    (tmp_path / "test" / "cow").mkdir()
    with pytest.raises(DataError, match=r"'cow'.*which train does not have"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [("digit", "did you mean digits"), ("nothing/here", "known are digits, mnist"), (".", "no data set recognised")],
)
def test_unknown_sources_say_what_is_known(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A near name, or everything that is looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load_dataset(source)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    """By its ending."""
    (tmp_path / "x.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=r"ends in \.npz or \.parquet"):
        load_dataset(str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("package", "module"), [("pyarrow", "pyarrow"), ("pillow", "PIL"), ("torchvision", "torchvision")]
)
def test_a_missing_extra_gives_the_line_that_installs_it(
    package: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly the pip install line."""
    path = tmp_path / "a.parquet"
    _write_parquet(path, [_png(image) for image in _images(4)], [0, 1, 0, 1])
    monkeypatch.setenv("PHOTONIC_DATA", str(tmp_path))
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is needed.*pip install 'photonic-torch\[data\]'"):
        load_dataset("mnist" if package == "torchvision" else str(path))


def test_real_cifar10_loads_without_decoding_all_of_it() -> None:
    """The shared copy, or the one in PHOTONIC_DATA: a limit reads evenly over all classes."""
    folders = [SHARED / "cifar10", Path(os.environ.get("PHOTONIC_DATA", SHARED)) / "cifar10"]
    folder = next((folder for folder in folders if (folder / "train.parquet").is_file()), None)
    if folder is None:
        pytest.skip("CIFAR-10 is neither in ../shared/data nor in PHOTONIC_DATA")
    loaded = load_dataset(str(folder), limit=300)
    assert loaded.train_x.shape == (300, 3, 32, 32)
    assert loaded.n_classes == 10
    assert min(loaded.train_y.bincount(minlength=10)) > 10
    mean = loaded.train_x.mean(dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.04, rtol=0)
