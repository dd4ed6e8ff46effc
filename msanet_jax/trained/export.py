"""Checkpoints -> one exported model: counts of fields in, lesion probability out, nothing else needed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save

import data_pipeline
from data_pipeline import phantom
from data_pipeline.errors import RequestError
from data_pipeline.fields import field_shape
from data_pipeline.files import as_builtins, whole_files, writable_folder, write_text
from data_pipeline.normalize import binning_factor
from data_pipeline.reading import as_record, read_json, read_text
from msanet_jax.evaluation.field_maps import SCORED_PIXELS, calibrated, field_probability
from msanet_jax.evaluation.results import Interval
from msanet_jax.runs.model_file import FORMAT_VERSION, MANIFEST, PROGRAM, weights_name
from msanet_jax.runs.notices import model_notice, public_dataset_name
from msanet_jax.runtime.versions import versions
from msanet_jax.trained.card import model_card
from msanet_jax.trained.ensemble import ensemble_provenance, load_members
from msanet_jax.trained.exported import PLATFORMS, load_exported
from msanet_jax.trained.model import Model
from msanet_jax.trained.places import without_places
from msanet_jax.trained.trial import objection
from msanet_jax.training.state import Networks, TrainState
from msanet_jax.training.steps import evaluation_step
from msanet_jax.training.weights import named_weights

WEIGHTS = ("float32", "float16")
EXPORTED_WITH = ("msanet-jax", "jax", "jaxlib", "flax", "numpy")
_CARD_OF_PHANTOM = Path(data_pipeline.__file__).parents[1] / "docs" / "phantom" / "card.md"
_CHECKED_FIELDS = 3
_FIELD_WORDS = {
    "thorax": "the thorax, 579 mm wide and high from 90 mm above the shoulders",
    "whole_body": "the whole body, 579 mm wide",
}

Fields = Callable[[jax.Array], jax.Array]


def export_model(
    runs: Sequence[Path],
    out: Path,
    *,
    weights: str = "float32",
    metrics: Path | None = None,
    data_card: Path | None = None,
    card: Path | None = None,
) -> dict[str, Any]:
    """Writes the mean of one or several runs as an exported model, then reads it back and compares.

    Args:
      runs: folders of trainings, of one image size.
      out: the file, usually named *.msanet.
      weights: `float32`, or `float16` for half the size; the computation stays in the recipe's type.
      metrics: scores of the mean, where they are not those of the runs.
      data_card: Markdown on the training data; default the card of PhantomBone, for sets of that name.
      card: also write the model card here.

    Returns:
      What manifest.json holds; `check` has the largest absolute difference of probability to the checkpoints.

    Raises:
      RequestError: a run that cannot be loaded, runs that do not fit together, a file that cannot be read or written.
    """
    if weights not in WEIGHTS:
        raise RequestError(f"--weights={weights}: is one of {', '.join(WEIGHTS)}")
    members = load_members(runs)
    configs = [member.config for member in members]
    program = _program(members, weights)
    binaries = {PROGRAM: program} | {weights_name(n): _named(member, weights) for n, member in enumerate(members)}
    scores = _read_scores([metrics] if metrics else [run / "metrics.json" for run in runs], required=bool(metrics))
    dataset = public_dataset_name(str(configs[0].data.dataset))
    texts = {f"config_{number}.json": _config_text(config) for number, config in enumerate(configs)}
    texts |= {f"metrics_{number}.json": json.dumps(score, indent=2) for number, score in scores.items()}
    texts["data_card.md"] = _data_card(data_card, dataset)
    manifest = _manifest(members, weights, len(program))
    writable_folder(out.parent, "--out")
    with whole_files(out.parent, [out.name]) as beside:
        (beside / out.name).write_bytes(_packed(manifest, binaries, texts))
        manifest["check"] = _compare(members, beside / out.name)
        texts["model_card.md"] = model_card(
            manifest, list(scores.values()), dataset=dataset, of_mean=metrics is not None
        )
        (beside / out.name).write_bytes(_packed(manifest, binaries, texts))
    if card is not None:
        write_text(writable_folder(card.parent, "--card") / card.name, texts["model_card.md"])
    return manifest


def counts_to_probability(members: Sequence[Model], weights: str) -> Fields:
    """The exported function: counts `[b, rows, columns]` of a field -> the members' mean probability there."""
    functions = [_function(member, weights) for member in members]

    def mean(counts: jax.Array) -> jax.Array:
        total = sum((function(counts) for function in functions), start=jnp.zeros(counts.shape, jnp.float32))
        return total / len(functions)

    return mean


