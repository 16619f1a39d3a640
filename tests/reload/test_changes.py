"""Which changes restart the server: how files are saved, which ones, and how often."""

from __future__ import annotations

import shutil

import pytest

from tests.reload.conftest import LONG, Project
from tests.support.flavour import rsgi_only

pytestmark = [rsgi_only("watches files in other ways"), pytest.mark.timeout(180)]


def test_every_way_to_save_brings_the_new_code(project: Project) -> None:
    server = project.serve()
    server.wait_for_log(r"Will watch for changes in these directories: \['/.*'\]")
    project.save("in place")
    project.wait_for("in place")
    project.replace("renamed")
    project.wait_for("renamed")
    # vim: the old file is moved away first.
    project.main.rename(project.directory / "main.py~")
    project.save("moved away")
    project.wait_for("moved away")
    assert set(project.changes()) == {"'main.py'"}


def test_saves_of_one_size_within_a_second_are_all_seen(project: Project) -> None:
    """Bytecode knows its source by size and time in whole seconds."""
    project.serve()
    for number in range(10, 16):
        project.save(str(number))
        project.wait_for(str(number))


def test_new_files_and_directories_are_watched(project: Project) -> None:
    project.serve("--reload-include", "*.html")
    package = project.directory / "package" / "inner"
    package.mkdir(parents=True)
    (package / "code.py").write_text("version = 'inner'\n")
    project.main.write_text(
        project.main.read_text().replace('b"first"', "version.encode()")
        + "from package.inner.code import version\n"
    )
    project.wait_for("inner")
    (package / "code.py").write_text("version = 'changed'\n")
    project.wait_for("changed")
    (package / "page.html").write_text("hello")
    project.server.wait_for_log(r"detected changes in 'package/inner/page.html'", deadline=LONG)


def test_what_nobody_edits_is_not_watched(project: Project) -> None:
    (project.directory / ".git").mkdir()
    (project.directory / ".gitignore").write_text("build/\n")
    dull = ["build", "node_modules/x", ".venv/lib", "__pycache__", "mine/lib", "data", ".cache"]
    for name in dull:
        (project.directory / name).mkdir(parents=True)
    (project.directory / "mine" / "pyvenv.cfg").touch()
    server = project.serve("--reload-exclude", "data", "--reload-exclude", "test_*")
    for name in dull:
        (project.directory / name / "code.py").write_text("x = 1\n")
    for name in ("test_main.py", "main.pyc", ".main.py.swp", "notes.txt", "main.py~"):
        (project.directory / name).write_text("x = 1\n")
    project.main.chmod(0o600)
    # What has been noticed before is told before.
    project.save("second")
    project.wait_for("second")
    assert project.changes() == ["'main.py'"]
    assert server.is_running()


def test_hundreds_of_files_are_one_reload(project: Project) -> None:
    files = [project.directory / "package" / f"m{number}.py" for number in range(300)]
    files[0].parent.mkdir()
    for file in files:
        file.write_text("x = 1\n")
    project.serve()
    for file in files:
        file.write_text("x = 2\n")
    project.save("second")
    project.wait_for("second")
    assert len(project.changes()) <= 2, "one, unless the machine paused within it"
    assert "298 more" in project.changes()[0] or len(project.changes()) == 2


def test_a_directory_that_vanishes_and_comes_back_is_watched_again(project: Project) -> None:
    watched = project.directory / "watched"
    watched.mkdir()
    project.serve("--reload-dir", "watched")
    shutil.rmtree(watched)
    watched.mkdir()
    (watched / "code.py").write_text("x = 1\n")
    project.server.wait_for_log("detected changes in 'watched/code.py'", deadline=LONG)
    since = project.server.mark()
    (watched / "code.py").write_text("x = 2\n")
    project.server.wait_for_log("detected changes in 'watched/code.py'", since, LONG)


def test_polling_sees_what_events_would(project: Project) -> None:
    env = {"WATCHFILES_FORCE_POLLING": "true"}
    server = project.serve("--reload-delay", "0.05", env=env)
    server.wait_for_log(r"Looking for changes every 0.05 s")
    for number in range(10, 13):
        project.save(str(number))
        project.wait_for(str(number))
    project.replace("renamed")
    project.wait_for("renamed")
    package = project.directory / "package"
    package.mkdir()
    (package / "code.py").write_text("x = 1\n")
    server.wait_for_log("detected changes in 'package/code.py'", deadline=LONG)


def test_a_directory_that_does_not_exist_is_a_failed_start(project: Project) -> None:
    server = project.serve("--reload-dir", "nowhere", ready=False)
    assert server.wait(LONG) == 3
    assert "--reload-dir: no such directory: `nowhere`" in server.stderr()
