"""What a power cut may leave, and whether the next run makes it whole: I5, and I1 to I4 with it.

recording.py   a disk that remembers each change, and what of it was synced when
cuts.py        what may be on that disk after the power went
work.py        outcomes that are the same in every run, and one run of the store over them
simulator.py   runs, cuts, runs again, and compares
world.py       an output that runs, crashes and strangers work on, for test_store_machine.py
__main__.py    python -m tests.power --states 1000000, or --stories 1000
seeded.py      defects that somebody could build into the store
defects.py     python -m tests.power.defects: whether the tests see each of them
"""
