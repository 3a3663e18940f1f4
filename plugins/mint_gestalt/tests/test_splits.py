"""Which patients are trained and tested on: groups, small and unseen diseases, scarce labels, external data."""

from collections import Counter, defaultdict

import pytest

from mint_core.errors import ConfigError, DataError
from mint_core.splits import check_samples
from mint_core.testing import TASK_CHECKS
from mint_gestalt.task import RareDisease


def load(data, **options):
    loaded = RareDisease(RareDisease.Config(source="phenopackets", data=data, **options)).load()
    check_samples(loaded.samples, loaded.labels)
    return loaded


def sides(samples, key):
    found = defaultdict(set)
    for sample in samples:
        found[key(sample)].add(sample.split)
    return found


# --- groups


def test_a_publication_is_never_torn_apart(hospital):
    for seed in range(5):
        data = load(hospital, sample_seed=seed, test_fraction=0.4)
        assert all(len(splits) == 1 for splits in sides(data.samples, lambda s: s.id.split("_")[1]).values())
        assert all(splits == {"train", "test"} for splits in sides(data.samples, lambda s: s.label).values())


def test_a_split_by_patient_parts_publications(hospital):
    data = load(hospital, group_by="patient", test_fraction=0.4)
    assert any(len(splits) == 2 for splits in sides(data.samples, lambda s: s.id.split("_")[1]).values())


def test_the_seed_makes_the_split(hospital):
    first, again, other = (load(hospital, sample_seed=seed) for seed in (0, 0, 1))
    assert first.samples == again.samples
    assert [s.split for s in first.samples] != [s.split for s in other.samples]
    assert [s.id for s in first.samples] == [s.id for s in other.samples]


def test_shares(hospital):
    data = load(hospital, val_fraction=0.2, test_fraction=0.2)
    assert Counter(sample.split for sample in data.samples) == {"train": 24, "val": 8, "test": 8}
    with pytest.raises(ConfigError, match="together must be below 1"):
        load(hospital, val_fraction=0.6, test_fraction=0.5)


# --- small diseases


def test_small_diseases_are_left_out_and_counted(write, packet):
    packets = [packet(f"PMID_{i}_a", f"OMIM:90000{1 + i % 2}") for i in range(8)]
    packets += [packet("PMID_50_a", "OMIM:900003")]  # one patient
    packets += [packet(f"PMID_60_{who}", "OMIM:900004") for who in "abc"]  # three in one publication
    store = write(*packets)
    data = load(store)
    assert data.labels.names == ("Alphan syndrome", "Betan syndrome")
    assert data.facts["diseases left out, too few patients or groups"] == 2
    assert data.facts["patients left out with them"] == 4
    assert {name: count for name, count in data.facts.items() if name.startswith("left out:")} == {
        "left out: 'Gamman disease', patients where 2 are needed": 1,
        "left out: 'Deltan dysplasia', groups where 2 are needed": 1,
    }
    assert data.facts["diseases"] == 2
    assert len(load(store, min_groups=1).labels) == 3
    assert len(load(store, min_patients=1, min_groups=1).labels) == 4


def test_a_disease_with_one_patient_each_is_a_clear_sentence(write, packet):
    store = write(*(packet(f"PMID_{i}_a", f"OMIM:90000{i}") for i in (1, 2, 3)))
    with pytest.raises(DataError) as caught:
        load(store)
    assert str(caught.value) == (
        "No disease has at least 2 patients in 2 groups (at most 1 in 1 here), so none can be both trained and tested "
        "on; add patients, or lower task.min_patients and task.min_groups."
    )


def test_one_disease_alone_cannot_be_ranked(write, packet):
    with pytest.raises(DataError, match="know one label only, 'Alphan syndrome'"):
        load(write(*(packet(f"PMID_{i}_a") for i in range(4))))


# --- the most published diseases, and no more patients than needed


def test_the_diseases_with_the_most_groups_are_kept(write, packet):
    packets = [packet(f"PMID_{i}_{who}", "OMIM:900001") for i in range(2) for who in "abcdef"]  # 12 in 2
    packets += [packet(f"PMID_1{i}_a", "OMIM:900002") for i in range(4)]  # 4 in 4
    packets += [packet(f"PMID_2{i}_{who}", "OMIM:900003") for i in range(4) for who in "ab"]  # 8 in 4
    packets += [packet(f"PMID_3{i}_a", "OMIM:900004") for i in range(5)]  # 5 in 5
    store = write(*packets)
    assert load(store, most_groups=2).labels.names == ("Deltan dysplasia", "Gamman disease")
    data = load(store, most_groups=3)
    assert set(data.labels.names) == {"Betan syndrome", "Deltan dysplasia", "Gamman disease"}
    assert data.facts["diseases left out, others have more groups"] == 1


