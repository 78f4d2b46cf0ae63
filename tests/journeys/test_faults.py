"""What becomes of documents whose worker, reader, disk, database or Redis is struck, at every stage, in every format.

Afterwards none is stuck, every passage is there once and as in a run that nothing disturbed, nothing lies anywhere in the
clear, and what failed says why. Without a flag a pairwise selection is tried; with `--all-faults` every fault meets every
stage in every format, which takes half an hour to an hour.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from documents.reasons import Reason
from tests.documents.specimens import MARKER, Specimen, specimens
from tests.journeys.fault_place import FaultPlace, fault_place

pytestmark = pytest.mark.slow

WORKER, READER, DISK, DATABASE, REDIS, LOST = (
    "worker killed", "reader killed", "disk full", "database restarted", "Redis restarted", "Redis lost",
)  # fmt: skip
FAULTS = (WORKER, READER, DISK, DATABASE, REDIS, LOST)
STAGES = ("receiving", "queued", "reading", "recognising", "read", "embedding", "publishing", "unlocking", "unpacking")
LOCKED = "locked.pdf"


@dataclass(frozen=True)
class Case:
    fault: str
    stage: str
    form: str

    def __str__(self) -> str:
        return f"{self.fault} while {self.stage}, {self.form}"


@dataclass
class Figures:
    cases: int = 0
    stuck: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # ended otherwise than it should
    doubled: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    plaintext: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counts = {name: len(getattr(self, name)) for name in ("stuck", "wrong", "doubled", "missing", "plaintext")}
        return f"fault matrix: {self.cases} cases, " + ", ".join(f"{number} {name}" for name, number in counts.items())


def makes_sense(case: Case, specimen: Specimen) -> bool:
    at_reading = case.stage in ("reading", "recognising", "unpacking")
    if case.stage == "unlocking":
        return case.form == LOCKED and case.fault != READER
    if case.stage == "unpacking" and specimen.family != "archive":
        return False
    if case.stage == "recognising" and specimen.family != "pictures":
        return False
    if specimen.reason and case.stage not in ("receiving", "queued", "reading"):
        return False
    return case.fault != READER or at_reading


def everything(known: dict[str, Specimen]) -> list[Case]:
    found = (Case(fault, stage, form) for stage in STAGES for fault in FAULTS for form in known)
    return [case for case in found if makes_sense(case, known[case.form])]


def pairs(case: Case, known: dict[str, Specimen]) -> set[tuple[str, ...]]:
    """What a case tries together; and its format."""
    family = known[case.form].family
    return {(case.fault, case.stage), (case.fault, family), (case.stage, family), (case.form,)}


def selection(known: dict[str, Specimen]) -> list[Case]:
    """Few cases in which every two of a fault, a stage and a family of formats meet, and every format is struck."""
    possible = {case: pairs(case, known) for case in everything(known)}
    left = set().union(*possible.values())
    chosen: list[Case] = []
    while left:
        chosen.append(max(possible, key=lambda case: len(possible[case] & left)))
        left -= possible[chosen[-1]]
    return chosen


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[FaultPlace]:
    with fault_place(megabytes=1500 if request.config.getoption("--all-faults") else 500) as made:
        yield made


def test_whatever_is_struck_when(place: FaultPlace, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    known = specimens()
    cases = everything(known) if request.config.getoption("--all-faults") else selection(known)
    if not place.has_small_disk:
        cases = [case for case in cases if case.fault != DISK]
    matrix = Matrix(place, known)
    began = time.monotonic()
    for case in cases:
        matrix.strike(case)
        if request.config.getoption("--all-faults") or request.config.option.verbose > 0:
            with capsys.disabled():
                print(f"{time.monotonic() - began:6.0f} s {case}: {matrix.last}", flush=True)
    figures = matrix.finish()
    with capsys.disabled():
        print(f"\n{figures}; workers that ended by themselves: {place.workers_lost}; {time.monotonic() - began:.0f} s")
        if not place.has_small_disk:
            print("disk full was left out: mounting a small disk is not permitted here")
    found = [*figures.stuck, *figures.wrong, *figures.doubled, *figures.missing, *figures.plaintext]
    assert not found, "\n".join([*found, place.log()])
    assert place.workers_lost == 0, place.log()


class Matrix:
    def __init__(self, place: FaultPlace, known: dict[str, Specimen]) -> None:
        self.place, self.known, self.figures = place, known, Figures()
        words = [MARKER.encode(), MARKER.encode("utf-16-le")]
        middles = [each.content[len(each.content) // 2 :][:40] for each in known.values()]
        self.needles = words + [middle for middle in middles if len(set(middle)) > 8]
        self.undisturbed = self._undisturbed()
        self.ended: dict[UUID, Case] = {}
        self.last = ""

    def _undisturbed(self) -> dict[str, dict[str, object]]:
        ids, process = self.place.receive(*self.known)
        assert self.place.wait_ended(process) == 0, self.place.log()
        assert self.place.wait_until_final(ids), self.place.log()
        seen = self.place.answer(self.place.fork("look", ids=list(map(str, ids))))
        found = {form: seen[str(pk)] for form, pk in zip(self.known, ids, strict=True)}
        for form, each in found.items():
            assert each["reason"] == self.known[form].reason, (form, each)
            assert each["state"] == ("failed" if self.known[form].reason else "ready"), (form, each)
            assert each["state"] != "ready" or each["passages"], form
        locked, process = self.place.receive(LOCKED)
        self.place.wait_ended(process)
        self._unlocked(locked[0])
        found["unlocked"] = self.place.answer(self.place.fork("look", ids=[str(locked[0])]))[str(locked[0])]
        return found

    def _unlocked(self, pk: UUID) -> None:
        assert self.place.wait_until_final([pk])
        self.place.wait_ended(self.place.fork("unlock", pk=str(pk)))
        assert self.place.wait_until_final([pk])

    # -- one case

    def strike(self, case: Case) -> None:
        place = self.place
        self.figures.cases += 1
        place.keep_worker()
        try:
            if case.stage == "unlocking":
                (pk,), process = place.receive(LOCKED)
                place.wait_ended(process)
                assert place.wait_until_final([pk])
                place.stop_at(case.stage)
                process = place.fork("unlock", pk=str(pk))
            elif case.fault == DISK and case.stage == "receiving":  # here the disk matters before the row does
                place.fill_disk()
                (pk,), process = place.receive(case.form)
                place.wait_ended(process)
                self._look_for_plaintext(case)
                place.free_disk()
                self._ended(case, pk, gone=True)
                return
            else:
                place.stop_at(case.stage)
                (pk,), process = place.receive(case.form)
            place.wait_until_reached(case.stage)
            self._look_for_plaintext(case)
            self._hit(case, process)
            place.go()
            if case.stage in ("receiving", "unlocking"):
                place.wait_ended(process)
            elif case.fault in (DISK, REDIS):  # it meets the fault, and is left alone with it
                place.wait_until_left()
            self._repair(case)
            place.keep_worker()
            if case.stage == "unlocking":
                assert place.wait_until_final([pk])
                if place.states([pk])[pk] == ("failed", Reason.ENCRYPTED):  # it was not taken: they type it again
                    self._unlocked(pk)
            self._ended(case, pk, gone=case.stage == "receiving" and case.fault in (WORKER, DATABASE))
        except TimeoutError as error:
            self.figures.stuck.append(f"{case}: {error}")
            self.last = str(error)
            place.go()
            self._repair(case)

    def _hit(self, case: Case, process: int) -> None:
        place = self.place
        match case.fault:
            case "worker killed" if case.stage in ("receiving", "unlocking"):
                place.kill(process)
            case "worker killed":
                place.kill(place.worker)
            case "reader killed":
                place.kill_reader()
            case "disk full":
                place.fill_disk()
            case "database restarted":
                place.restart_database()
            case "Redis restarted":
                place.stop_redis()
            case "Redis lost":
                place.lose_redis()

    def _repair(self, case: Case) -> None:
        if case.fault == DISK:
            self.place.free_disk()
        if case.fault == REDIS:
            self.place.redis_server.start()

    def _ended(self, case: Case, pk: UUID, *, gone: bool) -> None:
        """`gone`: it was not taken, which whoever put it in has been told."""
        self.ended[pk] = case
        if not self.place.wait_until_final([pk]):
            self.figures.stuck.append(f"{case}: {self.place.states([pk])}")
        state = self.place.states([pk]).get(pk)
        wanted = {None} if gone else {self._wanted(case)}
        self.last = str(state)
        if state not in wanted:
            self.figures.wrong.append(f"{case}: {state}")

    def _wanted(self, case: Case) -> tuple[str, str]:
        reason = "" if case.stage == "unlocking" else self.known[case.form].reason
        return ("failed", reason) if reason else ("ready", "")

    def _look_for_plaintext(self, case: Case) -> None:
        """Where a process could have put it a moment ago; what databases and logs keep is looked through at the end."""
        places = (self.place.home / "var" / "files", self.place.temporary, Path("/dev/shm"))
        self.figures.plaintext += [f"{case}: {path}" for path in self.place.files_with(self.needles, *places)]

    # -- all of them

    def finish(self) -> Figures:
        self._compare()
        place, figures = self.place, self.figures
        control = place.temporary / "control"
        control.write_bytes(self.needles[-1])
        found = place.files_with(self.needles, place.home, place.bus)
        assert control in found, "what is in the clear would not be found"
        figures.plaintext += [str(path) for path in found - {control}]
        known = {name for (name,) in place.query("SELECT stored_name FROM documents_document")}
        stray = {path.name for path in (place.home / "var" / "files" / place.tenant.hex).glob("??/*")} - known
        whole = {name for name in stray if not name.endswith(".part")}
        cut_off = sum(case.stage == "receiving" and case.fault in (WORKER, DATABASE) for case in self.ended.values())
        if len(whole) > cut_off:  # ciphertext whose row was never committed, which the sweeper takes after hours
            figures.wrong.append(f"{len(whole)} files without a row, {cut_off} uploads cut off")
        return figures

    def _compare(self) -> None:
        ids = list(self.ended)
        for start in range(0, len(ids), 50):
            some = [str(pk) for pk in ids[start : start + 50]]
            for pk, seen in self.place.answer(self.place.fork("look", ids=some)).items():
                case = self.ended[UUID(pk)]
                self._compared(case, seen, self.undisturbed["unlocked" if case.stage == "unlocking" else case.form])

    def _compared(self, case: Case, seen: dict, wanted: dict) -> None:
        for name in ("passages", "entries", "pages", "files"):
            have, want = Counter(map(str, seen[name])), Counter(map(str, wanted[name]))
            if more := have - want:
                self.figures.doubled.append(f"{case}: {name} {sorted(more)}")
            if less := want - have:
                self.figures.missing.append(f"{case}: {name} {sorted(less)}")
        for name in ("entries_at_all", "terms", "counted"):
            if seen[name] != wanted[name]:
                self.figures.wrong.append(f"{case}: {name} {seen[name]} instead of {wanted[name]}")