def _function(member: Model, weights: str) -> Fields:
    networks, state = _of_run(member)
    params, statistics = _weights(member, weights)

    def network(image: jax.Array) -> jax.Array:
        kept = state.replace(generator_average=_as_float32(params), generator_statistics=_as_float32(statistics))
        return evaluation_step(networks, kept, image).astype(jnp.float32)

    return calibrated(field_probability(network, member.image_size_px, xp=jnp), member.calibration, xp=jnp)


def _grid(members: Sequence[Model]) -> tuple[tuple[int, int], int]:
    """Rows and columns of the field, and how many of them make one that the network sees."""
    shape = field_shape(members[0].field)
    return shape, binning_factor(shape[1], members[0].image_size_px)


def _of_run(member: Model) -> tuple[Networks, TrainState]:
    """What only a model restored from a run has."""
    assert member.networks is not None and member.state is not None
    return member.networks, member.state


def _program(members: Sequence[Model], weights: str) -> bytes:
    (batch,) = jax.export.symbolic_shape("b")
    counts = jax.ShapeDtypeStruct((batch, *_grid(members)[0]), jnp.float32)
    function = jax.jit(counts_to_probability(members, weights))
    exported = jax.export.export(function, platforms=PLATFORMS)(counts)
    if reason := objection(exported.mlir_module_serialized):
        raise RequestError(f"--out: nobody could load this model: {reason}")
    return without_places(exported)


def _weights(member: Model, weights: str) -> tuple[Any, Any]:
    """Moving-average parameters and statistics as NumPy, so that they become constants of the program."""
    _, state = _of_run(member)
    kept = (state.generator_average, state.generator_statistics)
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(weights), kept)


def _named(member: Model, weights: str) -> bytes:
    """The same numbers as those of the program, for other versions of the compiler and for further training."""
    return save({name: leaf.astype(weights) for name, leaf in named_weights(_of_run(member)[1]).items()})


def _as_float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32), tree)


def _manifest(members: Sequence[Model], weights: str, program_bytes: int) -> dict[str, Any]:
    averages = [_of_run(member)[1].generator_average for member in members]
    provenance = [member.provenance for member in members]
    first, ((rows, columns), factor) = members[0], _grid(members)
    mean = provenance[0] if len(provenance) == 1 else ensemble_provenance(provenance)
    return {
        "format": "msanet",
        "format_version": FORMAT_VERSION,
        "notice": model_notice(mean),
        "platforms": list(PLATFORMS),
        "input": {
            "what": f"counts of {_FIELD_WORDS[first.field]}, head up, as DICOM shows them; neither scaled nor smoothed",
            "field": first.field,
            "shape": ["b", rows, columns],
            "dtype": "float32",
        },
        "output": {
            "what": "probability of lesion in every pixel of the input"
            + (f"; the network saw {factor} x {factor} pixels as one" if factor > 1 else ""),
            "grid": SCORED_PIXELS,
            "shape": ["b", rows, columns],
            "dtype": "float32",
        },
        "threshold": first.threshold,
        "calibrations": [as_builtins(member.calibration) for member in members],
        "batch_size": first.batch_size,
        "weights": weights,
        "parameters": [sum(int(leaf.size) for leaf in jax.tree.leaves(average)) for average in averages],
        "program_bytes": program_bytes,
        "provenance": mean,
        "versions": versions(EXPORTED_WITH),
    }