def test_a_disease_keeps_one_patient_of_each_group_before_a_second_one(write, packet):
    packets = [packet(f"PMID_1_{who}", "OMIM:900001") for who in "abcdefgh"]
    packets += [packet(f"PMID_{i}_{who}", "OMIM:900001") for i in (2, 3) for who in "ab"]
    packets += [packet(f"PMID_1{i}_a", "OMIM:900002") for i in range(3)]
    store = write(*packets)
    drawn = set()
    for seed in range(4):
        data = load(store, max_patients=5, sample_seed=seed)
        of_first = sorted(s.id for s in data.samples if s.label == "Alphan syndrome")
        spread = Counter(name.split("_")[1] for name in of_first)
        assert sorted(spread.values()) == [1, 2, 2]
        assert sum(s.label == "Betan syndrome" for s in data.samples) == 3
        assert data.facts["patients left out, their disease has enough"] == 7
        drawn.add(tuple(of_first))
    assert len(drawn) > 1


# --- unseen diseases


def test_unseen_diseases_are_test_as_a_whole(hospital):
    drawn = set()
    for seed in range(6):
        data = load(hospital, unseen=2, sample_seed=seed)
        by_label = sides(data.samples, lambda s: s.label)
        unseen = {label for label, splits in by_label.items() if splits == {"test"}}
        assert len(unseen) == 2
        assert len(data.labels) == 4  # they stay in the label space
        assert data.facts["diseases held out as unseen"] == 2
        drawn.add(frozenset(unseen))
    assert len(drawn) > 1


def test_whoever_shares_a_publication_with_an_unseen_disease_is_test_too(write, packet):
    packets = [packet(f"PMID_{i}_{who}", f"OMIM:90000{k}") for i in range(6) for k, who in enumerate("abc", 1)]
    packets += [packet(f"PMID_{i}{k}_d", f"OMIM:90000{k}") for i in (7, 8, 9) for k in (1, 2, 3)]
    data = load(write(*packets), unseen=1)
    shared = [sample for sample in data.samples if len(sample.id.split("_")[1]) == 1]
    assert {sample.split for sample in shared} == {"test"}
    assert {sample.split for sample in data.samples} == {"train", "test"}


def test_unlabelled_patients_that_go_with_an_unseen_disease_are_counted(tmp_path):
    rows = [f"text {i},{'ABCDE'[i % 5] if i < 50 else ''},{i % 5 + 5 * (i // 5 % 2)}" for i in range(60)]
    path = tmp_path / "notes.csv"
    path.write_text("text,label,publication\n" + "\n".join(rows))
    data = RareDisease(RareDisease.Config(source="csv", data=path, unseen=1)).load()
    lost = data.facts["left out, no disease and one group with an unseen disease"]
    assert lost == 60 - len(data.samples) == 2


@pytest.mark.parametrize("count", [3, 4, 99])
def test_too_many_unseen_diseases(hospital, count):
    with pytest.raises(ConfigError, match=f"task.unseen = {count} leaves fewer than two of 4 diseases"):
        load(hospital, unseen=count)


def test_unseen_needs_a_split_by_mint(tmp_path):
    path = tmp_path / "n.csv"
    path.write_text(
        "text,label,split\n" + "\n".join(f"t{i},{'ABC'[i % 3]},{'train' if i < 6 else 'test'}" for i in range(9))
    )
    with pytest.raises(ConfigError, match=r"task\.unseen needs mint's own split"):
        RareDisease(RareDisease.Config(source="csv", data=path, unseen=1)).load()


# --- scarce labels


def test_scarce_labels_are_spread_over_the_diseases(hospital):
    full = load(hospital)
    data = load(hospital, labelled=6)
    known = Counter(sample.label for sample in data.split("train") if sample.label)
    assert sum(known.values()) == 6
    assert set(known.values()) == {1, 2}
    assert len(known) == 4
    assert [(s.id, s.split, s.text) for s in data.samples] == [(s.id, s.split, s.text) for s in full.samples]
    assert all(sample.label for sample in data.split("test"))
    assert data.facts["training patients with a label"] == 6
    assert data.facts["training patients whose label was taken"] == len(full.split("train")) - 6
    fewer = {sample.id for sample in load(hospital, labelled=5).split("train") if sample.label}
    assert fewer < {sample.id for sample in data.split("train") if sample.label}  # more labels keep the earlier ones


def test_fewer_labels_than_diseases_are_counted(hospital):
    data = load(hospital, labelled=3)
    assert data.facts["diseases without a labelled training patient"] == 1


def test_more_labels_than_patients(hospital):
    with pytest.raises(ConfigError, match=r"task\.labelled = 99 is more than the 32 training patients"):
        load(hospital, labelled=99)


# --- external data


@pytest.fixture
def elsewhere(write, packet):
    """Another hospital: a known disease, a known id under another name, a new disease, a publication trained on."""
    renamed = packet("PMID_901_a", "OMIM:900002")
    renamed["diseases"][0]["term"]["label"] = "Quite another name"
    new = packet("PMID_902_a", "OMIM:900003")
    new["diseases"][0]["term"] = {"id": "OMIM:777777", "label": "Epsilon disease"}
    named = packet("PMID_903_a", "OMIM:900004")
    named["diseases"][0]["term"]["id"] = "MONDO:1"
    known = [packet(f"PMID_1{paper}_x") for paper in range(5)]
    return write(packet("PMID_900_a"), renamed, new, named, *known, folder="elsewhere")


