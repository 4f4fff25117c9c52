"""Where the store is broken on purpose: real processes, killed and starved at every point.

    python -m pytest -m crash      the quick round, a part of all tests
    python -m tests.crash          the long round; --help says how to choose

nursery.py   real `magpie` processes, forked from one that has imported everything
calls.py     what stands between disk.py and the system: counts calls, kills, makes errors
scene.py     an input, a command, and what an undisturbed run makes of them
kills.py     part 1: SIGKILL at any moment
points.py    part 2: SIGKILL at every system call of the write path
traced.py    part 2 once more: strace kills the real command
room.py      part 3: full disks
errors.py    part 4: what a failing disk answers
starters.py  part 5: many at once on one output
requests.py  part 6: what a crash costs in requests
"""