def _read_scores(paths: Sequence[Path], *, required: bool) -> dict[int, Mapping[str, Any]]:
    """metrics.json by number, where there is one, of this or an earlier version; rows per image stay behind."""
    scores: dict[int, Mapping[str, Any]] = {}
    for number, path in enumerate(paths):
        if not required and not path.exists():
            continue
        remedy = "name a metrics.json of this program, or score the run again with msanet evaluate"
        content = read_json(path, dict[str, Any], remedy=remedy)
        for section in (str(content.get("split", "test")), "threshold_baseline"):
            numbers = content.get(section, {} if section == "threshold_baseline" else None)
            as_record(numbers, dict[str, float | dict[str, Interval] | None], where=f"{path}: {section}", remedy=remedy)
        scores[number] = _without_folders({key: value for key, value in content.items() if key != "images"})
    return scores


def _config_text(config: ConfigDict) -> str:
    """A recipe as JSON; of one's own folders only the names."""
    public = ConfigDict(config).copy_and_resolve_references()
    with public.unlocked():
        public.data.dataset = public_dataset_name(str(config.data.dataset))
        if config.train.get("init_from"):
            public.train.init_from = public_dataset_name(config.train.init_from)
    return str(public.to_json(indent=2, sort_keys=True))


def _without_folders(score: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores of older versions hold the whole path of a data set."""
    provenance = score.get("provenance")
    if not isinstance(provenance, dict) or "dataset" not in provenance:
        return score
    return {**score, "provenance": {**provenance, "dataset": public_dataset_name(str(provenance["dataset"]))}}


def _data_card(path: Path | None, dataset: str) -> str:
    is_phantom = dataset.startswith("phantom_bone/")
    if path is None and not (is_phantom and _CARD_OF_PHANTOM.is_file()):
        what = f"PhantomBone {phantom.VERSION}, simulated scans" if is_phantom else "No data card was given"
        return f"# Training data\n\n{what}.\n"
    try:
        return read_text(path or _CARD_OF_PHANTOM, remedy="name a text file")
    except RequestError as error:
        raise RequestError(f"--data-card={error}") from None


def _packed(manifest: Mapping[str, Any], binaries: Mapping[str, bytes], texts: Mapping[str, str]) -> bytes:
    """The same content gives the same bytes: members carry no date."""
    packed = io.BytesIO()
    members = {MANIFEST: json.dumps(manifest, indent=2).encode(), **binaries}
    members |= {name: text.encode() for name, text in texts.items()}
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, compress_type=zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _compare(members: Sequence[Model], out: Path) -> dict[str, Any]:
    """Exported against the checkpoints on simulated noise with hot discs, prepared by NumPy as in prediction."""
    random = np.random.default_rng(0)
    (rows, columns), _ = _grid(members)
    row, column = np.indices((rows, columns))
    expected = 4.0 + 16.0 * ((row / rows - 0.5) ** 2 / 0.18 + (column / columns - 0.5) ** 2 / 0.075 < 1)
    fields = np.empty((_CHECKED_FIELDS, rows, columns), np.float32)
    for number in range(_CHECKED_FIELDS):
        centre = random.uniform(0.3, 0.7, 2) * (rows, columns)
        hot = (row - centre[0]) ** 2 + (column - centre[1]) ** 2 < random.uniform(3, 12) ** 2
        fields[number] = random.poisson(np.where(hot, 8.0, 1.0) * expected)
    wanted = np.mean([member.probability(fields) for member in members], axis=0)
    difference = float(np.abs(load_exported(out, trusted=True).probability(fields) - wanted).max())
    if not np.isfinite(difference):
        raise RequestError("the network gives values that are no numbers: its checkpoint is of no use, take another")
    return {
        "fields": _CHECKED_FIELDS,
        "max_abs_difference": difference,
        "device": jax.devices()[0].device_kind,
    }