def test_external_patients_are_test_and_find_their_diseases(hospital, elsewhere):
    data = load(hospital, external=elsewhere)
    others = {sample.id: sample for sample in data.samples if sample.cohort}
    assert {sample.cohort for sample in others.values()} == {"elsewhere"}
    assert {sample.split for sample in others.values()} == {"test"}
    assert others["elsewhere/PMID_901_a"].label == "Betan syndrome"
    assert others["elsewhere/PMID_903_a"].label == "Deltan dysplasia"
    assert others["elsewhere/PMID_902_a"].label == "Epsilon disease"
    assert data.labels.names == (*load(hospital).labels.names, "Epsilon disease")
    assert data.facts["elsewhere: diseases appended to the label space"] == 1
    own = [sample for sample in data.samples if sample.cohort is None]
    assert own == list(load(hospital).samples)


def test_publications_that_were_trained_on_are_left_out_of_external_data(hospital, elsewhere):
    data = load(hospital, external=elsewhere)
    trained = {sample.group for sample in data.split("train")}
    others = [sample for sample in data.samples if sample.cohort]
    assert not {sample.group for sample in others} & trained
    dropped = data.facts["elsewhere: left out, their publication was trained on"]
    assert dropped == sum(f"PMID:1{paper}" in trained for paper in range(5)) > 0
    assert len(others) == 9 - dropped


def test_external_data_of_nobody_new(hospital):
    with pytest.raises(DataError, match="No patient of hospital remains to be tested on"):
        load(hospital, external=hospital, test_fraction=0, val_fraction=0.2)


def test_texts_that_were_trained_on_are_left_out_of_external_data(tmp_path):
    """The same patients, without the publications that would tell."""
    rows = [f"n{i},A girl of {i} years.,{'AB'[i % 2]}" for i in range(20)]
    path, again = tmp_path / "notes.csv", tmp_path / "again.csv"
    path.write_text("id,text,label,publication\n" + "\n".join(f"{row},{i}" for i, row in enumerate(rows)))
    again.write_text("id,text,label\n" + "\n".join([*rows, "n20,A boy of 1 year.,A"]).replace("n", "m"))
    data = RareDisease(RareDisease.Config(source="csv", data=path, external=again)).load()
    trained = {sample.text for sample in data.split("train")}
    others = {sample.text for sample in data.samples if sample.cohort}
    assert not others & trained
    assert "A boy of 1 year." in others
    assert data.facts["again: left out, their text was trained on"] == len(trained) == 16


def test_equal_facts_are_one_patient_under_one_id_only(hospital, write, packet):
    unpublished = {"metaData": {"phenopacketSchemaVersion": "2.0"}}
    own = write(
        *(packet(f"own_{k}{i}", f"OMIM:90000{k}", **unpublished) for k in (1, 2) for i in range(10)), folder="own"
    )
    other = write(*(packet(f"own_1{i}", **unpublished) for i in range(20)), folder="other")
    data = load(own, external=other)
    trained = {sample.id for sample in data.split("train")}
    others = {sample.id for sample in data.samples if sample.cohort}
    assert others == {f"other/own_1{i}" for i in range(20) if f"own_1{i}" not in trained}
    with pytest.raises(DataError, match="No patient of own remains to be tested on: all were trained on"):
        load(own, external=own, test_fraction=0, val_fraction=0.2)


def test_external_data_may_have_another_source_and_a_name(hospital, tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("id,text,label\nPMID_10_a,short boy,alphan SYNDROME\nn2,tall girl,New disease\n")
    data = load(hospital, external=path, external_source="csv", external_name="clinic")
    others = [sample for sample in data.samples if sample.cohort]
    assert [(s.id, s.label, s.group) for s in others] == [
        ("clinic/PMID_10_a", "Alphan syndrome", "clinic/PMID_10_a"),
        ("clinic/n2", "New disease", "clinic/n2"),
    ]
    assert "external: notes at notes.csv" in data.source


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_the_contract_holds_with_external_data(check, hospital, elsewhere):
    check(
        RareDisease(RareDisease.Config(source="phenopackets", data=hospital, external=elsewhere, unseen=1, labelled=8))
    )


def test_the_simulated_cohort_takes_external_patients(tmp_path):
    options = {"diseases": 10, "train_per_label": 2, "test_per_label": 1}
    drawn = RareDisease(RareDisease.Config(**options)).load()
    path = tmp_path / "notes.csv"
    path.write_text(f'id,text,label\na,tall,"{drawn.labels.names[3].upper()}"\nb,small,Brand new disease\n')
    data = RareDisease(RareDisease.Config(**options, external=path, external_source="csv")).load()
    assert [s.label for s in data.samples if s.cohort] == [drawn.labels.names[3], "Brand new disease"]
    assert data.simulated
    assert RareDisease(RareDisease.Config(**options, external=path)).load().samples == data.samples  # it is recognised
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=r"name it with --set task\.external_source"):
        RareDisease(RareDisease.Config(**options, external=path)).load()
