"""Sessions that the tests of this folder share: one per machine and process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_hardware import HARDWARE

from acalsim_backend.run.session import Session


@pytest.fixture(scope="session")
def unicorn() -> Iterator[Session]:
    pytest.importorskip("unicorn", reason="pip install unicorn")
    session = Session(HARDWARE, "unicorn")
    yield session
    session.close()


@pytest.fixture(scope="session")
def native() -> Iterator[Session]:
    session = Session(HARDWARE, "native")
    yield session
    session.close()


@pytest.fixture(params=["unicorn", "native"])
def machine(request: pytest.FixtureRequest) -> Session:
    session: Session = request.getfixturevalue(request.param)
    return session
