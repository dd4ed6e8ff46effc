"""Prediction with a network that only thresholds uptake: files, places, sizes, failures."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import data_store
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from skimage.measure import regionprops

from configs.msanet import get_config
from data_pipeline.errors import RequestError
from data_pipeline.scan import Scan, View
from data_pipeline.windows import Window
from msanet_jax.prediction.files import OutputNames
from msanet_jax.prediction.predict import Outcome, Request, predict_files
from msanet_jax.prediction.predict import predict_with as predict_with_model
from msanet_jax.prediction.run_file import RUN_FILES
from msanet_jax.prediction.segmentation import find_place, list_lesions, model_input, onto_scan
from msanet_jax.runs.folder import prepare
from msanet_jax.trained.model import from_network
from msanet_jax.training.checkpoints import CheckpointError, Checkpoints
from msanet_jax.training.state import abstract_state, create_networks

REAL_SCAN = Path(data_store.__file__).parent / "data" / "JPEG-LL.dcm"
NAMES = ["{}_mask.png", "{}_probability.npy", "{}_overlay.png", "{}_lesions.csv", "{}.json"]


@dataclasses.dataclass
class UptakeNetwork:
    """Probability 0.9 where the normalised uptake exceeds a limit, else 0.1; remembers the batches it saw."""

    config: ConfigDict
    limit: float = 2.0
    provenance: dict[str, Any] = dataclasses.field(default_factory=lambda: {"checkpoint": "fake", "step": 7})
    batches: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def probability(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images.shape)
        assert images.dtype == np.float32
        return np.where(images[..., 0] > self.limit, 0.9, 0.1).astype(np.float32)


@pytest.fixture
def network() -> UptakeNetwork:
    return UptakeNetwork(get_config("smoke"))


def _body(rows: int = 256, columns: int = 256) -> np.ndarray:
    """Even counts with one hot disc of radius 12 at the middle."""
    row, column = np.indices((rows, columns))
    hot = (row - rows // 2) ** 2 + (column - columns // 2) ** 2 <= 12**2
    return np.where(hot, 600, 20).astype(np.int32)


def _npy(path: Path, counts: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, _body() if counts is None else counts)
    return path


def _all_of(*stems: str) -> set[str]:
    return {name.format(stem) for stem in stems for name in NAMES}


def _written(out: Path) -> set[str]:
    """Without the files of the run and of patients."""
    return {path.name for path in out.iterdir() if not path.name.startswith("patient_p")} - set(RUN_FILES)


def predict_with(
    network: UptakeNetwork,
    files: list[Path],
    *,
    out: Path,
    threshold: float | None = None,
    progress: bool = True,
    **options: Any,
) -> Outcome:
    request = Request(threshold=threshold, progress=progress, **options)
    return predict_with_model(
        from_network(network.probability, network.config, network.provenance), files, out=out, request=request
    )


def _record(out: Path, stem: str) -> dict[str, Any]:
    return json.loads((out / f"{stem}.json").read_text())


def test_real_scan(network: UptakeNetwork, tmp_path: Path) -> None:
    network.limit = 1.6
    outcome = predict_with(network, [REAL_SCAN], out=tmp_path)
    assert (outcome.written, outcome.failed) == (("JPEG-LL",), ())
    assert _written(tmp_path) == _all_of("JPEG-LL")
    mask = np.asarray(Image.open(tmp_path / "JPEG-LL_mask.png"))
    probability = np.load(tmp_path / "JPEG-LL_probability.npy")
    assert mask.shape == probability.shape == (1024, 256)
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(mask, np.where(probability > 0.5, 255, 0))
    record = _record(tmp_path, "JPEG-LL")
    row = record["thorax_box_px"]["row"]
    assert probability[:row].max() == probability[row + 256 :].max() == 0.0
    # The sternum is the hottest bone of this thorax: rows 205-300, around column 135.
    assert mask[210:290, 130:140].mean() > 0.8 * 255
    assert record["counts_total"] == 3_596_452
    assert record["view"] == "anterior"
    assert record["provenance"]["step"] == 7
    assert record["lesion_count"] == len(record["lesions"]) > 0
    assert record["lesion_area_px"] == sum(lesion["area_px"] for lesion in record["lesions"]) == (mask > 0).sum()
    with Image.open(tmp_path / "JPEG-LL_overlay.png") as overlay:
        assert min(overlay.size) > 800


def test_outputs_name_neither_patient_nor_date(network: UptakeNetwork, tmp_path: Path) -> None:
    predict_with(network, [REAL_SCAN], out=tmp_path)
    assert len(list(tmp_path.iterdir())) == 12
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        for secret in (
            b"CompressedSamples",
            b"8NM1",
            b"BERRA",
            b"1997",
            b"2004",
            b"Memorial",
            str(REAL_SCAN.parent).encode(),
        ):
            assert secret not in content, path


def test_same_input_gives_the_same_bytes(network: UptakeNetwork, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        predict_with(network, [REAL_SCAN], out=tmp_path / folder)
    for name in _all_of("JPEG-LL"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_disc_is_measured(network: UptakeNetwork, tmp_path: Path) -> None:
    network.config.data.image_size_px = 256
    predict_with(network, [_npy(tmp_path / "disc.npy")], out=tmp_path / "out")
    record = _record(tmp_path / "out", "disc")
    (lesion,) = record["lesions"]
    assert (lesion["centre_row_px"], lesion["centre_column_px"]) == (128.0, 128.0)
    assert lesion["area_px"] == 441  # lattice points within 12 of one: Gauss's circle
    assert (lesion["counts_mean"], lesion["counts_max"]) == (600.0, 600)
    assert (lesion["probability_mean"], lesion["probability_max"]) == (0.9, 0.9)
    assert lesion["area_mm2"] is lesion["major_axis_mm"] is None  # an NPY states no pixel size
    assert record["pixel_size_mm"] is None


def test_lesion_sizes_agree_with_scikit_image() -> None:
    mask = np.zeros((60, 40), bool)
    mask[5:20, 10:14] = True
    mask[30, 30] = mask[31, 31] = True  # touch at a corner: one lesion
    row, column = np.indices(mask.shape)
    mask |= (row - 48) ** 2 + (column - 12) ** 2 <= 81
    counts = np.arange(mask.size, dtype=np.int32).reshape(mask.shape)
    lesions = list_lesions(mask, np.full(mask.shape, 0.75), counts, (2.0, 2.0))
    assert [lesion.area_px for lesion in lesions] == [60, 2, 253]
    bar, pair, disc = lesions
    assert bar.equivalent_diameter_mm == pytest.approx(2 * np.sqrt(60 * 4 / np.pi), abs=0.01)
    # A bar of length l has the second moment l^2 / 12, an ellipse of major axis a has a^2 / 16.
    assert bar.major_axis_mm == pytest.approx(2.0 * 15 * 4 / np.sqrt(12), abs=0.01)
    assert disc.major_axis_mm == pytest.approx(2.0 * 2 * 9, rel=0.02)
    assert pair.centre_row_px == 30.5
    labels = np.zeros(mask.shape, int)
    labels[5:20, 10:14] = 1
    (reference,) = regionprops(labels, intensity_image=counts)
    assert bar.centre_row_px == pytest.approx(reference.centroid[0])
    assert bar.counts_mean == pytest.approx(reference.intensity_mean)
    # scikit-image takes pixels for points; ours are squares, each with a second moment of 1/12 of its own.
    of_squares = 4 * np.sqrt((reference.axis_major_length / 4) ** 2 + 1 / 12)
    assert bar.major_axis_mm == pytest.approx(2.0 * of_squares, abs=0.01)


def test_no_lesion_is_no_row() -> None:
    assert list_lesions(np.zeros((5, 5), bool), np.zeros((5, 5)), np.ones((5, 5), np.int32), None) == ()


def test_one_pixel_has_its_own_width() -> None:
    (lesion,) = list_lesions(np.eye(1, dtype=bool), np.ones((1, 1)), np.ones((1, 1), np.int32), (3.0, 3.0))
    assert lesion.major_axis_mm == pytest.approx(4 * 3 / np.sqrt(12), abs=0.01)


@pytest.mark.parametrize(("size", "box"), [(64, 256), (128, 256), (256, 256), (64, 512), (256, 128)])
def test_probability_returns_to_where_it_was(size: int, box: int) -> None:
    ramp = np.broadcast_to((np.arange(size) + 0.5) / size, (size, size)).astype(np.float32)
    whole = onto_scan(ramp, Window(10, 0, box, box), (box + 20, box))
    assert whole.shape == (box + 20, box)
    assert whole[:10].max() == whole[box + 10 :].max() == 0.0
    # Linear interpolation leaves a straight line straight, half an old pixel from the edges.
    margin = max(1, box // size)
    expected = (np.arange(box) + 0.5) / box
    np.testing.assert_allclose(whole[20, margin:-margin], expected[margin:-margin], atol=1e-5)


def test_pixel_size_does_not_change_what_the_network_sees() -> None:
    counts = np.random.default_rng(0).poisson(40, (256, 256)).astype(np.int32)
    fine = np.repeat(np.repeat(counts, 2, 0), 2, 1).astype(np.int32)
    images = []
    for array, pixel in ((4 * counts, 2.26), (fine, 1.13)):
        scan = Scan(np.ascontiguousarray(array, np.int32), (pixel, pixel), View.ANTERIOR, "p", "s")
        images.append(model_input(scan, find_place(scan, "thorax"), "thorax"))
    assert images[0].shape == (256, 256)
    np.testing.assert_allclose(images[0], images[1], rtol=1e-5)


def test_fine_scan_is_mapped_back(network: UptakeNetwork, tmp_path: Path) -> None:
    network.config.data.image_size_px = 256
    predict_with(network, [_npy(tmp_path / "fine.npy", _body(512, 512))], out=tmp_path / "out")
    record = _record(tmp_path / "out", "fine")
    assert record["thorax_box_px"] == {"row": 0, "column": 0, "size_px": 512}
    (lesion,) = record["lesions"]
    assert lesion["area_px"] == pytest.approx(441, rel=0.15)  # the network saw a disc of radius 6
    assert lesion["centre_row_px"] == pytest.approx(256, abs=0.6)


def test_bad_file_is_passed_over(network: UptakeNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "letter.dcm"
    bad.write_text("not a scan")
    outcome = predict_with(
        network,
        [_npy(tmp_path / "a.npy"), bad, tmp_path / "absent.npy", _npy(tmp_path / "b.npy")],
        out=tmp_path / "out",
        progress=False,
    )
    assert outcome.written == ("a", "b")
    assert outcome.failed == (bad, tmp_path / "absent.npy")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{bad}: is not a DICOM")
    assert _written(tmp_path / "out") == _all_of("a", "b")


def test_same_stem_twice(network: UptakeNetwork, tmp_path: Path) -> None:
    files = [_npy(tmp_path / folder / "scan.npy") for folder in ("one", "two")]
    files.append(_npy(tmp_path / "three" / "SCAN.npy"))
    outcome = predict_with(network, [*files, files[0]], out=tmp_path / "out", progress=False)
    assert outcome.written == ("scan", "scan-2", "SCAN-3")
    assert _written(tmp_path / "out") == _all_of("scan", "scan-2", "SCAN-3")


def test_names_never_meet() -> None:
    names = OutputNames()
    assert [names.claim(stem) for stem in ("a-2", "a", "a", "A")] == ["a-2", "a", "a-3", "A-4"]


def test_two_views(network: UptakeNetwork, tmp_path: Path) -> None:
    both = np.stack([_body(), _body()])
    outcome = predict_with(
        network, [_npy(tmp_path / "p.npy", both), _npy(tmp_path / "q" / "p_anterior.npy")], out=tmp_path / "out"
    )
    assert outcome.written == ("p_anterior", "p_posterior", "p_anterior-2")
    assert _record(tmp_path / "out", "p_posterior")["view"] == "posterior"


def test_batches_stream_at_one_shape(network: UptakeNetwork, tmp_path: Path) -> None:
    files = [_npy(tmp_path / f"{index}.npy") for index in range(6)]
    outcome = predict_with(network, files, out=tmp_path / "out", progress=False)
    assert len(outcome.written) == 6
    assert network.batches == [(4, 64, 64, 1), (4, 64, 64, 1)]
    network.batches.clear()
    predict_with(network, files[:1], out=tmp_path / "again")
    assert network.batches == [(1, 64, 64, 1)]  # one scan does not pay for a batch


def test_threshold_is_respected_and_checked(network: UptakeNetwork, tmp_path: Path) -> None:
    file = _npy(tmp_path / "a.npy")
    predict_with(network, [file], out=tmp_path, threshold=0.95)
    assert _record(tmp_path, "a")["lesions"] == []
    predict_with(network, [file], out=tmp_path, threshold=0.05, overwrite=True)
    assert _record(tmp_path, "a")["lesion_area_px"] == 256 * 256
    with pytest.raises(ValueError, match="between 0 and 1"):
        predict_with(network, [file], out=tmp_path, threshold=1.5)


def test_network_that_gives_no_numbers(network: UptakeNetwork, tmp_path: Path) -> None:
    network.probability = lambda images: np.full(images.shape[:3], np.nan, np.float32)
    with pytest.raises(ValueError, match="no numbers"):
        predict_with(network, [_npy(tmp_path / "a.npy")], out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "failed (MemoryError); --debug prints where"),
        (RuntimeError("RESOURCE_EXHAUSTED"), "failed (RuntimeError); --debug prints where"),
        (RequestError("its program gives no probabilities"), "its program gives no probabilities"),
    ],
)
def test_a_network_that_fails_on_one_scan(
    network: UptakeNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    files = [_npy(tmp_path / f"{name}.npy") for name in "abdef"]
    hot = _npy(tmp_path / "c.npy", np.where(_body() > 20, 60_000, 20))
    sound = network.probability

    def fails(images: np.ndarray) -> np.ndarray:
        if images.max() > 20:  # the others' disc has sqrt(600 / 20) = 5.5 times the body's uptake
            raise error
        return sound(images)

    network.probability = fails  # type: ignore[method-assign]
    outcome = predict_with(network, [*files[:2], hot, *files[2:]], out=tmp_path / "out", progress=False)
    assert (outcome.written, outcome.failed) == (("a", "b", "d", "e", "f"), (hot,))
    assert capsys.readouterr().err.splitlines() == [f"{hot}: {said}"]


def test_nothing_half_written(
    network: UptakeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("msanet_jax.prediction.files.save_overlay", full)
    files = [_npy(tmp_path / f"{name}.npy") for name in "abc"]
    outcome = predict_with(network, files, out=tmp_path / "out", progress=False)
    assert (outcome.written, outcome.failed) == ((), (files[0],))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"msanet_run.json"}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # the first file, then that there is no use in going on
    assert "No space left on device" in lines[0]
    assert "Make room" in lines[1]


def test_output_folder_that_is_a_file(network: UptakeNetwork, tmp_path: Path) -> None:
    file = _npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"--out=.*cannot be written"):
        predict_with(network, [file], out=file)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_output_folder_without_permission(network: UptakeNetwork, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="cannot be written"):
        predict_with(network, [_npy(tmp_path / "a.npy")], out=tmp_path / "locked")


def test_from_a_checkpoint_on_disk(small_config: ConfigDict, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare(run, small_config)
    checkpoints = Checkpoints(run, small_config)
    # All zeros: every logit is 0 and every probability one half, and nothing has to be drawn.
    shapes = abstract_state(create_networks(small_config, steps_per_epoch=1))
    checkpoints.save_best(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), dsc_pooled=0.1)
    checkpoints.close()
    outcome = predict_files([REAL_SCAN], checkpoint=run, out=tmp_path / "out")
    assert outcome.written == ("JPEG-LL",)
    probability = np.load(tmp_path / "out" / "JPEG-LL_probability.npy")
    np.testing.assert_array_equal(np.unique(probability), [0.0, 0.5])
    assert _record(tmp_path / "out", "JPEG-LL")["provenance"]["step"] == 0


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        predict_files([REAL_SCAN], checkpoint=tmp_path / "none", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
