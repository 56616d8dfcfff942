"""The embedded autoencoder: its numbers on text of the discovery rows, which feature has which meaning, and who the subject is.

Only an autoencoder that is embedded for the subject is looked at: any other comes with a card of its own, or with none.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from circuit_claims.cards.card import Card
from circuit_claims.cards.floors import FEW
from circuit_claims.discovery.chapters import Chapter
from circuit_claims.discovery.findings import HALF, SHARE, Findings, Table, rounded, rounded_up
from circuit_claims.discovery.survey import Survey
from circuit_claims.measure.measurement import Measurement
from circuit_claims.sae.concepts import MEANINGS
from circuit_claims.sae.features import SaeFeatures
from circuit_claims.sae.ioi import SaeIOI, explained_by
from circuit_claims.sae.loaded import LoadedSae
from circuit_claims.sae.metrics import CONTROLS, SaeNumbers
from circuit_claims.sae.metrics_on_text import SaeText
from circuit_claims.untested import Untested

#: Rows of text to look for features in; all other numbers are measured on as many rows as there are prompts.
ROWS = 480
#: A feature is said to mean something where its F1 is at least this: as good as a coin on precision and recall is 0.5.
DETECTS = 0.7
#: A feature tells the subject where the subject explains more than half of its variance.
TELLS = 0.5
#: By how much a number of an autoencoder may differ on other text: a fiftieth of what it could at most be, where it is a share.
CLOSE = 0.02


def find(survey: Survey, card: Card) -> Chapter:
    """What the embedded autoencoder shows."""
    sae = embedded(survey)
    if sae is None:
        return Chapter(findings={"sparse autoencoder": Findings(left_out={"sae": "none is embedded for this model"})})
    from circuit_claims.sae.metrics_on_text import DISCOVERY_ROWS
    from circuit_claims.sae.text import GeneratedRows

    text = SaeText(sae, GeneratedRows("held out"), DISCOVERY_ROWS)
    numbers = SaeNumbers(text, card, survey.ioi.seed)
    return Chapter(
        findings={
            "the autoencoder's numbers": _numbers(survey, numbers),
            "the autoencoder above controls": _above_controls(survey, numbers),
            "features with a meaning": _features(survey, SaeFeatures(text, card, survey.ioi.seed)),
            "features that tell the subject": _subject(survey, SaeIOI(survey.ioi, sae, card), card),
        }
    )


def embedded(survey: Survey) -> LoadedSae | None:
    """The autoencoder that is embedded for the subject and was trained on its weights; None where there is none."""
    from circuit_claims.sae.folder import EMBEDDED_SAES, find_sae_folder
    from circuit_claims.sae.loaded import load_sae

    subject = survey.ioi.subject
    path = EMBEDDED_SAES.get(subject.settings.name)
    if path is None:
        return None
    folder = find_sae_folder(path, path.name)
    return load_sae(folder, subject) if folder.metadata.get("model_weights_sha256") == subject.weights_sha256 else None


def _table(rows: Mapping[str, Sequence[float]], columns: Sequence[str], unit: str, within: float, note: str = "") -> Table:
    return Table(tuple(columns), {row: tuple(numbers) for row, numbers in rows.items()}, within, unit, note)


def _numbers(survey: Survey, numbers: SaeNumbers) -> Findings:
    """Each number to within a fiftieth, or its noise where that is more; of what should be small, an upper bound."""
    name, tables = numbers.sae.facts["sae"], {}
    left_out = {}
    for quantity in ("L0", "explained variance", "squared error", "cosine", "loss recovered", "KL divergence"):
        try:
            measured = numbers.of(quantity)
        except Untested as error:
            left_out[f"sae_{quantity}"] = str(error)
            continue
        value, unit = survey.estimate(measured), measured.take(survey.n).unit
        allowed = CLOSE if unit in ("share", "cosine") else 0.1 * value
        within = rounded_up(max(allowed, survey.noise(measured)))
        tables[_key(quantity)] = _table({name: [rounded(value)]}, ["value"], unit, within)
    for quantity in ("dead", "dense"):
        found = survey.estimate(numbers.of(quantity))
        if found > FEW:
            left_out[_key(quantity)] = f"{found:.3f} of the features are {quantity}, which are not few"
            continue
        bound = rounded_up(max(found / HALF, found + CLOSE))
        note = f"twice the {found:.3f} found, or a fiftieth above that"
        tables[_key(quantity)] = _table({name: [bound]}, ["value"], "share of features", 0.0, note)
    return Findings(tables=tables, left_out=left_out)


def _above_controls(survey: Survey, numbers: SaeNumbers) -> Findings:
    """How far above each control at least: half of what was found."""
    tables = {}
    for control in CONTROLS:
        for quantity in ("explained variance", "loss recovered"):
            found = survey.estimate(numbers.better_than(control, quantity))
            note = f"half of the {found:.3f} found" if found > 0 else f"{found:.3f} was found: it should be above at all"
            bound = rounded(max(HALF * found, 0.0))
            tables[_key(f"{quantity} above {control}")] = _table(
                {numbers.sae.facts["sae"]: [bound]}, ["value"], "share", 0.0, note
            )
    return Findings(tables=tables)


def _features(survey: Survey, features: SaeFeatures) -> Findings:
    """The best detector of each meaning, where it is one, with half of what it does as the bound."""
    name = features.sae.facts["sae"]
    detect: dict[str, Sequence[float]] = {}
    effects: dict[str, Sequence[float]] = {}
    left_out = {}
    for meaning, (feature, threshold, f1) in best_detectors(features, ROWS).items():
        row = f"{name}: {meaning}"
        if f1 < DETECTS:
            left_out[f"a feature for {meaning!r}"] = f"the best, {feature}, has an F1 of {f1:.2f}"
            continue
        noise = survey.noise(features.f1(meaning, feature, threshold))
        detect[row] = (feature, threshold, rounded(f1 - max(SHARE, noise)))
        if MEANINGS[meaning].predicts is None:
            continue
        try:
            found = [survey.estimate(m) for m in _effects(features, meaning, feature, threshold)]
        except Untested as error:
            left_out[f"effects of feature {feature} ({meaning})"] = str(error)
            continue
        if min(found) <= 0:
            left_out[f"effects of feature {feature} ({meaning})"] = (
                f"{found[0]:.2f} and {found[1]:.2f} logits: not both above 0"
            )
            continue
        effects[row] = (feature, threshold, *(rounded(HALF * value) for value in found))
    tables = {}
    if detect:
        note = f"the highest F1 among all features and thresholds, less {SHARE} or its noise where that is more"
        tables["sae_features"] = _table(detect, ["feature", "threshold", "F1"], "F1", 0.0, note)
    if effects:
        note = "half of the logits found, beyond those of other features"
        tables["sae_effects"] = _table(effects, ["feature", "threshold", "ablation", "steering"], "logits", 0.0, note)
    return Findings(tables=tables, left_out=left_out)


def _effects(features: SaeFeatures, meaning: str, feature: int, threshold: float) -> list[Measurement]:
    return [features.ablation(meaning, feature, threshold), features.steering(meaning, feature, threshold)]


def best_detectors(features: SaeFeatures, rows: int) -> dict[str, tuple[int, float, float]]:
    """For each meaning, the feature and the threshold with the highest F1 on the first rows, and that F1.

    Thresholds that are tried: the tenths of a feature's highest activation on a token that is meant, from 0 on.
    """
    tokens = features.text.text.rows(features.text.first, rows)
    counted = ~np.isin(tokens.numpy(), np.array(features.text.special))
    activations = features.activations(0, rows, lambda part: part.to(torch.float32))[counted]
    found = {}
    for name, meaning in MEANINGS.items():
        meant = meaning.where(features.lexicon, tokens.numpy())[counted]
        if not meant.any():
            continue
        highest, best = activations[meant].max(0), (-1, 0.0, -1.0)
        for tenth in range(10):
            fires = activations > highest * tenth / 10
            f1 = 2 * fires[meant].sum(0) / (fires.sum(0) + meant.sum())
            feature = int(f1.argmax())
            if f1[feature] > best[2]:
                best = feature, round(float(highest[feature] * tenth / 10), 4), float(f1[feature])
        found[name] = best
    return found


def _subject(survey: Survey, task: SaeIOI, card: Card) -> Findings:
    """Features at END whose activation the subject explains, and what noising them loses beside the S-inhibition heads."""
    if "S-inhibition" not in card.families or not survey.shows_the_task:
        return Findings(left_out={"sae_subject_share": "no S-inhibition heads were found to hold features against"})
    activations, subjects = task.activations(survey.n)
    explained = explained_by(subjects, activations)
    features = np.flatnonzero(explained > TELLS)
    if not len(features):
        return Findings(left_out={"sae_subject_features": f"of no feature does the subject explain more than {TELLS}"})
    name = task.sae.facts["sae"]
    share = task.share_of_heads(features.tolist(), "the subject's features", card.heads("S-inhibition"))
    found = survey.estimate(share)
    rows = {f"{name}: {feature}": [rounded(explained[feature])] for feature in features}
    note = f"features at END of whose variance the subject explains more than {TELLS}"
    within = rounded_up(max(SHARE, survey.noise(share)))
    return Findings(
        tables={
            "sae_subject_features": _table(rows, ["explained by the subject"], "share of variance", 0.0, note),
            "sae_subject_share": _table({name: [rounded(found)]}, ["value"], "share", within),
        }
    )


def _key(quantity: str) -> str:
    return f"sae_{quantity.replace(' ', '_')}"
