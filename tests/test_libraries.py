"""What the libraries say while mint works, and that they speak again afterwards."""

import io
import logging
import os
import subprocess
import sys
import threading
import warnings

import pytest
from tqdm.auto import tqdm

from mint_core.libraries import quiet_libraries

LIBRARIES = ("transformers", "peft", "datasets", "torch", "accelerate", "huggingface_hub")


def bar() -> str:
    stream = io.StringIO()
    for _ in tqdm(range(3), file=stream):
        pass
    return stream.getvalue()


def warn(module: str) -> None:
    warnings.warn_explicit("advice", UserWarning, "file.py", 1, module=module, registry={})


def test_bars_warnings_and_log_lines_wait_until_mint_is_done(caplog) -> None:
    import transformers

    environment = dict(os.environ)
    transformers.logging.set_verbosity_info()
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            with quiet_libraries(), quiet_libraries():
                assert bar() == ""
                for library in LIBRARIES:
                    assert not logging.getLogger(f"{library}.part").isEnabledFor(logging.WARNING)
                    assert logging.getLogger(f"{library}.part").isEnabledFor(logging.ERROR)
                    warn(f"{library}.part")
                warn("mint_core.tables")  # mint's own are heard
            assert [one.message.args[0] for one in heard] == ["advice"]
            warn("transformers.part")
            assert len(heard) == 2
        assert "3/3" in bar()
        assert transformers.logging.get_verbosity() == logging.INFO
        assert dict(os.environ) == environment
    finally:
        transformers.logging.set_verbosity_warning()


def test_an_error_or_another_thread_leaves_nothing_behind() -> None:
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with quiet_libraries():
            inside.set()
            done.wait(5)

    thread = threading.Thread(target=other)
    with pytest.raises(ZeroDivisionError), quiet_libraries():
        thread.start()
        inside.wait(5)
        raise ZeroDivisionError
    assert bar() == ""  # the other one is at work
    done.set()
    thread.join()
    assert "3/3" in bar()


def test_libraries_that_are_imported_meanwhile_are_as_the_user_wants_them_afterwards() -> None:
    code = """
import logging
from mint_core.libraries import quiet_libraries
with quiet_libraries():
    from transformers.utils import logging as told
    assert told.get_verbosity() == logging.ERROR
assert told.get_verbosity() == LEVEL and told.is_progress_bar_enabled(), told.get_verbosity()
"""
    for level, own in (("logging.WARNING", {}), ("logging.ERROR", {"TRANSFORMERS_VERBOSITY": "error"})):
        environment = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"} | own
        subprocess.run([sys.executable, "-c", code.replace("LEVEL", level)], env=environment, check=True)
