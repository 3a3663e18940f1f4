"""Does mint keep its promises when something goes wrong? `make robust` tries it out and prints a table.

Every trial is a real `mint` command in a process of its own, on a toy task and a student of a few thousand weights:

    world.py        where trials happen: student, plugin, configs; what a sound result is
    forks.py        a process that has imported everything once and forks per trial
    file_layer.py   what a trial's files go through: counts points, kills, cuts the power, fills the disk
    kills.py        killed at a rename, write, fsync, mkdir or unlink; power cuts
    disks.py        full disks
    memory.py       too little memory
    corruption.py   damaged files
    fuzzing.py      input that nobody expected
    canaries.py     code, patients' words and keys that must come out nowhere
    table.py        the table

The ordinary suite runs a sample of each (`test_robustness.py`).
"""
