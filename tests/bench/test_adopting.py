"""What adopting and filling must not take with them."""

from dataclasses import replace

import pytest

from depurate.bench.defences.adopt import adopt
from depurate.bench.defences.record import Job
from depurate.errors import InputError


def adopted(folder, name):
    return adopt(
        name,
        suspect=folder,
        anchor=folder,
        dataset="mnist",
        architecture="lenet",
        attack=None,
        split=None,
        zoo=folder,
        source="",
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/x"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="name"):
        adopted(tmp_path, name)


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        adopted(tmp_path, "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"


def test_records_of_other_numbers_of_images_have_other_files():
    job = Job("m", None, "depurate", 0, 500, 0, "")
    assert job.file != replace(job, images=100).file
