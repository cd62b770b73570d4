"""TensorFlow Datasets, read without TensorFlow. The only module that imports it."""

from typing import Any

from zoo.config import UserError


def import_tfds() -> Any:
    """The library.

    Raises:
      UserError: it is not installed.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"tfds: datasets need TensorFlow Datasets ({error}): "
            "pip install tensorflow-datasets importlib_resources h5py"
        ) from error
    return tensorflow_datasets


def open_builder(name: str, root: str | None) -> Any:
    """The builder of a prepared dataset.

    Args:
      name: `tfds:NAME`, where NAME may end in `/CONFIG` and `:VERSION`.
      root: TFDS's `data_dir`; None is TFDS's own default.

    Raises:
      UserError: TFDS is not installed, the dataset unknown or not prepared.
    """
    tfds = import_tfds()
    try:
        builder = tfds.builder(name.removeprefix("tfds:"), data_dir=root)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise UserError(f"TFDS has no dataset {name!r}: {str(error).splitlines()[0]}") from error
    if not builder.info.splits:
        raise _unprepared(name, builder)
    return builder


def open_examples(name: str, builder: Any, split: str, **options: Any) -> Any:
    """Random access to a split's examples.

    Raises:
      UserError: the dataset is prepared in a format without random access.
    """
    try:
        return builder.as_data_source(split=split, **options)
    except NotImplementedError as error:  # prepared, but as TFRecord
        raise _unprepared(name, builder) from error


def _unprepared(name: str, builder: Any) -> UserError:
    arguments = f"'{name.removeprefix('tfds:')}', data_dir='{builder.data_dir_root}'"
    return UserError(
        f"{name} is not prepared as ArrayRecord in {builder.data_dir}. Where there is internet, "
        f'run: python -c "import tensorflow_datasets as t; t.builder({arguments}, '
        "file_format='array_record').download_and_prepare()\" (some datasets need pip install "
        "tensorflow for this one step); data.dir is TFDS's data_dir"
    )
