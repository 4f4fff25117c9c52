"""Defects that somebody could build into the store, and the test that must see each of them."""

from dataclasses import dataclass

CUTS = "tests/power/test_power_cuts.py::test_a_power_cut_at_any_moment_is_made_good"
STORE = "tests/test_store.py"
ERRORS = "tests/test_store_errors.py"
LOCK = "tests/test_store_lock.py"
SCAN = "tests/test_store_scan.py"
COMMIT = "tests/test_store_commit.py"
TURNS = "tests/test_store_turns.py"


@dataclass(frozen=True, slots=True)
class Defect:
    """In `file`, below magpie_cli/, `old` becomes `new`; it stands there once. `test` fails."""

    name: str
    file: str
    old: str
    new: str
    test: str


DEFECTS = (
    Defect(
        "a torn tail is accepted",
        "store/scan.py",
        'if not line.endswith(b"\\n"):\n        return "a line without its end", ""',
        'if not line.endswith(b"\\n"):\n        return "", "torn"',
        f"{STORE}::test_a_torn_last_line_is_cut_off_and_made_again",
    ),
    Defect(
        "a new file's folder is not synced",
        "store/disk.py",
        "    if not os.fstat(fd).st_size:\n        sync_folder(path.parent)\n",
        "",
        CUTS,
    ),
    Defect(
        "a rename without a sync of the folder",
        "store/disk.py",
        "            os.unlink(new)\n    sync_folder(path.parent)\n",
        "            os.unlink(new)\n",
        CUTS,
    ),
    Defect(
        "new contents are renamed before they are synced",
        "store/disk.py",
        "        os.fsync(fd)\n        os.rename(new, path)\n",
        "        os.rename(new, path)\n",
        CUTS,
    ),
    Defect(
        "new contents are written in place",
        "store/disk.py",
        'new = path.with_name(f"{path.name}.new")',
        "new = path",
        f"{STORE}::test_the_manifest_is_replaced_whole",
    ),
    Defect(
        "the manifest says durable of what is only written",
        "store/files.py",
        "durable_output=self._output.durable,",
        "durable_output=self._output.size,",
        CUTS,
    ),
    Defect(
        "an id hashes the position",
        "ids.py",
        "    canonical = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)\n",
        "    canonical = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)\n"
        '    content_id.__dict__["n"] = content_id.__dict__.get("n", 0) + 1\n'
        '    canonical += str(content_id.__dict__["n"]).encode()\n',
        "tests/test_ids.py",
    ),
    Defect(
        "the lock is on a side file",
        "store/append_file.py",
        "fcntl.flock(self.fd, ",
        'fcntl.flock(os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR), ',
        LOCK,
    ),
    Defect(
        "a failed append is not cut back",
        "store/append_file.py",
        "            self._cut_back(error)\n",
        "",
        ERRORS,
    ),
    Defect(
        "a failed sync is tried again",
        "store/append_file.py",
        "            disk.sync(self.fd)\n        except OSError as error:\n"
        "            self._error = error\n            raise",
        "            disk.sync(self.fd)\n        except OSError:\n            raise",
        CUTS,
    ),
    Defect(
        "what a broken disk did not take is not written anew",
        "store/files.py",
        "rewrite=self._output.is_broken or self._failures.is_broken",
        "rewrite=False",
        CUTS,
    ),
    Defect(
        "a sync that fails after the last write is not noted",
        "store/files.py",
        "            if self._noted().rewrite:  # a sync beside the run may have failed unheard\n"
        "                self._note()\n            else:\n",
        "            if not self._output.is_broken:\n",
        f"{ERRORS}::test_a_sync_that_fails_unheard_is_noted",
    ),
    Defect(
        "a second line of an id is a row",
        "store/scan.py",
        "found.ids.add(id_) if stays else id_ not in found.ids and behind.add(id_)",
        "(found.ids.add(id_), behind.add(id_))",
        SCAN,
    ),
    Defect(
        "what repair takes out is not kept",
        "store/mend.py",
        "        keep(file, paths, bad.start, bad.end)\n",
        "        pass\n",
        f"{STORE}::test_a_torn_last_line_is_cut_off_and_made_again",
    ),
    Defect(
        "quarantine is not synced",
        "store/mend.py",
        'disk.replace(kept, [before, file.read(start, end), b"\\n"])',
        'kept.write_bytes(before + file.read(start, end) + b"\\n")',
        CUTS,
    ),
    Defect(
        "quarantine forgets what was there",
        "store/mend.py",
        'before = kept.read_bytes() if kept.exists() else b""',
        'before = b""',
        f"{STORE}::test_two_tears_at_the_same_place_are_both_kept",
    ),
    Defect(
        "rows behind a hole are dropped",
        "store/mend.py",
        "    if found.behind:\n",
        "    if not found.bad and found.behind:\n",
        f"{STORE}::test_a_hole_above_what_is_durable_is_taken_out",
    ),
    Defect(
        "the tail is removed before it is synced",
        "store/mend.py",
        "        file.sync()\n        disk.remove(tail)\n    file.sync()",
        "        disk.remove(tail)\n    file.sync()",
        CUTS,
    ),
    Defect(
        "a tail that a crash left is written over",
        "store/mend.py",
        "chain(lines_of(tail), behind)",
        "behind",
        SCAN,
    ),
    Defect(
        "the turn log has no checksum",
        "store/turn_log.py",
        'if not body or crc != b"%08x" % zlib.crc32(body):',
        'if not body.endswith(b"}\\n"):',
        f"{TURNS}::test_a_damaged_line_ends_what_is_known",
    ),
    Defect(
        "utterances of another pair are gone on with",
        "store/turn_log.py",
        "if found is None or found.of != of:",
        "if found is None:",
        TURNS,
    ),
    Defect(
        "what utterances took is forgotten",
        "store/turn_log.py",
        'Usage(**row["usage"])',
        "Usage()",
        TURNS,
    ),
    Defect(
        "utterances go before the row is durable",
        "store/files.py",
        "                self._output.sync()\n                self._failures.sync()\n"
        "                self._turns.write_anew()",
        "                self._turns.write_anew()",
        CUTS,
    ),
    Defect(
        "the first failure of an id wins",
        "store/failures.py",
        "if not once.add(id_)}",
        "if once.add(id_)}",
        SCAN,
    ),
    Defect(
        "failures that were passed over are dropped",
        "store/files.py",
        "return id_ not in passed_over if self._same_input else id_ in tried",
        "return True if self._same_input else id_ in tried",
        SCAN,
    ),
    Defect(
        "--fsync always returns before the sync",
        "store/commit.py",
        "await asyncio.shield(self._after_this())",
        "self._after_this()",
        COMMIT,
    ),
    Defect(
        "a sync that had begun before counts",
        "store/commit.py",
        "await asyncio.shield(self._after_this())",
        "await asyncio.shield(self._running or self._after_this())",
        COMMIT,
    ),
    Defect(
        "what is durable is not compared with the size",
        "store/scan.py",
        'return durable if file.read(1) == b"\\n" else 0',
        "return durable",
        SCAN,
    ),
    Defect(
        "settings are compared without the seed",
        "store/manifest.py",
        "keys = sorted(self.identity.keys() | identity.keys())",
        'keys = sorted((self.identity.keys() | identity.keys()) - {"seed"})',
        SCAN,
    ),
    Defect(
        "--fresh deletes",
        "store/paths.py",
        'disk.rename(path, Path(f"{path}.{number}"))',
        'disk.rename(path, Path(f"{path}.{number}")) if path.is_dir() else disk.remove(path)',
        STORE,
    ),
    Defect(
        "a row is taken for a file that has been replaced",
        "store/files.py",
        "if not self._output.is_still_there():",
        "if self._output.is_broken:",
        ERRORS,
    ),
    Defect(
        "a finished run's output is not synced",
        "store/files.py",
        "            self._output.sync()\n            self._failures.sync()\n"
        "            if self._failures.is_still_there():",
        "            if self._failures.is_still_there():",
        CUTS,
    ),
)
