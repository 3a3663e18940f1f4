"""Small stand-ins of the files that the documentation names, under these names in one folder."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from mint_core.answering.confidence import Confidences, how_asked, write_confidences
from mint_core.answering.record import FORMAT, AdapterRecord, StudentRecord, TaskRecord, write_record
from mint_core.config import PredictConfig, resolve
from mint_core.plugins import registry

DISEASES = {
    "OMIM:147920": ("Kabuki syndrome 1", "KMT2D", "HP:0000637"),
    "OMIM:154700": ("Marfan syndrome", "FBN1", "HP:0001166"),
    "OMIM:194050": ("Williams-Beuren syndrome", "ELN", "HP:0001642"),
    "OMIM:122470": ("Cornelia de Lange syndrome 1", "NIPBL", "HP:0000664"),
}
PATIENTS = 16
"""Per disease; one command leaves out diseases with fewer than 15."""


def build(root: Path, repository: Path) -> None:
    """Writes them all."""
    _packets(root / "phenopackets.zip")
    _notes(root)
    _gmdb(root / "gmdb")
    _pannuke(root / "pannuke")
    for number, label in enumerate(("Colon", "Lung", "Skin") * 8):
        path = root / "patches" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    (root / "passages").mkdir()
    (root / "passages" / "marfan.md").write_text("# Marfan syndrome\n\nTall people with long fingers.\n")
    (root / "experiments").symlink_to(repository / "experiments")
    (root / "examples").symlink_to(repository / "examples")
    for name in ("rankings.csv", "readers.csv"):
        (root / name).write_text("id,Colon,Lung,Skin\n")
    _table(root, repository)
    _run(root / "runs" / "NAME")
    (root / "mint.yaml").write_text(yaml.safe_dump({"teacher": "plip", "aligner": "orpo"}))


def _packets(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for place, (disease, (name, gene, term)) in enumerate(DISEASES.items()):
            for patient in range(PATIENTS):
                number = place * PATIENTS + patient
                about = {"id": disease, "label": name}
                variant = {"variationDescriptor": {"geneContext": {"valueId": "HGNC:1", "symbol": gene}}}
                found = {"interpretationStatus": "CAUSATIVE", "variantInterpretation": variant}
                packet = {
                    "id": f"p{number}",
                    "subject": {"id": f"s{number}", "sex": "FEMALE"},
                    "phenotypicFeatures": [{"type": {"id": term, "label": "as written"}}],
                    "diseases": [{"term": about}],
                    "interpretations": [{"diagnosis": {"disease": about, "genomicInterpretations": [found]}}],
                    "metaData": {
                        "phenopacketSchemaVersion": "2.0",
                        "externalReferences": [{"id": f"PMID:{1000 + number}"}],
                    },
                }
                archive.writestr(f"p{number}.json", json.dumps(packet))


def _notes(root: Path) -> None:
    rows = [
        {"id": f"n{place}-{number}", "text": f"A girl of {number} years.", "label": name, "gene": gene}
        for place, (name, gene, _) in enumerate(DISEASES.values())
        for number in range(1, 7)
    ]
    lines = [{**row, "clinical_note": row["text"]} for row in rows]
    (root / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = ["id,text,label,gene", *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
    (root / "train.csv").write_text("\n".join(table))


def _table(root: Path, repository: Path) -> None:
    """The configs of docs/how-to/table.md as they stand there, and the X-rays with notes that one of them reads."""
    (page,) = repository.glob("docs/**/table.md")
    for name, text in re.findall(r"```yaml\n# (\w+\.yaml)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        (root / name).write_text(text.replace("ID_OR_FOLDER", "some-lab/a-student"), encoding="utf-8")
    (root / "xrays" / "images").mkdir(parents=True)
    rows, readers = ["file,finding,patient,age,sex,note"], ["id,Effusion,Normal,Pneumonia"]
    for number, label in enumerate(("Effusion", "Normal", "Pneumonia") * 8):
        grey = np.random.default_rng(number).integers(0, 65536, (8, 8), np.uint16)
        Image.fromarray(grey).save(root / "xrays" / "images" / f"{number}.png")
        rows.append(f"images/{number}.png,{label},p{number // 2},{40 + number},female,Cough.")
        readers.append(f'"xrays.csv, row {number + 2}",.4,.3,.3')
    (root / "xrays" / "xrays.csv").write_text("\n".join(rows))
    (root / "readers.csv").write_text("\n".join(readers))


def _gmdb(folder: Path) -> None:
    folder.mkdir()
    columns = "image_id\tpatient_id\tfilename\tinternal_syndrome_name\tpresent_features"
    rows, splits = [], {"gallery": [], "test": []}
    for place, (name, _, term) in enumerate(DISEASES.values()):
        for number in range(4):
            image = place * 4 + number
            rows.append(f"{image}\t{image}\t{image}.jpg\t{name}\t['{term}']")
            splits["test" if number == 3 else "gallery"].append(str(image))
            face = np.full((8, 8, 3), image, np.uint8)
            Image.fromarray(face).save(folder / f"{image}_aligned.jpg")
    (folder / "image_metadata_v1.0.9.tsv").write_text("\n".join([columns, *rows]))
    for kind, ids in splits.items():
        (folder / f"gmdb_frequent_{kind}_images_v1.csv").write_text("\n".join(["image_id", *ids]))


def _pannuke(folder: Path) -> None:
    names = ["Colon", "Breast", "Lung", "Skin"]
    for fold in (1, 2, 3):
        place = folder / f"fold{fold}"
        place.mkdir(parents=True)
        rng = np.random.default_rng(fold)
        np.save(place / "images.npy", rng.integers(0, 256, (4, 256, 256, 3), np.uint8))
        np.save(place / "types.npy", np.array(names))
        np.save(place / "masks.npy", np.ones((4, 256, 256, 6), np.uint8))


def _run(folder: Path) -> None:
    """A run folder with its record and an adapter that says what it was trained for, and has no weights."""
    adapter = folder / "adapter"
    adapter.mkdir(parents=True)
    resolved = resolve({"teacher": "gestalt"}, registry())
    task = resolved.task.registered
    names = tuple(name for name, *_ in DISEASES.values())
    write_record(
        adapter,
        AdapterRecord(
            format=FORMAT,
            mint="0",
            task=TaskRecord(
                name="rare-disease", version=task.component.version, distribution=task.distribution, config={}
            ),
            student=StudentRecord(
                model="embedded", revision=None, dtype="auto", attention="auto", fingerprint="", chat_date=None
            ),
            header=task.component.header,
            modality="text",
            n=2,
            simulated=True,
            labels=names,
            aliases=((),) * len(names),
            taught=names,
        ),
    )
    asked = how_asked(2, PredictConfig(), None)
    sure, right = tuple(0.95 - 0.01 * i for i in range(20)), (True,) * 15 + (False,) * 5
    write_confidences(adapter, Confidences(weights="", asked=asked, groups=20, confidence=sure, right=right))
    (folder / "run.json").write_text(json.dumps({"config": resolved.dump()}))
