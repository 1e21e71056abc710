"""A unit of work: one run, claimed, trained unless it is stored, read, released."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.datasets.errors import InputError
from gapbench.evaluate import files, memory, tensors
from gapbench.evaluate.claim import Claim, claimed, holder
from gapbench.evaluate.declared import Declared
from gapbench.evaluate.rebuild import rebuilt, rebuilt_second_runs
from gapbench.evaluate.second_runs import SecondRuns
from gapbench.evaluate.store import HISTORY, TEST, TRAJECTORY, WEIGHTS, Store, Stored
from gapbench.models.spec import RunSpec, run_id, twin

if TYPE_CHECKING:
    from gapbench.datasets.spec import Split
    from gapbench.measures.read import Reading
    from gapbench.measures.registry import Registry
    from gapbench.models.build import Architecture

Data = tuple["Split", "Split"]


@dataclass(frozen=True)
class OwnFile:
    """A file of the user's measures or networks, with the digest of its content: an edited file is loaded again."""

    path: str
    digest: str


@dataclass(frozen=True)
class Instructions:
    """What is done with every run of a zoo; it travels to the workers, which load code and data themselves."""

    measures: Mapping[str, Declared]
    measure_files: tuple[OwnFile, ...] = ()
    network_files: tuple[OwnFile, ...] = ()
    trajectory_epochs: tuple[int, ...] = ()
    trajectory_checkpoints: bool = False
    trajectory_stored: bool = False
    retry_failed: bool = False
    reread: bool = False
    data_dir: str | None = None

    def pending(self, readings: Mapping[tuple[str, int], Mapping[str, Any]], second: SecondRuns) -> list[str]:
        """The keys of the measures still to be read on a run with these readings and second runs."""
        return [
            key
            for key, entry in self.measures.items()
            if self._wanted(readings.get((key, entry.revision)), entry, second)
        ]

    def _wanted(self, row: Mapping[str, Any] | None, entry: Declared, second: SecondRuns) -> bool:
        if row is None or (entry.second_runs and row.get("second_runs") != second.key(entry)):
            return True
        if self.retry_failed and row["status"] == "failed":
            return True
        return self.reread and row["digest"] != entry.digest


@dataclass(frozen=True)
class Worked:
    """What became of a unit of work. ``problem``: why the run is not finished; ``busy``: who else is working on it."""

    run: str
    trained: bool = False
    statuses: tuple[str, ...] = ()
    problem: str = ""
    busy: str = ""


def work(store_path: Path, spec: RunSpec, instructions: Instructions, second: SecondRuns) -> Worked:
    """Train a run unless it is stored, read what is pending, and store both; all of it or, if killed, a resumable part.

    A network is read as it was stored, never as training left it in memory, so an interrupted run ends with the same
    bits as an undisturbed one. Measures that need second runs are left pending until all of these are stored.

    Raises: InputError where the spec or the data is wrong; StorageError where the file system refuses.
    """
    store, run = Store(store_path), run_id(spec)
    folder = store.folder(run)
    files.make_folder(folder)
    with claimed(folder, store.path) as claim:
        if claim is None:
            return Worked(run, busy=holder(folder))
        files.remove_temporaries(folder)
        store.write_spec(spec)
        try:
            worked = _Work(store, spec, instructions, second, claim).done()
            if claim.held():
                memory.record(store, run)
            return worked
        except files.Damaged as error:
            return Worked(run, problem=str(error))
        except _ClaimLost:
            return Worked(run, busy="another process, which found this one's claim without a heartbeat")


class _ClaimLost(Exception):
    """This process slept so long that another took its run; nothing may be written any more."""


class _TrainingFailed(Exception):
    """Training raised; the message says what."""


