"""Patients of a small invented hospital, as phenopackets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DISEASES = {
    "OMIM:900001": ("Alphan syndrome", "GENEA1", ("HP:0000322", "HP:0001250")),
    "OMIM:900002": ("Betan syndrome", "GENEB2", ("HP:0000322", "HP:0000637")),
    "OMIM:900003": ("Gamman disease", "GENEC3", ("HP:0001250", "HP:0001263")),
    "OMIM:900004": ("Deltan dysplasia", "GENED4", ("HP:0004322", "HP:0000637")),
}
"""Name, gene and phenotypes (short philtrum, seizure, long palpebral fissure, ...) by id."""


def make_packet(name: str = "PMID_1_a", disease: str = "OMIM:900001", **changes: Any) -> dict[str, Any]:
    """A phenopacket as the phenopacket store publishes them; `changes` replace whole top-level fields."""
    called, gene, terms = DISEASES[disease]
    packet = {
        "id": name,
        "subject": {"id": name, "sex": "FEMALE", "timeAtLastEncounter": {"age": {"iso8601duration": "P3Y6M"}}},
        "phenotypicFeatures": [{"type": {"id": term, "label": "as written"}} for term in terms],
        "diseases": [{"term": {"id": disease, "label": called}}],
        "interpretations": [
            {
                "diagnosis": {
                    "disease": {"id": disease, "label": called},
                    "genomicInterpretations": [
                        {
                            "interpretationStatus": "CAUSATIVE",
                            "variantInterpretation": {
                                "variationDescriptor": {"geneContext": {"valueId": "HGNC:1", "symbol": gene}}
                            },
                        }
                    ],
                }
            }
        ],
        "metaData": {"phenopacketSchemaVersion": "2.0.2", "externalReferences": [{"id": f"PMID:{name.split('_')[1]}"}]},
    }
    return {**packet, **changes}


@pytest.fixture
def packet():
    """Makes one packet; see `make_packet`."""
    return make_packet


@pytest.fixture
def write(tmp_path):
    """Writes packets into a folder, each below a cohort's folder, and returns it."""

    def write(*packets: dict[str, Any], folder: str = "store", cohort: str = "cohort") -> Path:
        root = tmp_path / folder
        for packet in packets:
            path = root / cohort / f"{packet['id']}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(packet), encoding="utf-8")
        return root

    return write


@pytest.fixture
def hospital(write) -> Path:
    """Four diseases with ten patients in five publications each."""
    packets = [
        make_packet(f"PMID_{number}{paper}_{who}", disease)
        for number, disease in enumerate(DISEASES, 1)
        for paper in range(5)
        for who in "ab"
    ]
    return write(*packets, folder="hospital")
