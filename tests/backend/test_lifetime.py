"""Is everything given back, whoever held it, and do threads, forks and copies see one machine each?"""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.guards import CheckFunctionManager

from acalsim_backend import AcalsimError, simulate
from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.errors import CapacityError, UsageError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.locks import Rank, make_lock
from acalsim_backend.models.basic import Mlp
from acalsim_backend.run.session import open_sessions


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    gc.collect()
    torch.manual_seed(0)


def backend(**options: Any) -> ACALSimBackend:
    return ACALSimBackend(mode="simulate", **options)


def drop_compiled() -> None:
    torch._dynamo.reset()
    gc.collect()


# --- what is given back ---


def test_does_simulate_leave_no_session() -> None:
    before = len(open_sessions())
    for _ in range(12):  # more than PyTorch's recompile limit
        outputs, report = simulate(Mlp(), torch.randn(4, 16))
        assert outputs.shape == (4, 10)
        assert (report.cycles.total or 0) > 0
    assert len(open_sessions()) == before


def test_does_one_model_simulate_more_often_than_the_recompile_limit() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    totals = {simulate(model, x)[1].cycles.total for _ in range(10)}
    assert len(totals) == 1


def test_does_a_failing_simulation_leave_no_session() -> None:
    before = len(open_sessions())
    with pytest.raises(AcalsimError):
        simulate(_Sparse(), (torch.eye(3).to_sparse(),), fallback="error")
    assert len(open_sessions()) == before


class _Sparse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(x, torch.ones(3, 3))


def test_do_dead_models_give_back_program_memory_and_weights() -> None:
    b, x = backend(), torch.randn(2, 64)
    free = b.session._heap.free_bytes
    with torch.no_grad():
        for width in (32, 48, 64):
            model = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width)).eval()
            torch.compile(model, backend=b)(x)
            del model
            drop_compiled()
    assert len(b.programs) == 0
    assert len(b.session._programs) == 0
    b.session.reclaim()
    arena = b.session._arena.nbytes if b.session._arena else 0
    assert free - b.session._heap.free_bytes <= arena + 64


def test_does_a_dropped_backend_give_back_its_ram() -> None:
    b = backend()
    ram = weakref.ref(b.session.ram)
    with torch.no_grad():
        torch.compile(Mlp(), backend=b)(torch.randn(4, 16))
    del b
    drop_compiled()
    assert ram() is None


def test_is_room_made_for_new_weights_when_memory_is_full_of_dead_ones() -> None:
    b = backend(hardware=_small(72))  # 8 MiB for weights and Programs
    with torch.no_grad():
        for _ in range(8):
            model = nn.Linear(1024, 1024, bias=False)  # 4 MiB
            torch.testing.assert_close(
                torch.compile(model, backend=b)(torch.eye(4, 1024)), model(torch.eye(4, 1024)), rtol=1e-4, atol=1e-5
            )
            del model
            torch._dynamo.reset()


def test_does_memory_that_is_really_full_still_say_so() -> None:
    b = backend(hardware=_small(72))
    models = [nn.Linear(1024, 1024, bias=False) for _ in range(3)]
    compiled = [torch.compile(model, backend=b) for model in models]
    with torch.no_grad():
        compiled[0](torch.eye(4, 1024))
        with pytest.raises(CapacityError, match=r"set dram.size_mib to \d+ or more"):
            compiled[1](torch.eye(4, 1024))


def _small(size_mib: int) -> HardwareConfig:
    return HardwareConfig.load("edge").override({"dram.size_mib": str(size_mib)})


def test_are_reports_kept_within_their_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acalsim_backend.report.history.REPORT_BYTES", 10 << 10)
    b, x, model = backend(), torch.randn(4, 16), Mlp()
    compiled = torch.compile(model, backend=b)
    with torch.no_grad():
        for _ in range(20):
            compiled(x)
    assert 1 <= len(b.reports) < 10