class _Work:
    """The steps of `work` on one claimed run, which share its data and, if it was made, its trajectory."""

    def __init__(
        self, store: Store, spec: RunSpec, instructions: Instructions, second: SecondRuns, claim: Claim
    ) -> None:
        self.store, self.spec, self.instructions, self.second, self.claim = store, spec, instructions, second, claim
        self.run = run_id(spec)

    @functools.cached_property
    def data(self) -> Data:
        return self._load(self.spec)

    @property
    def architectures(self) -> Mapping[str, Architecture]:
        return _architectures(self.instructions.network_files)

    def _load(self, spec: RunSpec) -> Data:
        from gapbench.datasets.load import load

        return load(spec.data, self.instructions.data_dir)

    def done(self) -> Worked:
        stored = self.store.stored(self.run)
        trained, trajectory = False, None
        if stored is None:
            failure = self.store.error(self.run)
            if failure is not None and not self.instructions.retry_failed:
                return Worked(self.run, problem=failure)
            try:
                stored, trajectory = self._train_and_store()
            except _TrainingFailed as error:
                self._check_claim()
                self.store.write_error(self.run, str(error))
                return Worked(self.run, problem=str(error))
            trained = True
        wanted = self.instructions.pending(self.store.readings(self.run), self.second)
        pending = [key for key in wanted if self._second_runs_are_stored(key)]
        if not pending:
            return Worked(self.run, trained)
        try:
            readings = self._read(stored, pending, trajectory)
        except (InputError, _ClaimLost):
            raise
        except Exception as error:  # noqa: BLE001  one run that cannot be read must not stop the others
            return Worked(self.run, trained, problem=f"reading failed: {type(error).__name__}: {error}")
        self._check_claim()
        self.store.append_readings(self.run, readings)
        return Worked(self.run, trained, tuple(reading.status for reading in readings))

    def _second_runs_are_stored(self, key: str) -> bool:
        needed = self.second.needed(self.instructions.measures[key])
        return all(self.store.is_finished(run_id(spec)) for spec in needed)

    def _train_and_store(self) -> tuple[Stored, bytes | None]:
        self.store.log_training(self.run, "start")
        outcome, contents = self._train()
        trajectory = contents.pop(TRAJECTORY, None)
        if trajectory is not None and self.instructions.trajectory_stored:
            contents[TRAJECTORY] = trajectory
        self._check_claim()
        stored = self.store.commit(self.spec, outcome, contents)
        self.store.log_training(self.run, "end")
        return stored, trajectory

    def _train(self) -> tuple[Any, dict[str, bytes]]:
        from gapbench.models.train import train

        data = self.data
        try:
            trained, outcome, results = train(
                self.spec,
                data,
                trajectory_epochs=self.instructions.trajectory_epochs,
                checkpoints=self.instructions.trajectory_checkpoints,
                architectures=self.architectures,
            )
        except InputError:
            raise
        except Exception as error:
            raise _TrainingFailed(f"training failed: {type(error).__name__}: {error}") from error
        if trained.history is None:
            raise _TrainingFailed("training failed: it kept no history")
        contents = {
            WEIGHTS: tensors.weights_content(trained.initial, trained.network.state_dict()),
            HISTORY: tensors.history_content(trained.history),
            TEST: tensors.results_content(results),
        }
        if trained.trajectory is not None:
            contents[TRAJECTORY] = tensors.trajectory_content(trained.trajectory)
        return outcome, contents

    def _read(self, stored: Stored, pending: Sequence[str], trajectory: bytes | None) -> list[Reading]:
        from gapbench.measures.read import read

        registry = _registry(self.instructions.measure_files)
        measures = [registry.measures[key] for key in pending]
        late = {key for key in pending if self.instructions.measures[key].trajectory}
        failure = ""
        kept = self.instructions.trajectory_epochs or self.instructions.trajectory_checkpoints
        if late and kept and trajectory is None:
            trajectory, failure = self._trajectory(stored)
        trained = rebuilt(self.store, stored, self.data[0], trajectory, self.architectures)
        entries = [self.instructions.measures[key] for key in pending]
        roots = {root for entry in entries for root in entry.second_runs}
        beside = rebuilt_second_runs(
            self.store, self.second, roots, self.data[0], lambda spec: self._load(spec)[0], self.architectures
        )
        inputs = self.data[1].inputs if any(entry.uses_unlabelled_test_inputs for entry in entries) else None
        trained = dataclasses.replace(trained, **beside, unlabelled_test_inputs=inputs)
        # Without the label noise in it, the seed is that of the twin too: they share their random numbers.
        seed = _reading_seed(self.spec)
        possible = [entry for entry in measures if not (failure and entry.key in late)]
        readings = {reading.measure: reading for reading in read(possible, registry, trained, seed=seed)}
        return [
            dataclasses.replace(
                readings.get(entry.key) or _failed(entry.key, registry, failure),
                second_runs=self.second.key(self.instructions.measures[entry.key]),
            )
            for entry in measures
        ]

    def _trajectory(self, stored: Stored) -> tuple[bytes | None, str]:
        if TRAJECTORY in stored.digests:
            return self.store.content(stored, TRAJECTORY), ""
        self.store.log_training(self.run, "start")
        try:
            _, contents = self._train()
        except _TrainingFailed as error:
            return None, f"its trajectory was not kept, and training again failed: {error}"
        self.store.log_training(self.run, "end")
        found = files.digest(contents[WEIGHTS])
        if found != stored.digests[WEIGHTS]:
            return None, (
                "its trajectory was not kept, and training again gave other weights "
                f"(SHA-256 {found}, stored {stored.digests[WEIGHTS]}): the machine or a version has changed"
            )
        content = contents.get(TRAJECTORY)
        if content is not None and self.instructions.trajectory_stored:
            self._check_claim()
            self.store.add(stored, TRAJECTORY, content)
        return content, ""

    def _check_claim(self) -> None:
        if not self.claim.held():
            raise _ClaimLost


def _reading_seed(spec: RunSpec) -> int:
    from gapbench.datasets.seeds import derive_seed

    return derive_seed(spec.root_seed, "read", run_id(twin(spec, 0.0)))


@functools.lru_cache(maxsize=1)
def _registry(measure_files: tuple[OwnFile, ...]) -> Registry:
    from gapbench.measures.plugins import load_registry

    return load_registry([Path(file.path) for file in measure_files])


@functools.lru_cache(maxsize=1)
def _architectures(network_files: tuple[OwnFile, ...]) -> Mapping[str, Architecture]:
    from gapbench.models.plugins import load_architectures

    return load_architectures([Path(file.path) for file in network_files])


def own_files(paths: Collection[Path], holds: str) -> tuple[OwnFile, ...]:
    """The user's files, as they are now; ``holds`` says what they hold ("measures"), for the message.

    Raises: InputError where one is missing.
    """
    found = []
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"no such file of {holds}: {path}")
        found.append(OwnFile(str(Path(path).resolve()), files.digest(Path(path).read_bytes())))
    return tuple(found)


def registry_of(paths: Collection[Path]) -> Registry:
    """The registry with these files of measures; loaded once a process as long as they stay as they are."""
    return _registry(own_files(paths, "measures"))


def architectures_of(paths: Collection[Path]) -> Mapping[str, Architecture]:
    """The architectures with these files of networks; loaded once a process as long as they stay as they are."""
    return _architectures(own_files(paths, "networks"))


def _failed(key: str, registry: Registry, reason: str) -> Reading:
    from gapbench.measures.read import Reading

    entry = registry.measures[key]
    return Reading(key, entry.revision, registry.digest(entry), None, None, "failed", reason, 0.0)