def test_do_names_never_collide_after_shapes_were_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acalsim_backend.backend.PROGRAM_CACHE_BYTES", 0)
    b = backend()
    compiled = torch.compile(Mlp(), backend=b, dynamic=True)
    with torch.no_grad():
        for batch in (3, 5, 7, 3, 5):
            compiled(torch.randn(batch, 16))
    names = [r.model for r in b.reports]
    assert len(set(names)) == len(names)


def test_does_a_closed_session_say_so() -> None:
    b = backend()
    compiled = torch.compile(Mlp(), backend=b)
    with torch.no_grad():
        compiled(torch.randn(4, 16))
        b.close()
        b.close()
        with pytest.raises(UsageError, match="was closed; open another one"):
            compiled(torch.randn(4, 16))


def test_does_a_session_end_with_its_block() -> None:
    from acalsim_backend.run.session import Session

    with Session(HardwareConfig()) as session:
        block = session.allocate(64)
    with pytest.raises(UsageError, match="was closed"):
        session.allocate(64)
    del block


# --- one backend for equal options ---


def test_is_an_edited_hardware_file_seen(tmp_path: Path) -> None:
    file = tmp_path / "chip.toml"
    model, x = Mlp(), torch.randn(4, 16)
    cycles = []
    for rows in (8, 64):
        file.write_text(f'schema = 1\nname = "chip"\nbase = "edge"\n[array]\nrows = {rows}\n')
        torch._dynamo.reset()
        with torch.no_grad():
            torch.compile(model, backend="acalsim", options={"hardware": str(file)})(x)
        cycles.append(ACALSimBackend.shared(options={"hardware": str(file)}).reports[-1].cycles.total)
    assert cycles[0] != cycles[1]


def test_are_shared_backends_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acalsim_backend.backend._SHARED_BACKENDS", 2)
    backends = [ACALSimBackend.shared(options={"hardware": _small(size)}) for size in (70, 71, 72)]
    assert ACALSimBackend.shared(options={"hardware": _small(72)}) is backends[2]
    assert ACALSimBackend.shared(options={"hardware": _small(70)}) is not backends[0]


# --- threads, processes, copies ---


@pytest.mark.parametrize(
    ("models", "threads", "calls"),
    [(1, 16, 12), (4, 16, 12), *(pytest.param(n, 32, 200, marks=pytest.mark.slow) for n in (1, 4))],
)
def test_do_threads_get_their_own_results(models: int, threads: int, calls: int) -> None:
    b = backend()
    networks = [Mlp() for _ in range(models)]
    compiled = [torch.compile(n, backend=b) for n in networks]
    wrong: list[object] = []

    def work(i: int) -> None:
        generator = torch.Generator().manual_seed(i)
        try:
            with torch.no_grad():
                for _ in range(calls):
                    x = torch.randn(4, 16, generator=generator)
                    expected = networks[i % models](x)
                    if not torch.allclose(compiled[i % models](x), expected, rtol=1e-4, atol=1e-5):
                        wrong.append(i)
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert len(b.reports) == threads * calls


def test_do_threads_that_make_the_first_call_together_compile_once() -> None:
    b, model, x = backend(), Mlp(), torch.randn(4, 16)
    compiled = torch.compile(model, backend=b)
    start = threading.Barrier(12)

    def work() -> None:
        start.wait()
        with torch.no_grad():
            compiled(x)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(b.get_all_compiled_irs()) == 1
    assert len(b.reports) == 12


def test_does_asyncio_work() -> None:
    b, model, x = backend(), Mlp(), torch.randn(4, 16)
    compiled = torch.compile(model, backend=b)

    def call() -> torch.Tensor:
        with torch.no_grad():
            return compiled(x)

    async def many() -> list[torch.Tensor]:
        return await asyncio.gather(*(asyncio.to_thread(call) for _ in range(6)))

    for got in asyncio.run(many()):
        torch.testing.assert_close(got, model(x), rtol=1e-4, atol=1e-5)


def in_child(function: Callable[[], int]) -> int:
    """Exit code of a forked process that runs ``function``."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = function() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_may_threads_fork_at_once_while_others_make_locks() -> None:
    stop, codes = threading.Event(), []

    def make() -> None:
        while not stop.is_set():
            with make_lock(Rank.SESSION):
                pass

    def fork() -> None:
        for _ in range(20):
            codes.append(in_child(lambda: 0 if make_lock(Rank.TABLE).acquire(timeout=10) else 1))

    makers = [threading.Thread(target=make) for _ in range(2)]
    forkers = [threading.Thread(target=fork) for _ in range(3)]
    for thread in (*makers, *forkers):
        thread.start()
    for thread in forkers:
        thread.join()
    stop.set()
    for thread in makers:
        thread.join()
    assert codes == [0] * 60
    with make_lock(Rank.SESSION):  # nothing is left locked
        assert in_child(lambda: 0) == 0


def test_does_a_forked_process_run_the_model_on_memory_of_its_own() -> None:
    b, model = backend(), Mlp()
    compiled = torch.compile(model, backend=b)
    with torch.no_grad():
        compiled(torch.randn(4, 16))

        def child() -> int:
            x = torch.full((4, 16), 2.0)
            return 0 if torch.allclose(compiled(x), model(x), rtol=1e-4, atol=1e-5) else 2

        with b.session.lock, b.lock:  # as another thread of the parent may hold them
            assert in_child(child) == 0
        x = torch.randn(4, 16)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


class _Simulated(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, compiled: Callable[..., Any]) -> None:
        self.compiled = compiled

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        with torch.no_grad():
            return self.compiled(torch.full((4, 16), float(i)))


def test_do_forked_data_loader_workers_simulate() -> None:
    model = Mlp()
    compiled = torch.compile(model, backend=backend())
    with torch.no_grad():
        compiled(torch.zeros(4, 16))
        loader = torch.utils.data.DataLoader(
            _Simulated(compiled), batch_size=None, num_workers=2, multiprocessing_context="fork"
        )
        for i, got in enumerate(loader):
            torch.testing.assert_close(got, model(torch.full((4, 16), float(i))), rtol=1e-4, atol=1e-5)


def test_does_shared_guest_memory_refuse_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    b = backend()
    monkeypatch.setattr(b.session, "_is_shared", True)

    def child() -> int:
        try:
            b.session.allocate(64)
        except UsageError as error:
            return 0 if "forked" in str(error) else 2
        return 3

    assert in_child(child) == 0
    b.session.allocate(64)


def test_do_copies_of_a_backend_share_its_machine() -> None:
    b = backend()
    assert copy.deepcopy(b) is b
    assert copy.deepcopy({"backend": b})["backend"] is b


def test_does_a_deep_copied_compiled_model_have_weights_of_its_own() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    compiled = torch.compile(model, backend=backend())
    with torch.no_grad():
        compiled(x)
        twin: Any = copy.deepcopy(compiled)
        for parameter in twin.parameters():
            parameter.add_(1)
        torch.testing.assert_close(twin(x), twin._orig_mod(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_does_a_pickled_compiled_model_run_elsewhere() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    compiled = torch.compile(model, backend=backend())
    with torch.no_grad():
        expected = compiled(x)
        twin = pickle.loads(pickle.dumps(compiled))
        assert torch.equal(twin(x), expected)


def test_does_a_pickled_backend_come_back_with_its_arguments() -> None:
    b = backend(hardware="gemm_only", place="cpu")
    twin = pickle.loads(pickle.dumps(b))
    assert (
        repr(twin)
        == repr(b)
        == ("ACALSimBackend(mode='simulate', hardware='gemm_only', machine='unicorn', place='cpu', fallback='warn')")
    )
    assert twin.session is not b.session


def test_does_a_model_keep_nothing_of_its_simulated_calls() -> None:
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()), torch.randn(2, 4)

    def kept() -> int:
        gc.collect()
        return sum(type(o) is CheckFunctionManager for o in gc.get_objects())

    simulate(model, x)
    before = kept()
    for _ in range(3):
        simulate(model, x)
    assert kept() == before
